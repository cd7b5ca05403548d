"""Baselines for binary sequences without latents: independent keys, by frequency or as two-state Markov chains."""

from typing import NamedTuple

import numpy as np

_PSEUDO_COUNTS = 5.0  # pull each key's rates to those of all keys: rarely played keys have few transitions


class KeyChains(NamedTuple):
    """Rates of each key, `[D]`, between 0 and 1.

    Attributes:
      frequency: The fraction of steps at which the key sounds.
      begins: The fraction of silent steps that are followed by a sounding one.
      stays: The fraction of sounding steps that are followed by a sounding one.
    """

    frequency: np.ndarray
    begins: np.ndarray
    stays: np.ndarray

    @classmethod
    def of(cls, xs: np.ndarray) -> "KeyChains":
        """Estimate the rates from sequences `[N, T, D]`, NaN after their ends."""
        before, after = xs[:, :-1], xs[:, 1:]
        is_pair = ~np.isnan(before) & ~np.isnan(after)

        def rate(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
            hits, counts = np.nansum(values * chosen, axis=(0, 1)), np.sum(chosen, axis=(0, 1))
            return (hits + _PSEUDO_COUNTS * hits.sum() / counts.sum()) / (counts + _PSEUDO_COUNTS)

        return cls(rate(~np.isnan(xs), xs), rate(is_pair & (before == 0), after), rate(is_pair & (before == 1), after))

    def chances(self, xs: np.ndarray) -> np.ndarray:
        """Return P(x = 1) of every step and key given the known values of the same key, `[N, T, D]`.

        The forward-backward recursion computes it exactly. It is 0 or 1 where the value is known.

        Args:
          xs: Sequences `[N, T, D]`, NaN where a value is unknown, including after the end of a sequence.
        """
        evidence = np.stack([np.where(np.isnan(xs), 1.0, xs == value) for value in (0, 1)])  # [2, N, T, D]
        move = np.array([[1 - self.begins, self.begins], [1 - self.stays, self.stays]])  # [from, to, D]
        num_steps = xs.shape[1]
        forward, backward = np.empty_like(evidence), np.ones_like(evidence)
        message = np.broadcast_to(np.stack([1 - self.frequency, self.frequency])[:, None], evidence[:, :, 0].shape)
        for step in range(num_steps):
            forward[:, :, step] = message * evidence[:, :, step]
            forward[:, :, step] /= forward[:, :, step].sum(axis=0)
            message = np.einsum("and,abd->bnd", forward[:, :, step], move)
        for step in range(num_steps - 2, -1, -1):
            seen = backward[:, :, step + 1] * evidence[:, :, step + 1]
            backward[:, :, step] = np.einsum("bnd,abd->and", seen, move)
            backward[:, :, step] /= backward[:, :, step].sum(axis=0)
        both = forward * backward
        return both[1] / both.sum(axis=0)


def log_likelihood(chances: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Return log p of the held-out values at each step with independent keys, `[N, T]`, in nats.

    It is NaN at steps where nothing was held out.

    Args:
      chances: P(x = 1), `[N, T, D]`.
      held_out: The held-out values, 0 or 1, `[N, T, D]`; NaN elsewhere.
    """
    likelihoods = np.where(held_out == 1, chances, 1 - chances)
    found = np.sum(np.where(np.isnan(held_out), 0, np.log(np.where(np.isnan(held_out), 1, likelihoods))), axis=-1)
    return np.where(np.all(np.isnan(held_out), axis=-1), np.nan, found)
