"""The likelihoods with a probability mass, defined by the integer outputs of a decoder.

Each is a function of the decoder, the inputs of its head `[b, H]`, and D, and returns the coder of the values of x.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from aevb.compression import tables
from aevb.compression.coders import (
    LOCATION,
    NUM_LEVELS,
    Bernoulli,
    Block,
    ByMass,
    Coder,
    DiscretizedLogistic,
    SpikedLogistic,
)
from aevb.compression.integer_network import OUTPUT, IntegerNetwork

IntegerLikelihood: TypeAlias = Callable[[IntegerNetwork, np.ndarray, int], Coder]

_FINE = 20  # fractional bits of outputs that are multiplied
_LIMIT = 64 << _FINE
_BLOCK = 1 << 22  # log-masses in memory at a time


def _bernoulli(decoder: IntegerNetwork, hidden: np.ndarray, size: int) -> Coder:
    del size
    return Bernoulli((decoder.head(hidden) + (1 << (OUTPUT - 9))) >> (OUTPUT - 8))


def _discretized_logistic(decoder: IntegerNetwork, hidden: np.ndarray, size: int) -> Coder:
    """The location is 1/2 + output, in units of 255 intensities; the log-scale is output - 3/2."""
    outputs = _fine(decoder.head(hidden))
    return DiscretizedLogistic(*_location_and_scale(outputs[:, :size], outputs[:, size:]))


def _spiked_logistic(decoder: IntegerNetwork, hidden: np.ndarray, size: int) -> Coder:
    """A discretized logistic over 1..254; the logits of 0 and of 255 against all of 1..254 are outputs - 2."""
    outputs = _fine(decoder.head(hidden))
    location, log_scale, black, white = (outputs[:, part * size : (part + 1) * size] for part in range(4))
    black, white = (_exponential(np.clip(each - (2 << _FINE), -_EXTREME, _EXTREME)) for each in (black, white))
    return SpikedLogistic(*_location_and_scale(location, log_scale), black, white)


def _location_and_scale(location: np.ndarray, log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    in_levels = (255 << (LOCATION - 1)) + ((location * (255 << LOCATION)) >> _FINE)
    log2_scale = tables.log2_of_fraction(255, 1, _FINE) + _in_octaves(log_scale - (3 << (_FINE - 1)))
    index = (10 * tables.SCALES_PER_OCTAVE) - ((log2_scale * tables.SCALES_PER_OCTAVE + (1 << (_FINE - 1))) >> _FINE)
    return in_levels, np.clip(index, 0, tables.NUM_SCALES - 1)


def _categorical(decoder: IntegerNetwork, hidden: np.ndarray, size: int) -> Coder:
    """The 256 outputs per value are its logits."""

    def log_masses(first: int, end: int) -> np.ndarray:
        found = [_log2(decoder.head(hidden, slice(j, None, size))) for j in range(first, end)]
        return np.stack(found)

    return _by_mass(log_masses, len(hidden), size)


def _beta_binomial(decoder: IntegerNetwork, hidden: np.ndarray, size: int) -> Coder:
    """The outputs are the logit of the mean p and a log-concentration: s = 2 exp(output), a = s p, b = s (1 - p).

    P(k + 1) / P(k) = (255 - k) (a + k) / ((k + 1) (b + 254 - k)); the log-masses are cumulative sums of its logarithm.
    """

    def log_masses(first: int, end: int) -> np.ndarray:
        logit = _clipped(decoder.head(hidden, slice(first, end)))
        concentration = _clipped(decoder.head(hidden, slice(size + first, size + end)), _LOG_TWO)
        p, q, s = _logistic(logit), _logistic(-logit), _exponential(concentration)
        a, b = (s * p).T[..., None], (s * q).T[..., None]
        k = np.arange(NUM_LEVELS - 1)
        ratios = tables.log2(a + k) - tables.log2(b + (NUM_LEVELS - 2 - k))
        ratios += tables.log2(NUM_LEVELS - 1 - k) - tables.log2(k + 1)
        return np.concatenate([np.zeros_like(ratios[..., :1]), np.cumsum(ratios, axis=-1)], axis=-1)

    return _by_mass(log_masses, len(hidden), size)


INTEGER_LIKELIHOODS: dict[str, tuple[int, IntegerLikelihood]] = {
    "bernoulli": (2, _bernoulli),
    "discretized_logistic": (NUM_LEVELS, _discretized_logistic),
    "spiked_logistic": (NUM_LEVELS, _spiked_logistic),
    "beta_binomial": (NUM_LEVELS, _beta_binomial),
    "categorical": (NUM_LEVELS, _categorical),
}
"""The number of possible values of x and the coder, by the name of the likelihood."""


def _by_mass(log_masses: Callable[[int, int], np.ndarray], num_lanes: int, size: int) -> ByMass:
    step = max(_BLOCK // (NUM_LEVELS * num_lanes), 1)
    blocks = []
    for first in range(0, size, step):
        end = min(first + step, size)
        blocks.append(Block(first, end - first, lambda first=first, end=end: log_masses(first, end)))
    return ByMass(num_lanes, blocks)


def _fine(outputs: np.ndarray) -> np.ndarray:
    """Return outputs in units of 2^-20, clipped to -64..64."""
    shift = OUTPUT - _FINE
    return np.clip((outputs + (1 << (shift - 1))) >> shift, -_LIMIT, _LIMIT)


def _in_octaves(values: np.ndarray) -> np.ndarray:
    """Return natural logarithms, in units of 2^-20, as logarithms to base 2."""
    return (values * tables.log2_of_e(_FINE)) >> _FINE


def _log2(outputs: np.ndarray) -> np.ndarray:
    """Return logits as logarithms to base 2, in units of 2^-16."""
    shift = OUTPUT - _FINE
    limit = 1 << (_FINE + 12)
    fine = np.clip((outputs + (1 << (shift - 1))) >> shift, -limit, limit)
    return _in_octaves(fine) >> (_FINE - tables.LOG_UNIT)


# The beta-binomial distribution uses float64 sums, products and quotients. IEEE 754 defines their rounding, so they are
# the same everywhere.

_LOG_TWO = (1 << _FINE) * (1 << _FINE) // tables.log2_of_e(_FINE)
_EXTREME = 20 << _FINE


def _clipped(outputs: np.ndarray, more: int = 0) -> np.ndarray:
    return np.clip(_fine(outputs) + more, -_EXTREME, _EXTREME)


def _exponential(values: np.ndarray) -> np.ndarray:
    """Return the exponential of values in units of 2^-20, as float64."""
    octaves = _in_octaves(values)
    whole = -((-octaves) >> _FINE)  # rounded up
    fraction = (whole << _FINE) - octaves
    return np.ldexp(tables.powers_of_two()[fraction >> (_FINE - 12)].astype(np.float64), whole - tables.UNIT)


def _logistic(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-v)) for values v in units of 2^-20, as float64."""
    return 1.0 / (1.0 + _exponential(-values))
