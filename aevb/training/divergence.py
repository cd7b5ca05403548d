"""Divergence: numbers that are not finite, where they were first, and the state from before."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aevb.algorithms.base import Algorithm, Progress, TrainState
from aevb.model import Datapoint, Params

_NAMED_INDICES = 5  # of a minibatch, in a message of one line


class DivergedError(FloatingPointError):
    """The objective or its gradient became NaN or infinite.

    Attributes:
      step: the first step whose loss was not finite, or whose update left a parameter that is not.
      indices: where in the training data the datapoints of that step's minibatch are, `[M]`; where it is an evaluation
        that shows it, those whose bound is not finite.
      member: which one of a population; `None` of a single run.
    """

    def __init__(self, step: int, message: str, indices: Sequence[int] = (), member: int | None = None):
        """Take a message for people, and the rest for programs."""
        super().__init__(message)
        self.step, self.indices, self.member = step, tuple(indices), member

    @classmethod
    def at(cls, step: int, indices: Sequence[int], member: int | None = None) -> "DivergedError":
        """Return the error of an objective, or its gradient, that is not finite on the minibatch of `step`."""
        what = f"the objective or its gradient became NaN or infinite at step {step}{_of_member(member)}"
        return cls(step, f"{what}, on a minibatch of {_named(indices)}", indices, member)

    @classmethod
    def in_evaluation(
        cls,
        step: int,
        bound: float,
        indices: Sequence[int],
        member: int | None,
        missing: bool = False,
        split: str = "train",
    ) -> "DivergedError":
        """Return the error of a `bound` that is not finite on the data of a split after `step` steps.

        `missing` tells that those datapoints have NaN.
        """
        of_split = "" if split == "train" else f" of the {split} data"
        what = f"the bound{of_split} became {bound} at step {step}{_of_member(member)}"
        hint = "; they have NaN, which encode must not see: aevb.distributions.zeros_and_mask(x)" if missing else ""
        return cls(step, f"{what}, because of {_named(indices)}{hint}", indices, member)


def _of_member(member: int | None) -> str:
    return "" if member is None else f" of member {member}"


def _named(indices: Sequence[int]) -> str:
    more = ", ..." if len(indices) > _NAMED_INDICES else ""
    return f"{len(indices)} datapoints: {', '.join(map(str, indices[:_NAMED_INDICES]))}{more}"


def restoring(train: Callable[..., Any], members: bool = False) -> Callable[..., tuple[TrainState, Progress]]:
    """Wrap compiled epochs so that a loss or parameter that is not finite restores the state before them.

    Parameters are looked at once, after all epochs. Not part of the program: there a CPU takes 5 to 8 % longer for all
    epochs, here for a copy of one state.

    Args:
      train: `(state, ...) -> (state, progress)`.
      members: whether the states are of a population, each member of which keeps its own.
    """
    look = jax.jit(jax.vmap(_with_parameters) if members else _with_parameters)

    def train_or_restore(state: TrainState, *arguments: Any) -> tuple[TrainState, Progress]:
        before = _copy(state)  # the buffers of `state` itself are donated
        after, progress = train(state, *arguments)
        progress = look(before, after, progress)
        if members:
            return _finite_ones(after, before, progress.first_bad_step < 0), progress
        return (after if int(progress.first_bad_step) < 0 else before), progress

    return train_or_restore


def watching_parameters(algorithm: Algorithm) -> Algorithm:
    """Return the algorithm with a loss that is NaN also where a step leaves a parameter that is not finite."""

    def step(state: TrainState, xs: Datapoint, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        after, loss = algorithm.step(state, xs, indices)
        return after, jnp.where(became_non_finite(state.params, after.params), jnp.nan, loss)

    return algorithm._replace(step=step)


def became_non_finite(before: Params, after: Params) -> jax.Array:
    """Return whether there is a NaN or infinity in `after` where `before` has a number, `[]`."""
    bad = jax.tree.map(lambda old, new: jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new)), before, after)
    return jax.tree.reduce(jnp.logical_or, bad, jnp.bool_(False))


@jax.jit
def _copy(state: TrainState) -> TrainState:
    """Copy a state into other buffers, also where some are of other processes' devices."""
    return jax.tree.map(jnp.copy, state)


def _with_parameters(before: TrainState, after: TrainState, progress: Progress) -> Progress:
    """Report the last step as a bad one where no loss showed what the parameters show after it.

    To look at all of them takes too long for every step; `TrainingPlan.diverged` finds out which one it was.
    """
    unseen = (progress.first_bad_step < 0) & became_non_finite(before.params, after.params)
    return progress._replace(first_bad_step=jnp.where(unseen, after.step - 1, progress.first_bad_step))


@jax.jit
@jax.vmap
def _finite_ones(after: TrainState, before: TrainState, is_finite: jax.Array) -> TrainState:
    return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), after, before)
