"""Integer distributions of any model, computed by one compiled program per distribution and rounded at the end.

The results of floating-point programs differ in the last bits between batch sizes, compiler versions and kinds of
device. Therefore every batch has the same size here, and a fingerprint identifies the computation: it covers the text
of the programs, the versions of JAX, the device, and the results, to the last bit, for a batch of random numbers. A
file with a different fingerprint is refused.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jaxlib.version
import numpy as np

from aevb.compression import programs, tables
from aevb.compression.coders import NUM_LEVELS, Bernoulli, Block, ByMass, Coder, DiscretizedLogistic, Gaussian
from aevb.compression.dependencies import needed
from aevb.compression.grids import POSITION, Grid, suited
from aevb.compression.probabilities import NUM_DIGEST_BYTES, Grids, Known, Step, X, order
from aevb.compression.programs import Numbers, layout_of, numbers_of, numbers_of_batch
from aevb.compression.rans import random_words
from aevb.model import Model, Params

BATCH = 64
"""The number of datapoints per batch."""


_DEVIATIONS = 6  # standard deviations around a mean that a grid should cover
_BLOCK = 1 << 22  # log-masses in memory at a time
_WIDEST = Grid(8, 6)  # for the means, before the grid is chosen


class CompiledModel:
    """Any model, rounded to integers; see `aevb.compression.probabilities.Probabilities`."""

    def __init__(self, params: Params, model: Model):
        """Inspect a model and compile its programs.

        Raises:
          ValueError: the latents are not diagonal Gaussians, or the likelihood is not a probability mass.
        """
        self._params, self._model = jax.tree.map(jax.numpy.asarray, params), model
        self._layout = layout_of(model, params)
        self._shapes = dict(self._layout.shapes)
        self.data_size = math.prod(self._shapes[X])
        self.levels: Mapping[str, int] = {name: math.prod(shape) for name, shape in self._layout.shapes if name != X}
        self.num_values, self.num_outputs = self._layout.family.num_values, self._layout.family.num_outputs
        of_q, of_p = [("q", level) for level in self.levels], [("p", name) for name in self._shapes]
        self._needed = {(of, name): self._needed_by(of, name) for of, name in of_q + of_p}
        self.steps: Sequence[Step] = order(
            list(self.levels), *({name: self._needed[of, name] for of, name in each} for each in (of_q, of_p))
        )
        self.digest = self._digest()
        self.environment = self._environment()

    def grids(self, x: np.ndarray, num_datapoints: int) -> Grids:
        # z is set to the means of q, rounded to the nearest bins.
        known, centers, found = {X: x.astype(np.int64)}, dict.fromkeys(self.levels, _WIDEST), {}
        for level in self.levels:
            found[level] = self._values("q", level, known, centers, len(x))
            known[level] = (found[level][0] >> (POSITION - _WIDEST.fineness)) + _WIDEST.num_bins // 2
        grids = {}
        for level, of_q in found.items():
            of_p = self._values("p", level, known, centers, len(x))
            grids[level] = suited(of_q[1], num_datapoints, max(_farthest(*of_q), _farthest(*of_p)))
        return grids

    def posterior(self, level: str, known: Known, grids: Grids) -> Coder:
        mean, scale = self._values("q", level, known, grids, _size(known))
        return Gaussian(mean, scale, grids[level], has_floor=False)

    def prior(self, level: str, known: Known, grids: Grids, num_datapoints: int) -> Coder:
        mean, scale = self._values("p", level, known, grids, num_datapoints)
        return Gaussian(mean, scale, grids[level], has_floor=True)

    def likelihood(self, known: Known, grids: Grids) -> Coder:
        size = _size(known)
        values = self._values("p", X, known, grids, size)
        if self._layout.family is programs.BERNOULLI:
            return Bernoulli(*values)
        if self._layout.family is programs.LOGISTIC:
            return DiscretizedLogistic(*values)
        step, blocks = max(_BLOCK // (NUM_LEVELS * size), 1), []
        for first in range(0, self.data_size, step):
            part = values[0][:, first : first + step]
            blocks.append(Block(first, part.shape[1], lambda part=part: np.moveaxis(part, 1, 0).astype(np.int64)))
        return ByMass(size, blocks)

    def _needed_by(self, of: str, name: str) -> set[str]:
        variables = {each: jax.ShapeDtypeStruct(shape, np.float32) for each, shape in self._layout.shapes}
        program = lambda params, variables: numbers_of(params, variables, self._model, of, name, self._layout.is_chain)
        return needed(program, self._params, variables)

    def _values(self, of: str, name: str, known: Known, grids: Grids, size: int) -> tuple[np.ndarray, ...]:
        """Return the integer parameters of a distribution for all datapoints, computed batch by batch."""
        # Variables that the distribution does not depend on are 0, because a decoder may not know them yet.
        inputs = {each: self._as_numbers(each, known[each], grids) for each in self._needed[of, name]}
        parts = [
            self._run(of, name, {each: values[first : first + BATCH] for each, values in inputs.items()})
            for first in range(0, size, BATCH)
        ]
        if not all(np.all(part.is_finite) for part in parts):
            raise ValueError("the model computes parameters that are not finite")
        found = (np.concatenate(arrays)[:size] for arrays in zip(*(part.values for part in parts), strict=True))
        return tuple(each.astype(np.int64) if each.ndim == 2 else each for each in found)

    def _as_numbers(self, name: str, values: np.ndarray, grids: Grids) -> np.ndarray:
        if name == X:
            return values.astype(np.float32) / np.float32(self.num_values - 1)
        return grids[name].centers(values).astype(np.float32) * np.float32(2.0**-POSITION)

    def _run(self, of: str, name: str, inputs: Mapping[str, np.ndarray]) -> Numbers:
        numbers = numbers_of_batch(self._params, self._batch(inputs), self._model, of, name, self._layout.is_chain)
        return jax.device_get(numbers)

    def _batch(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = {name: np.zeros((BATCH, *shape), np.float32) for name, shape in self._layout.shapes}
        for name, values in inputs.items():
            batch[name][: len(values)] = values.reshape(len(values), *self._shapes[name])
        return batch

    def _digest(self) -> bytes:
        found = hashlib.sha256(f"{self._layout} {BATCH}".encode() + tables.digest())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self._params):
            array = np.asarray(leaf)
            found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode() + array.tobytes())
        return found.digest()[:NUM_DIGEST_BYTES]

    def _environment(self) -> bytes:
        """Return a fingerprint of the numbers that the programs compute here."""
        device, compiled = jax.devices()[0], cast(Any, numbers_of_batch)
        found = hashlib.sha256(
            f"{jax.__version__} {jaxlib.version.__version__} {device.platform} {device.device_kind}".encode()
        )
        inputs = self._random_inputs()
        for of, name in self._needed:
            lowered = compiled.lower(self._params, self._batch({}), self._model, of, name, self._layout.is_chain)
            numbers = self._run(of, name, inputs)
            found.update(f"{of} {name} {sorted(self._needed[of, name])} {lowered.as_text()}".encode())
            found.update(b"".join(np.asarray(leaf).tobytes() for leaf in (*numbers.values, numbers.bits)))
        return found.digest()[:NUM_DIGEST_BYTES]

    def _random_inputs(self) -> dict[str, np.ndarray]:
        """Return a batch with x uniform in [0, 1) and z uniform in [-2, 2)."""
        sizes = {name: BATCH * math.prod(shape) for name, shape in self._layout.shapes}
        words = random_words(sum(sizes.values())).astype(np.float32) * np.float32(2.0**-32)
        parts = np.split(words, np.cumsum(list(sizes.values()))[:-1])
        scaled = zip(sizes, parts, strict=True)
        return {name: (part if name == X else 4 * part - 2).reshape(BATCH, -1) for name, part in scaled}


def _size(known: Known) -> int:
    return len(next(iter(known.values())))


def _farthest(mean: np.ndarray, scale: np.ndarray) -> int:
    """Return the largest distance from 0 that Gaussians reach, in units of 2^-16."""
    deviation: Any = (1 << (2 * POSITION)) // tables.inverse_scales()[scale]
    return int(np.max(np.abs(mean) + _DEVIATIONS * deviation))
