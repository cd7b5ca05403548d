"""Divergence: detect non-finite numbers, report where they occurred first, and restore the state before them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from aevb.algorithms.base import Algorithm, Progress, TrainState
from aevb.model import Datapoint, Params

_NAMED_INDICES = 5  # indices of a minibatch shown in a message


class DivergedError(FloatingPointError):
    """The objective or its gradient became NaN or infinite.

    Attributes:
      step: the first step with a non-finite loss, or whose update made a parameter non-finite.
      indices: the positions in the training data of the minibatch of that step, `[M]`. If an evaluation detected the
        divergence, the positions of the datapoints whose bound is not finite.
      member: the number of the member in a population; `None` for a single run.
    """

    def __init__(self, step: int, message: str, indices: Sequence[int] = (), member: int | None = None):
        """Store the message and the attributes."""
        super().__init__(message)
        self.step, self.indices, self.member = step, tuple(indices), member

    @classmethod
    def at(cls, step: int, indices: Sequence[int], member: int | None = None) -> "DivergedError":
        """Return the error for an objective or gradient that is not finite on the minibatch of `step`."""
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
        """Return the error for a `bound` that is not finite on the data of a split after `step` steps.

        `missing` says whether those datapoints contain NaN.
        """
        of_split = "" if split == "train" else f" of the {split} data"
        what = f"the bound{of_split} became {bound} at step {step}{_of_member(member)}"
        hint = "; they have NaN, which encode must not see: use aevb.distributions.zeros_and_mask(x)" if missing else ""
        return cls(step, f"{what}, because of {_named(indices)}{hint}", indices, member)


def _of_member(member: int | None) -> str:
    return "" if member is None else f" of member {member}"


def _named(indices: Sequence[int]) -> str:
    more = ", ..." if len(indices) > _NAMED_INDICES else ""
    return f"{len(indices)} datapoints: {', '.join(map(str, indices[:_NAMED_INDICES]))}{more}"


def restoring(train: Callable[..., Any], members: bool = False) -> Callable[..., tuple[TrainState, Progress]]:
    """Wrap compiled epochs so that a non-finite loss or parameter restores the state before them.

    Parameters are checked once, after all epochs, outside the program. Inside it, a CPU would take 5 to 8 % longer for
    all epochs; here the only cost is one copy of the state.

    Args:
      train: `(state, ...) -> (state, progress)`.
      members: whether the states are those of a population, in which each member is restored separately.
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
    """Return the algorithm with a loss that is NaN also if a step makes a parameter non-finite."""

    def step(state: TrainState, xs: Datapoint, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        after, loss = algorithm.step(state, xs, indices)
        return after, jnp.where(became_non_finite(state.params, after.params), jnp.nan, loss)

    return algorithm._replace(step=step)


def became_non_finite(before: Params, after: Params) -> jax.Array:
    """Return whether `after` has a NaN or infinity where `before` has a finite number, `[]`."""
    bad = jax.tree.map(lambda old, new: jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new)), before, after)
    return jax.tree.reduce(jnp.logical_or, bad, jnp.bool_(False))


@jax.jit
def _copy(state: TrainState) -> TrainState:
    """Copy a state into new buffers. Some of its buffers may be on devices of other processes."""
    return jax.tree.map(jnp.copy, state)


def _with_parameters(before: TrainState, after: TrainState, progress: Progress) -> Progress:
    """Report the last step as bad if the parameters after it are not finite although all losses were.

    Checking all parameters in every step takes too long; `TrainingPlan.diverged` finds the actual step.
    """
    unseen = (progress.first_bad_step < 0) & became_non_finite(before.params, after.params)
    return progress._replace(first_bad_step=jnp.where(unseen, after.step - 1, progress.first_bad_step))


@jax.jit
@jax.vmap
def _finite_ones(after: TrainState, before: TrainState, is_finite: jax.Array) -> TrainState:
    return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), after, before)
