"""Multilayer perceptrons in exact integer arithmetic, which every machine computes alike.

Weights are multiples of 2^-18, activations of 2^-16. Products are taken in float64, which holds every partial sum
exactly, as it is an integer below 2^53: in whatever order a library of linear algebra adds, with however many threads,
the result is the same to the bit.
"""

import hashlib
from typing import Any

import numpy as np

from aevb.compression import tables

ACTIVATION, WEIGHT = 16, 18
OUTPUT = ACTIVATION + WEIGHT
"""Outputs are in units of 2^-34."""

_EXACT = 2.0**53
_INDEX_SHIFT = OUTPUT - tables.TANH_RESOLUTION


class IntegerNetwork:
    """A perceptron of hidden tanh layers and a linear head."""

    def __init__(self, params: Any, largest_input: int, input_unit: int = 1 << ACTIVATION):
        """Round parameters.

        Args:
          params: `Dense_0`, `Dense_1`, ..., each of a kernel and a bias.
          largest_input: the largest absolute value of what goes in, an integer in units of 1 / `input_unit`.
          input_unit: what integer means 1 in what goes in.

        Raises:
          ValueError: a parameter is not finite, or so large that products would not be exact.
        """
        self._layers: list[tuple[np.ndarray, np.ndarray]] = []
        bound, unit = float(largest_input), float(input_unit)
        for number in range(len(params)):
            layer = params[f"Dense_{number}"]
            kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
            kernel, bias = np.round(kernel * (2.0**OUTPUT / unit)), np.round(bias * 2.0**OUTPUT)
            if not np.max(np.sum(np.abs(kernel), axis=0) * bound + np.abs(bias)) < _EXACT:  # NaN among it
                raise ValueError("the model's parameters are not finite, or too large to be computed with in integers")
            self._layers.append((kernel, bias))
            bound = unit = 2.0**ACTIVATION

    def hidden(self, inputs: np.ndarray) -> np.ndarray:
        """Return what the head sees, `[b, H]` float64 whole numbers, from inputs `[b, n]`."""
        values = inputs.astype(np.float64)
        for kernel, bias in self._layers[:-1]:
            values = _tanh(values @ kernel + bias)
        return values

    def head(self, hidden: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """Return outputs, `[b, n]` int64 in units of 2^-34, or some columns of them."""
        kernel, bias = self._layers[-1]
        return (hidden @ kernel[:, columns] + bias[columns]).astype(np.int64)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return outputs `[b, n]` int64 in units of 2^-34 from inputs `[b, n]`."""
        return self.head(self.hidden(inputs))

    def digest(self) -> bytes:
        """Return the SHA-256 of all weights as integers."""
        found = hashlib.sha256()
        for kernel, bias in self._layers:
            found.update(np.array(kernel.shape, "<i8").tobytes())
            found.update(kernel.astype("<i8").tobytes() + bias.astype("<i8").tobytes())
        return found.digest()


def _tanh(values: np.ndarray) -> np.ndarray:
    """Return tanh in units of 2^-16 of whole numbers in units of 2^-34."""
    values *= 2.0**-_INDEX_SHIFT
    values += 0.5
    np.floor(values, out=values)
    limit = tables.TANH_BOUND << tables.TANH_RESOLUTION
    np.clip(values, -limit, limit, out=values)
    return tables.tanh()[values.astype(np.int64) + limit]
