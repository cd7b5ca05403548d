"""Grids for latents: their step and their reach.

z is coded as the index k of the bin around (k - 2^(r + s)) 2^-s, for k below 2^(r + s + 1): steps of 2^-s from -2^r to
2^r. Finer steps only need more initial bits, which the first image pays for. Coarser steps add step^2 / 12 to the
variance of q.
"""

from typing import NamedTuple

import numpy as np

from aevb.compression import tables

POSITION = 16
"""Positions, including means, are in units of 2^-16."""

_LARGEST_REACH = 6
_FINEST = 11
_LARGEST = 15  # bits of k: the floors of all bins add up to 0.2 % of the prior's mass
_STANDARD_REACH = 3


class Grid(NamedTuple):
    """The grid of one level, with step 2^-s for `fineness` s and reach 2^r for `reach` r."""

    fineness: int
    reach: int

    @property
    def num_bins(self) -> int:
        """The number of bins, 2^(r + s + 1)."""
        return 1 << (self.reach + self.fineness + 1)

    def is_valid(self) -> bool:
        """Return whether the fineness and the reach are within the limits of the format."""
        return (
            0 <= self.fineness <= _FINEST
            and 0 <= self.reach <= _LARGEST_REACH
            and self.fineness + self.reach < _LARGEST
        )

    def edges(self, k: np.ndarray) -> np.ndarray:
        """Return the lower edges of bins k, in units of 2^-16."""
        return (2 * k - 1 - self.num_bins) << (POSITION - 1 - self.fineness)

    def centers(self, k: np.ndarray) -> np.ndarray:
        """Return the centers of bins k, in units of 2^-16."""
        return (k - self.num_bins // 2) << (POSITION - self.fineness)

    def clipped(self, mean: np.ndarray) -> np.ndarray:
        """Return means clipped to the grid, in units of 2^-16."""
        limit = 1 << (self.reach + POSITION)
        return np.clip(mean, -limit, limit)


def suited(scales: np.ndarray, num_datapoints: int, farthest: int = 0) -> Grid:
    """Return the grid that costs the fewest bits for N datapoints.

    A step h costs h^2 / (24 sigma^2) nats per datapoint and dimension, and -log h nats once. The sum is smallest at
    h^2 = 12 / (N mean(1 / sigma^2)). The arithmetic uses integers only, because the grid determines the file.

    Args:
      scales: indices of the scales of q, of any shape.
      num_datapoints: N.
      farthest: the largest expected distance of z from 0, in units of 2^-16; 0 for a standard prior.
    """
    coarse = tables.inverse_scales()[scales].ravel() >> 8  # 2^8 / sigma
    mean_square = int(np.sum(coarse * coarse)) // coarse.size
    reach = _STANDARD_REACH
    while reach < _LARGEST_REACH and farthest > 1 << (reach + POSITION):
        reach += 1
    finest = min(_FINEST, _LARGEST - 1 - reach)
    fineness = 2
    # Rounds to the nearest power of two: 4^s is above half of N mean / 12.
    while fineness < finest and (24 << (2 * fineness + 16)) < num_datapoints * mean_square:
        fineness += 1
    return Grid(fineness, reach)
