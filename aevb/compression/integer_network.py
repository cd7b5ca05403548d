"""Multilayer perceptrons in exact integer arithmetic, with identical results on every machine.

Weights are multiples of 2^-18, activations of 2^-16. Products are computed in float64, which represents every partial
sum exactly because it is an integer below 2^53. The result is therefore the same to the bit, whatever the order of
summation and the number of threads of the linear algebra library.
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
    """A perceptron with hidden tanh layers and a linear head."""

    def __init__(self, params: Any, largest_input: int, input_unit: int = 1 << ACTIVATION):
        """Round the parameters to integers.

        Args:
          params: `Dense_0`, `Dense_1`, ..., each with a kernel and a bias.
          largest_input: the largest absolute value of the inputs, an integer in units of 1 / `input_unit`.
          input_unit: the integer that represents 1 in the inputs.

        Raises:
          ValueError: a parameter is not finite, or so large that products would not be exact.
        """
        self._layers: list[tuple[np.ndarray, np.ndarray]] = []
        bound, unit = float(largest_input), float(input_unit)
        for number in range(len(params)):
            layer = params[f"Dense_{number}"]
            kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
            kernel, bias = np.round(kernel * (2.0**OUTPUT / unit)), np.round(bias * 2.0**OUTPUT)
            if not np.max(np.sum(np.abs(kernel), axis=0) * bound + np.abs(bias)) < _EXACT:  # also true for NaN
                raise ValueError("the model's parameters are not finite, or too large for exact integer arithmetic")
            self._layers.append((kernel, bias))
            bound = unit = 2.0**ACTIVATION

    def hidden(self, inputs: np.ndarray) -> np.ndarray:
        """Return the inputs of the head, `[b, H]` whole numbers in float64, for inputs `[b, n]`."""
        values = inputs.astype(np.float64)
        for kernel, bias in self._layers[:-1]:
            values = _tanh(values @ kernel + bias)
        return values

    def head(self, hidden: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """Return the outputs, or some of their columns, `[b, n]` int64 in units of 2^-34."""
        kernel, bias = self._layers[-1]
        return (hidden @ kernel[:, columns] + bias[columns]).astype(np.int64)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the outputs `[b, n]`, int64 in units of 2^-34, for inputs `[b, n]`."""
        return self.head(self.hidden(inputs))

    def digest(self) -> bytes:
        """Return the SHA-256 of all weights as integers."""
        found = hashlib.sha256()
        for kernel, bias in self._layers:
            found.update(np.array(kernel.shape, "<i8").tobytes())
            found.update(kernel.astype("<i8").tobytes() + bias.astype("<i8").tobytes())
        return found.digest()


def _tanh(values: np.ndarray) -> np.ndarray:
    """Return the tanh, in units of 2^-16, of whole numbers in units of 2^-34."""
    values *= 2.0**-_INDEX_SHIFT
    values += 0.5
    np.floor(values, out=values)
    limit = tables.TANH_BOUND << tables.TANH_RESOLUTION
    np.clip(values, -limit, limit, out=values)
    return tables.tanh()[values.astype(np.int64) + limit]
