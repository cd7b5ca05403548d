"""Optimizers and learning-rate schedules, by name."""

import functools
from typing import Any

import optax

from aevb.training.optimizers import check_learning_rate, keeping_learning_rate


def _adam(
    learning_rate: Any, b1: float = 0.9, eps: float = 1e-8, initial_second_moment: float = 0.0
) -> optax.GradientTransformation:
    """Return Adam with second moments that may start above 0, as in Burda et al.'s published code.

    The bias correction assumes a start at 0, so the first steps are short.
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
    weight_decay: float = 0.0,
    num_steps: int = 1,
) -> optax.GradientTransformation:
    """Return an optimizer by its name in `OPTIMIZERS`.

    Args:
      name: the name of the optimizer.
      learning_rate: the learning rate; with a schedule, the initial one.
      schedule: "constant"; "burda": times 10^(-i/7) for 3^i epochs, i = 0, 1, 2... (Burda et al. 2016); or "cosine":
        decays to 5 % over `num_steps`, and is constant afterwards.
      steps_per_epoch: N // M.
      epsilon: epsilon in the denominator of adaptive optimizers; `None` is optax's default.
      beta1: the decay rate of Adam's first moments; `None` is optax's default.
      initial_second_moment: the initial value of Adam's second moments.
      clip_norm: the largest global norm of a gradient, to which larger gradients are scaled down; `None` for no limit.
      weight_decay: the multiple of the parameters that is added to their gradients after clipping, before an adaptive
        optimizer scales them (not as in AdamW). Because losses are per datapoint, it is the gradient of the prior
        N(0, I / (N weight_decay)) over all parameters, phi included.
      num_steps: the number of steps of the whole run.

    Raises:
      ValueError: the name is unknown, or an option is out of range or belongs to another optimizer.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {tuple(OPTIMIZERS)}, got {name!r}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {tuple(SCHEDULES)}, got {schedule!r}")
    check_learning_rate(learning_rate)
    if epsilon is not None and name == "sgd":
        raise ValueError("epsilon is for adaptive optimizers, not sgd")
    if name != "adam" and (beta1 is not None or initial_second_moment):
        raise ValueError(f"beta1 and initial_second_moment are for adam, not {name}")
    if beta1 is not None and not 0 <= beta1 < 1:
        raise ValueError(f"beta1 must be at least 0 and below 1, got {beta1}")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay must be non-negative and finite, got {weight_decay}")
    rate = SCHEDULES[schedule](learning_rate, steps_per_epoch)
    options = {"eps": epsilon, "b1": beta1, "initial_second_moment": initial_second_moment or None}
    optimizer = OPTIMIZERS[name](
        learning_rate=rate, **{key: value for key, value in options.items() if value is not None}
    )
    parts = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if weight_decay:  # without it, a state has the structure that checkpoints of earlier versions have
        parts.append(optax.add_decayed_weights(weight_decay))
    parts.append(optimizer)
    if schedule == "cosine":
        # Scales the update, not the rate: the rate is part of the state, and members of one program may differ in it.
        parts.append(optax.scale_by_schedule(optax.cosine_decay_schedule(1.0, max(num_steps, 1), _COSINE_END)))
    return optimizer if len(parts) == 1 else optax.chain(*parts)


def _burda(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    stages = range(8)  # 3^0 + ... + 3^7 = 3,280 epochs, the length of their training
    rates = [optax.constant_schedule(learning_rate * 10 ** (-stage / 7)) for stage in stages]
    ends = [steps_per_epoch * sum(3**k for k in range(stage + 1)) for stage in stages]
    return optax.join_schedules(rates, ends[:-1])


def _constant(learning_rate: float, steps_per_epoch: int) -> float:
    del steps_per_epoch
    return learning_rate


_COSINE_END = 0.05
SCHEDULES = {"constant": _constant, "burda": _burda, "cosine": _constant}
"""Learning rates as optax takes them; `cosine` scales the updates instead."""
