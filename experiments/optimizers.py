"""Optimizers and schedules of the step size, by name."""

import functools

import optax

from aevb.training.optimizers import check_learning_rate, keeping_learning_rate

OPTIMIZERS = {
    "adagrad": functools.partial(keeping_learning_rate(optax.adagrad), initial_accumulator_value=0.0),
    "adam": keeping_learning_rate(optax.adam),
    "rmsprop": keeping_learning_rate(optax.rmsprop),
    "sgd": keeping_learning_rate(optax.sgd),
}


def make_optimizer(
    name: str,
    learning_rate: float,
    schedule: str = "constant",
    steps_per_epoch: int = 1,
    epsilon: float | None = None,
) -> optax.GradientTransformation:
    """An optimizer by its name in `OPTIMIZERS`.

    Args:
      name: of the optimizer.
      learning_rate: step size, under a schedule the first one.
      schedule: "constant", or "burda": times 10^(-i/7) for 3^i epochs, i = 0, 1, 2... (Burda et al. 2016).
      steps_per_epoch: N // M.
      epsilon: what the denominator of the adaptive ones is kept from zero by; `None` is optax's default.

    Raises:
      ValueError: an unknown name or a step size out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {tuple(OPTIMIZERS)}, got {name!r}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {tuple(SCHEDULES)}, got {schedule!r}")
    check_learning_rate(learning_rate)
    if epsilon is not None and name == "sgd":
        raise ValueError("epsilon is for adaptive optimizers, not sgd")
    rate = SCHEDULES[schedule](learning_rate, steps_per_epoch)
    return OPTIMIZERS[name](learning_rate=rate, **({} if epsilon is None else {"eps": epsilon}))


def _burda(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    stages = range(8)  # 3^0 + ... + 3^7 = 3,280 epochs, the whole of theirs
    rates = [optax.constant_schedule(learning_rate * 10 ** (-stage / 7)) for stage in stages]
    ends = [steps_per_epoch * sum(3**k for k in range(stage + 1)) for stage in stages]
    return optax.join_schedules(rates, ends[:-1])


SCHEDULES = {"constant": lambda learning_rate, steps_per_epoch: learning_rate, "burda": _burda}
