"""The two algorithms that the paper compares AEVB with, for `aevb.fit(..., algorithm=...)`."""

from aevb.baselines.monte_carlo_em import monte_carlo_em
from aevb.baselines.wake_sleep import wake_sleep

__all__ = ["monte_carlo_em", "wake_sleep"]
