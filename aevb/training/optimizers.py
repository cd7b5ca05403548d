"""Optimizers that keep the learning rate in their state rather than in the compiled program."""

import inspect
from collections.abc import Callable

import optax


def paper_optimizer(learning_rate: float = 0.02) -> optax.GradientTransformation:
    """Return Adagrad as the paper used it: its accumulator starts at 0, whereas optax's default is 0.1.

    The learning rate is part of the optimizer's state, so members of a population can have different learning rates,
    and a new one does not recompile anything.

    Raises:
      ValueError: the learning rate is not positive and finite.
    """
    check_learning_rate(learning_rate)
    return keeping_learning_rate(optax.adagrad)(learning_rate=learning_rate, initial_accumulator_value=0.0)


def keeping_learning_rate(
    make_optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    """Wrap a function that makes optimizers so that these keep the learning rate, and nothing else, in their state."""
    others = set(inspect.signature(make_optimizer).parameters) - {"learning_rate"}
    return optax.inject_hyperparams(make_optimizer, static_args=tuple(others))


def check_learning_rate(learning_rate: float) -> None:
    """Raise `ValueError` unless the learning rate is a positive finite number."""
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
