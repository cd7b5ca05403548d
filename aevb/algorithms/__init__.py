"""Training algorithms for `aevb.fit(..., algorithm=...)`. To add one, write a file and a line in `ALGORITHMS`."""

from aevb.algorithms.auto_encoding import auto_encoding, make_loss
from aevb.algorithms.base import (
    Algorithm,
    Loss,
    MakeAlgorithm,
    Progress,
    TrainState,
    descent,
    init_train_state,
    standard_normal_log_prior,
)
from aevb.algorithms.bucketed import bucketed
from aevb.algorithms.full_vb import full_vb
from aevb.algorithms.monte_carlo_em import monte_carlo_em
from aevb.algorithms.semi_supervised import semi_supervised
from aevb.algorithms.wake_sleep import wake_sleep
from aevb.arguments import describe
from aevb.registry import Registry

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Loss",
    "MakeAlgorithm",
    "Progress",
    "TrainState",
    "auto_encoding",
    "bucketed",
    "descent",
    "full_vb",
    "init_train_state",
    "make_loss",
    "monte_carlo_em",
    "register",
    "semi_supervised",
    "standard_normal_log_prior",
    "wake_sleep",
]


def _check(make: object) -> None:
    if not callable(make):
        example = "(model, optimizer, dataset_size, map_prior) -> Algorithm"
        raise TypeError(f"algorithm must be a function {example}, got {describe(make)}")


ALGORITHMS: Registry[MakeAlgorithm] = Registry(
    "algorithm",
    {
        "aevb": "aevb.algorithms.auto_encoding:auto_encoding",
        "wake_sleep": "aevb.algorithms.wake_sleep:wake_sleep",
        "monte_carlo_em": "aevb.algorithms.monte_carlo_em:monte_carlo_em",
        "full_vb": "aevb.algorithms.full_vb:full_vb",
    },
    _check,
)

register = ALGORITHMS.register
