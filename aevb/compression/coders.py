"""Distributions over integers with integer parameters, and the coding of their symbols on a stack.

The prior and the likelihood must be able to code any symbol, so their probabilities have a floor. q has no floor: a
popped symbol always has positive probability, and a floor would cost several percent.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from scipy import special

from aevb.compression import tables
from aevb.compression.grids import POSITION, Grid
from aevb.compression.rans import PRECISION, TOTAL, Stack

NUM_LEVELS = 256
LOCATION = 6
"""Locations of the logistic distribution are in units of 2^-6 of an intensity."""

_LARGEST_LOCATION = 1 << 20
_LOGIT_BOUND, _LOGIT_RESOLUTION = 16, 8
_ROUNDS = 4  # steps to a neighbouring symbol before a binary search


Where: TypeAlias = slice | int | tuple[int, np.ndarray]
"""An index into `[n, b]`: everything, one row, or some lanes of one row."""


class Coder(Protocol):
    """A distribution over n symbols for each of b datapoints, `[b, n]`."""

    def push(self, stack: Stack, symbols: np.ndarray) -> np.ndarray:
        """Push symbols `[b, n]` and return their probabilities, `[n, b]` int64 in units of 2^-24."""
        ...

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop symbols `[b, n]`."""
        ...


class ByCumulative:
    """A coder defined by a cumulative distribution function, evaluated only where needed."""

    def __init__(self, num_lanes: int, num_symbols: int, num_values: int):
        """Define the sizes: b, n, and the number of possible values of a symbol."""
        self.num_lanes, self.num_symbols, self.num_values = num_lanes, num_symbols, num_values

    def cumulative(self, edges: np.ndarray, where: Where) -> np.ndarray:
        """Return the mass below `edges`, in 0..2^24, of the symbols at `where` in `[n, b]`."""
        raise NotImplementedError

    def guess(self, points: np.ndarray, where: Where) -> np.ndarray:
        """Return approximations of the symbols whose intervals contain `points`; they may differ between machines."""
        raise NotImplementedError

    def push(self, stack: Stack, symbols: np.ndarray) -> np.ndarray:
        starts, frequencies = self.intervals(symbols)
        stack.push(starts, frequencies)
        return frequencies

    def intervals(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the starts and the lengths of the intervals of symbols `[b, n]`, `[n, b]` each."""
        symbols = np.ascontiguousarray(symbols.T)
        starts = self.cumulative(symbols, slice(None))
        return starts, self.cumulative(symbols + 1, slice(None)) - starts

    def pop(self, stack: Stack) -> np.ndarray:
        return stack.pop(self.num_symbols, self.num_lanes, self._find).T

    def _find(self, row: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        symbols, start, end = self._intervals_at(points.astype(np.int64), row)
        return symbols, start.astype(np.uint64), (end - start).astype(np.uint64)

    def _intervals_at(self, points: np.ndarray, where: Where) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the symbols whose intervals contain `points`, and the starts and ends of the intervals."""
        edges = np.empty((2, len(points)), np.int64)
        edges[0] = self.guess(points, where)
        np.maximum(edges[0], 0, out=edges[0])
        np.minimum(edges[0], self.num_values - 1, out=edges[0])
        for _ in range(_ROUNDS):
            np.add(edges[0], 1, out=edges[1])
            start, end = self.cumulative(edges, where)
            is_above, is_below = points >= end, points < start
            if not (np.count_nonzero(is_above) or np.count_nonzero(is_below)):
                return edges[0], start, end
            edges[0] += is_above
            edges[0] -= is_below
        return self._searched(points, where)

    def _searched(self, points: np.ndarray, where: Where) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low, high = np.zeros_like(points), np.full_like(points, self.num_values)
        while np.any(high - low > 1):
            middle = (low + high) >> 1
            is_below = self.cumulative(middle, where) <= points
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        return low, self.cumulative(low, where), self.cumulative(low + 1, where)

    def _with_floor(self, edges: np.ndarray, mass: np.ndarray, floor: int) -> np.ndarray:
        """Convert masses from units of 2^-30 to units of 2^-24, with a floor of 0 or 1 per symbol.

        All mass lies between the first and the last edge.
        """
        mass *= TOTAL - self.num_values * floor
        mass >>= tables.UNIT
        if floor:
            mass += edges
        mass[edges <= 0] = 0
        mass[edges >= self.num_values] = TOTAL
        return mass


class Gaussian(ByCumulative):
    """A Gaussian over the bins of a grid, coded as bin indices."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray, grid: Grid, has_floor: bool):
        """Define the distribution.

        Args:
          mean: `[b, n]` in units of 2^-16.
          scale: `[b, n]`, indices i of the standard deviation 2^(4 - i / 16).
          grid: the grid of the bins.
          has_floor: whether every bin has a mass of at least 2^-24.
        """
        super().__init__(len(mean), mean.shape[1], grid.num_bins)
        self._mean, self._inverse = grid.clipped(mean).T.copy(), tables.inverse_scales()[scale.T]
        self._grid, self._floor = grid, int(has_floor)
        self._float_mean = self._mean / 2.0**POSITION
        self._float_scale = 2.0**POSITION / self._inverse

    def cumulative(self, edges: np.ndarray, where: Where) -> np.ndarray:
        deviation = (self._grid.edges(edges) - self._mean[where]) * self._inverse[where]
        position = (deviation >> _GAUSSIAN_SHIFT) + _GAUSSIAN_MIDDLE
        return self._with_floor(edges, tables.interpolated(tables.gaussian(), position), self._floor)

    def guess(self, points: np.ndarray, where: Where) -> np.ndarray:
        z = self._float_mean[where] + self._float_scale[where] * special.ndtri((points + 0.5) / TOTAL)
        limit = 2.0**self._grid.reach
        z = np.minimum(np.maximum(z, -limit), limit)
        return np.floor(z * 2.0**self._grid.fineness + 0.5).astype(np.int64) + self.num_values // 2


# deviation / sigma is in units of 2^-16 2^-16: the table's positions are in units of 2^-(8 + 12).
_GAUSSIAN_SHIFT = 2 * POSITION - tables.GAUSSIAN_RESOLUTION - tables.FRACTION
_GAUSSIAN_MIDDLE = tables.GAUSSIAN_BOUND << (tables.GAUSSIAN_RESOLUTION + tables.FRACTION)


class DiscretizedLogistic(ByCumulative):
    """A logistic distribution discretized to intensities 0..255, with its tails at the two ends."""

    def __init__(self, location: np.ndarray, scale: np.ndarray):
        """Define the distribution.

        Args:
          location: `[b, n]` in units of 2^-6 of an intensity.
          scale: `[b, n]`, indices i of the scale 2^(10 - i / 16), in intensities.
        """
        super().__init__(len(location), location.shape[1], NUM_LEVELS)
        self._location = np.clip(location, -_LARGEST_LOCATION, _LARGEST_LOCATION).T.copy()
        self._inverse = tables.inverse_scales()[scale.T]
        self._float_location = self._location / 2.0**LOCATION
        self._float_scale = 2.0**22 / self._inverse

    def cumulative(self, edges: np.ndarray, where: Where) -> np.ndarray:
        deviation = ((edges << LOCATION) - (1 << (LOCATION - 1)) - self._location[where]) * self._inverse[where]
        position = (deviation >> _LOGISTIC_SHIFT) + _LOGISTIC_MIDDLE
        return self._with_floor(edges, tables.interpolated(tables.logistic(), position), 1)

    def guess(self, points: np.ndarray, where: Where) -> np.ndarray:
        x = self._float_location[where] + self._float_scale[where] * special.logit((points + 0.5) / TOTAL)
        return (np.minimum(np.maximum(x, 0.0), 255.0) + 0.5).astype(np.int64)

    def _find(self, row: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Black is checked first, in all rows at once, because most pixels of many images are black.
        black = self._black[row]
        lanes = np.flatnonzero(points >= black)
        symbols, starts, lengths = np.zeros(len(points), np.int64), np.zeros_like(points), black
        if len(lanes):
            found, start, end = self._intervals_at(points[lanes].astype(np.int64), (row, lanes))
            lengths = black.copy()
            symbols[lanes], starts[lanes], lengths[lanes] = found, start, end - start
        return symbols, starts, lengths

    @functools.cached_property
    def _black(self) -> np.ndarray:
        return self.cumulative(np.ones_like(self._location), slice(None)).astype(np.uint64)


class SpikedLogistic(DiscretizedLogistic):
    """A discretized logistic over 1..254, with its tails at the two ends, and separate masses for 0 and 255."""

    def __init__(self, location: np.ndarray, scale: np.ndarray, black: np.ndarray, white: np.ndarray):
        """Define the distribution.

        Args:
          location: `[b, n]` in units of 2^-6 of an intensity.
          scale: `[b, n]`, indices i of the scale 2^(10 - i / 16), in intensities.
          black: `[b, n]` float64, P(0) / P(1..254).
          white: `[b, n]` float64, P(255) / P(1..254).
        """
        super().__init__(location, scale)
        # Sums, products and quotients in float64 are rounded identically on every machine.
        share = float(TOTAL - NUM_LEVELS) / (1.0 + black + white)
        self._at_black = np.floor(black * share).astype(np.int64).T.copy()
        at_white = np.floor(white * share).astype(np.int64).T
        self._grey = TOTAL - NUM_LEVELS - self._at_black - at_white

    def cumulative(self, edges: np.ndarray, where: Where) -> np.ndarray:
        deviation = ((edges << LOCATION) - (1 << (LOCATION - 1)) - self._location[where]) * self._inverse[where]
        mass = tables.interpolated(tables.logistic(), (deviation >> _LOGISTIC_SHIFT) + _LOGISTIC_MIDDLE)
        mass[edges <= 1] = 0
        mass[edges >= NUM_LEVELS - 1] = 1 << tables.UNIT
        mass *= self._grey[where]
        mass >>= tables.UNIT
        mass += edges + self._at_black[where]
        mass[edges <= 0] = 0
        mass[edges >= NUM_LEVELS] = TOTAL
        return mass

    def guess(self, points: np.ndarray, where: Where) -> np.ndarray:
        inside = (points - self._at_black[where] + 0.5) / np.maximum(self._grey[where], 1)
        x = self._float_location[where] + self._float_scale[where] * special.logit(np.clip(inside, 1e-9, 1 - 1e-9))
        return (np.minimum(np.maximum(x, 0.0), 255.0) + 0.5).astype(np.int64)


# deviation / scale is in units of 2^-6 2^-22: the table's positions are in units of 2^-(7 + 12).
_LOGISTIC_SHIFT = LOCATION + 22 - tables.LOGISTIC_RESOLUTION - tables.FRACTION
_LOGISTIC_MIDDLE = tables.LOGISTIC_BOUND << (tables.LOGISTIC_RESOLUTION + tables.FRACTION)


class Bernoulli:
    """Bernoulli distributions over 0 and 1."""

    def __init__(self, logit: np.ndarray):
        """Define the distribution by its logits `[b, n]`, in units of 2^-8."""
        limit = _LOGIT_BOUND << _LOGIT_RESOLUTION
        stride = tables.LOGISTIC_RESOLUTION + tables.FRACTION - _LOGIT_RESOLUTION
        position = (-np.clip(logit, -limit, limit).T << stride) + _LOGISTIC_MIDDLE
        mass = tables.interpolated(tables.logistic(), position) >> (tables.UNIT - PRECISION)
        self._zero = np.clip(mass, 1, TOTAL - 1).astype(np.uint64)
        self._one = _ALL - self._zero

    def push(self, stack: Stack, symbols: np.ndarray) -> np.ndarray:
        is_one = symbols.T != 0
        starts = self._zero * is_one
        frequencies = np.where(is_one, self._one, self._zero)
        stack.push(starts, frequencies)
        return frequencies

    def pop(self, stack: Stack) -> np.ndarray:
        return stack.pop(len(self._zero), self._zero.shape[1], self._find).T

    def _find(self, row: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        zero = self._zero[row]
        is_one = points >= zero
        return is_one, zero * is_one, np.where(is_one, self._one[row], zero)


_ALL = np.uint64(TOTAL)


class Block(NamedTuple):
    """A block of `num_symbols` symbols per datapoint from index `first`, and a function that returns their log-masses.

    The log-masses have shape `[num_symbols, b, 256]`.
    """

    first: int
    num_symbols: int
    log_masses: Callable[[], np.ndarray]


class ByMass:
    """Intensities 0..255 with one mass each, computed in blocks of symbols to limit the memory."""

    def __init__(self, num_lanes: int, blocks: list[Block]):
        """Define the distribution by base-2 log-masses, up to a constant, in units of 2^-16."""
        self._num_lanes, self._blocks = num_lanes, blocks

    def push(self, stack: Stack, symbols: np.ndarray) -> np.ndarray:
        found = []
        for block in reversed(self._blocks):
            part = symbols.T[block.first : block.first + block.num_symbols, :, None]
            edges = _edges(block.log_masses())
            starts, ends = (np.take_along_axis(edges, part + more, axis=2)[..., 0] for more in (0, 1))
            stack.push(starts, ends - starts)
            found.append(ends - starts)
        return np.concatenate(found)

    def pop(self, stack: Stack) -> np.ndarray:
        return np.concatenate([part.T for part in self._popped(stack)], axis=1)

    def _popped(self, stack: Stack) -> Iterator[np.ndarray]:
        for block in self._blocks:
            edges = _edges(block.log_masses())

            def find(row: int, points: np.ndarray, edges: np.ndarray = edges) -> tuple:
                of_row = edges[row]
                symbols = np.sum(of_row[:, 1:-1] <= points.astype(np.int64)[:, None], axis=1)
                lanes = np.arange(len(symbols))
                starts = of_row[lanes, symbols]
                return symbols, starts.astype(np.uint64), (of_row[lanes, symbols + 1] - starts).astype(np.uint64)

            yield stack.pop(block.num_symbols, self._num_lanes, find)


def _edges(log_masses: np.ndarray) -> np.ndarray:
    """Return cumulative masses `[..., 257]` in 0..2^24, every mass at least 1, from log-masses `[..., 256]`."""
    below = np.minimum(np.max(log_masses, axis=-1, keepdims=True) - log_masses, 31 << tables.LOG_UNIT)
    fraction = (below & ((1 << tables.LOG_UNIT) - 1)) >> (tables.LOG_UNIT - 12)
    masses = tables.powers_of_two()[fraction] >> (below >> tables.LOG_UNIT)
    cumulative = np.cumsum(masses, axis=-1)
    scaled = cumulative * (TOTAL - NUM_LEVELS) // cumulative[..., -1:] + np.arange(1, NUM_LEVELS + 1)
    return np.concatenate([np.zeros_like(scaled[..., :1]), scaled], axis=-1)


def bits_of(frequencies: np.ndarray) -> np.ndarray:
    """Return the cost per datapoint, `[b]` int64 in units of 2^-16 bits, of symbols with probabilities `[n, b]`.

    The bits of a float64 give a logarithm that is linear between powers of two. It overestimates the cost by at most
    0.09 bits per symbol, and by nothing if a symbol is nearly certain.
    """
    linear = frequencies.astype(np.float64).view(np.int64)
    linear >>= 52 - tables.LOG_UNIT
    return ((1023 + PRECISION) << tables.LOG_UNIT) * len(linear) - np.sum(linear, axis=0)
