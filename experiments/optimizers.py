"""Optimizers and schedules of the step size, by name."""

import functools
from typing import Any

import optax

from aevb.training.optimizers import check_learning_rate, keeping_learning_rate


def _adam(
    learning_rate: Any, b1: float = 0.9, eps: float = 1e-8, initial_second_moment: float = 0.0
) -> optax.GradientTransformation:
    """Return Adam, whose second moments may start above 0, as in Burda et al.'s published code.

    They are corrected as if they had started at 0, so that the first steps are short ones.
    """
    adam = optax.adam(learning_rate, b1=b1, eps=eps)
    if initial_second_moment == 0:
        return adam

    def init(params: optax.Params) -> optax.OptState:
        state = adam.init(params)
        moments = optax.tree.full_like(params, initial_second_moment)
        return optax.tree.set(state, nu=moments)

    return optax.GradientTransformation(init, adam.update)


OPTIMIZERS = {
    "adagrad": functools.partial(keeping_learning_rate(optax.adagrad), initial_accumulator_value=0.0),
    "adam": keeping_learning_rate(_adam),
    "rmsprop": keeping_learning_rate(optax.rmsprop),
    "sgd": keeping_learning_rate(optax.sgd),
}


def make_optimizer(
    name: str,
    learning_rate: float,
    schedule: str = "constant",
    steps_per_epoch: int = 1,
    epsilon: float | None = None,
    beta1: float | None = None,
    initial_second_moment: float = 0.0,
    clip_norm: float | None = None,
    num_steps: int = 1,
) -> optax.GradientTransformation:
    """An optimizer by its name in `OPTIMIZERS`.

    Args:
      name: of the optimizer.
      learning_rate: step size, under a schedule the first one.
      schedule: "constant"; "burda": times 10^(-i/7) for 3^i epochs, i = 0, 1, 2... (Burda et al. 2016); or "cosine":
        down to 5 % over `num_steps`, and constant afterwards.
      steps_per_epoch: N // M.
      epsilon: what the denominator of the adaptive ones is kept from zero by; `None` is optax's default.
      beta1: of Adam; `None` is optax's default.
      initial_second_moment: of Adam.
      clip_norm: gradients of a larger global norm are scaled down to it; `None` leaves them.
      num_steps: of the whole run.

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
    if name != "adam" and (beta1 is not None or initial_second_moment):
        raise ValueError(f"beta1 and initial_second_moment are Adam's, not {name}'s")
    if beta1 is not None and not 0 <= beta1 < 1:
        raise ValueError(f"beta1 must be at least 0 and below 1, got {beta1}")
    rate = SCHEDULES[schedule](learning_rate, steps_per_epoch)
    options = {"eps": epsilon, "b1": beta1, "initial_second_moment": initial_second_moment or None}
    optimizer = OPTIMIZERS[name](
        learning_rate=rate, **{key: value for key, value in options.items() if value is not None}
    )
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    parts.append(optimizer)
    if schedule == "cosine":
        # Of the update and not of the rate, which stays in the state: members of one program differ in it.
        parts.append(optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, max(num_steps, 1), _COSINE_END)))
    return optimizer if len(parts) == 1 else optax.chain(*parts)


def _burda(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    stages = range(8)  # 3^0 + ... + 3^7 = 3,280 epochs, the whole of theirs
    rates = [optax.constant_schedule(learning_rate * 10 ** (-stage / 7)) for stage in stages]
    ends = [steps_per_epoch * sum(3**k for k in range(stage + 1)) for stage in stages]
    return optax.join_schedules(rates, ends[:-1])


def _constant(learning_rate: float, steps_per_epoch: int) -> float:
    del steps_per_epoch
    return learning_rate


_COSINE_END = 0.05
SCHEDULES = {"constant": _constant, "burda": _burda, "cosine": _constant}
"""The step size as optax takes it; a cosine is of the updates."""
