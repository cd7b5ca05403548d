"""Optimizers whose step size is part of their state and not of the compiled program."""

import inspect
from collections.abc import Callable

import optax


def paper_optimizer(learning_rate: float = 0.02) -> optax.GradientTransformation:
    """Return Adagrad as the paper used it: its accumulator starts at 0, where optax's default is 0.1.

    The step size is part of the optimizer's state, so that members of a population can have different ones and a second
    one compiles nothing.

    Raises:
      ValueError: the step size is not positive and finite.
    """
    check_learning_rate(learning_rate)
    return keeping_learning_rate(optax.adagrad)(learning_rate=learning_rate, initial_accumulator_value=0.0)


def keeping_learning_rate(
    make_optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    """Return a maker of optimizers that keep the step size in their state; everything else stays as it is."""
    others = set(inspect.signature(make_optimizer).parameters) - {"learning_rate"}
    return optax.inject_hyperparams(make_optimizer, static_args=tuple(others))


def check_learning_rate(learning_rate: float) -> None:
    """Raise `ValueError` unless the step size is a positive finite number."""
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
