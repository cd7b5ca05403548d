"""Integer versions of `aevb.mlp_vae` models, with the same probabilities on any machine and in any version of JAX."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aevb.compression import tables
from aevb.compression.coders import Coder, Gaussian
from aevb.compression.grids import POSITION, Grid, suited
from aevb.compression.integer_likelihoods import INTEGER_LIKELIHOODS
from aevb.compression.integer_network import ACTIVATION, OUTPUT, IntegerNetwork
from aevb.compression.probabilities import NUM_DIGEST_BYTES, Grids, Known, Step, X
from aevb.model import Model, Params

LEVEL = "z"

_LARGEST_LATENT = 8 << ACTIVATION
_STANDARD_SCALE = 4 * tables.SCALES_PER_OCTAVE  # the index of 1
_FINE = 20


def can_be_integer(model: Model) -> bool:
    """Return whether a model consists of tanh perceptrons, with a Gaussian q and a supported likelihood."""
    if model.recipe is None or model.recipe.family != "mlp":
        return False
    arguments = json.loads(model.recipe.arguments)
    return arguments["posterior"] == "gaussian" and arguments["likelihood"] in INTEGER_LIKELIHOODS


class IntegerModel:
    """An `aevb.mlp_vae` in integers; see `aevb.compression.probabilities.Probabilities`."""

    steps: Sequence[Step] = (Step(True, LEVEL), Step(False, X), Step(False, LEVEL))
    environment = b""

    def __init__(self, params: Params, model: Model):
        """Round the parameters of a model for which `can_be_integer` is true.

        Raises:
          ValueError: a parameter is not finite, or too large.
        """
        assert model.recipe is not None
        arguments: dict[str, Any] = json.loads(model.recipe.arguments)
        self.num_values, self._likelihood = INTEGER_LIKELIHOODS[arguments["likelihood"]]
        self.data_size = math.prod(arguments["data_shape"])
        self.levels: Mapping[str, int] = {LEVEL: arguments["latent_dim"]}
        largest = self.num_values - 1
        self._encoder = IntegerNetwork(params["encoder"], largest, largest)
        self._decoder = IntegerNetwork(params["decoder"], _LARGEST_LATENT)
        self.num_outputs = 2
        described = f"{arguments['likelihood']} {arguments['data_shape']} {arguments['latent_dim']}".encode()
        parts = (described, self._encoder.digest(), self._decoder.digest(), tables.digest())
        self.digest = hashlib.sha256(b"".join(parts)).digest()[:NUM_DIGEST_BYTES]

    def grids(self, x: np.ndarray, num_datapoints: int) -> Grids:
        return {LEVEL: suited(self._mean_and_scale(x)[1], num_datapoints)}

    def posterior(self, level: str, known: Known, grids: Grids) -> Coder:
        return Gaussian(*self._mean_and_scale(known[X]), grids[level], has_floor=False)

    def prior(self, level: str, known: Known, grids: Grids, num_datapoints: int) -> Coder:
        zeros = np.zeros((num_datapoints, self.levels[level]), np.int64)
        return Gaussian(zeros, zeros + _STANDARD_SCALE, grids[level], has_floor=True)

    def likelihood(self, known: Known, grids: Grids) -> Coder:
        grid: Grid = grids[LEVEL]
        hidden = self._decoder.hidden(grid.centers(known[LEVEL]))
        return self._likelihood(self._decoder, hidden, self.data_size)

    def _mean_and_scale(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means, in units of 2^-16, and indices of scales, `[b, J]` each."""
        mean, log_variance = np.split(self._encoder(x), 2, axis=1)
        shift = OUTPUT - POSITION
        fine = np.clip(log_variance >> (OUTPUT - _FINE), -(64 << _FINE), 64 << _FINE)
        # log2 sigma is half of log_variance / log 2; the index is 16 (4 - log2 sigma).
        steps = fine * tables.log2_of_e(_FINE) * (tables.SCALES_PER_OCTAVE // 2)
        index = _STANDARD_SCALE - ((steps + (1 << (2 * _FINE - 1))) >> (2 * _FINE))
        return (mean + (1 << (shift - 1))) >> shift, np.clip(index, 0, tables.NUM_SCALES - 1)
