"""The two algorithms that the paper compares AEVB with, for `aevb.fit(..., algorithm=...)`."""

from typing import Any

from aevb.baselines.wake_sleep import wake_sleep

__all__ = ["monte_carlo_em", "wake_sleep"]


def __getattr__(name: str) -> Any:
    # Late, because BlackJAX takes a while to import and only Monte Carlo EM needs it.
    if name == "monte_carlo_em":
        from aevb.baselines.monte_carlo_em import monte_carlo_em

        return monte_carlo_em
    raise AttributeError(f"module 'aevb.baselines' has no attribute {name!r}")
