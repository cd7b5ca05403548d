"""The timetable of training: when it stops for an evaluation or a pause."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

from aevb import sharding
from aevb.algorithms.base import TrainState
from aevb.arguments import check_counts, describe, is_integer

EvalEvery: TypeAlias = int | Literal["log"]
"""Epochs between evaluations, or "log" for eight evaluations per decade."""

_EVALUATIONS_PER_DECADE = 8
_SECONDS_BETWEEN_PAUSES = 1.0


class Remaining(NamedTuple):
    """The remaining part of a run.

    Attributes:
      epoch: the number of whole epochs done.
      num_epochs: the number of whole epochs done at the end of the run.
      num_steps: the number of minibatches to do after those epochs.
      is_mid_epoch: whether an epoch is in progress.
    """

    epoch: int
    num_epochs: int
    num_steps: int
    is_mid_epoch: bool

    @classmethod
    def of(cls, state: TrainState, steps_per_epoch: int, num_epochs: int, num_steps: int | None) -> "Remaining":
        """Return what is left after `state`.

        Args:
          state: the state to resume from; for a population, the state of one member.
          steps_per_epoch: N // M.
          num_epochs: the total number of epochs, unless `num_steps` is given.
          num_steps: the total number of minibatches, or `None`.

        Raises:
          ValueError: it is not known which minibatches of an epoch were done.
        """
        step, is_mid_epoch = int(state.step), state.shuffle_key is not None
        epoch, num_done = divmod(step, steps_per_epoch)
        if num_steps is None or num_steps <= step:
            return cls(epoch, num_epochs if num_steps is None else epoch, 0, is_mid_epoch)
        if num_done and not is_mid_epoch:
            raise ValueError(
                f"the state is at step {step}, which does not end an epoch of {steps_per_epoch} minibatches, and has "
                "no shuffle_key: resume from it with num_epochs, in whole epochs"
            )
        whole = num_steps // steps_per_epoch
        return cls(epoch, whole, num_steps - max(step, whole * steps_per_epoch), is_mid_epoch)

    @property
    def has_whole_epochs(self) -> bool:
        """Whether there are epochs to do from beginning to end."""
        return self.epoch + self.is_mid_epoch < self.num_epochs

    @property
    def has_parts(self) -> bool:
        """Whether there are parts of epochs to do: the rest of one in progress, or the beginning of the last."""
        return self.num_steps > 0 or (self.is_mid_epoch and self.epoch < self.num_epochs)


class Segment(NamedTuple):
    """A piece of training, complete on the device at its end.

    Attributes:
      state: the state after it.
      seconds: the time that it took.
      is_evaluation: whether an evaluation is due.
    """

    state: TrainState
    seconds: float
    is_evaluation: bool


def segments(
    train: Callable[[TrainState, int, int], TrainState],
    state: TrainState,
    left: Remaining,
    eval_every: EvalEvery,
    pauses: bool,
) -> Iterator[Segment]:
    """Train from one evaluation to the next, in pieces of about a second if there are pauses.

    Args:
      train: `(state, num_epochs, num_steps) -> state`, which waits for the device.
      state: the state to begin with.
      left: the remaining part of the run.
      eval_every: as for `fit`.
      pauses: whether to keep pieces short.

    Yields:
      Each piece.
    """
    epoch, num_epochs = left.epoch, left.num_epochs
    longest = 1 if pauses else num_epochs
    while epoch < num_epochs:
        start = time.perf_counter()
        scheduled = next_evaluation(epoch, eval_every)
        epochs = min(scheduled - epoch, num_epochs - epoch, longest)
        state = train(state, epochs, 0)
        epoch += epochs
        seconds = time.perf_counter() - start
        if pauses:
            longest = sharding.agreed(max(1, int(epochs * _SECONDS_BETWEEN_PAUSES / seconds)))
        is_last = epoch == num_epochs and not left.num_steps
        yield Segment(state, seconds, epoch == scheduled or is_last)
    if left.num_steps:
        start = time.perf_counter()
        state = train(state, 0, left.num_steps)
        yield Segment(state, time.perf_counter() - start, True)


def next_evaluation(epoch: int, eval_every: EvalEvery) -> int:
    """Return the epoch of the next evaluation. It depends only on `epoch`, so resuming a run does not change it."""
    if eval_every != "log":
        return epoch - epoch % eval_every + eval_every
    exponents = itertools.count()
    return next(at for k in exponents if (at := math.ceil(10 ** (k / _EVALUATIONS_PER_DECADE))) > epoch)


def check_timetable(num_epochs: Any, num_steps: Any, eval_every: Any) -> None:
    """Raise `ValueError` or `TypeError` unless `fit` accepts these arguments."""
    ends = {"num_epochs": num_epochs, "num_steps": num_steps}
    check_counts(0, **{name: count for name, count in ends.items() if count is not None})
    if None not in ends.values():
        raise ValueError(f"num_epochs={num_epochs} and num_steps={num_steps} both say when to stop: give only one")
    is_count = is_integer(eval_every) and eval_every >= 1
    if not is_count and not (isinstance(eval_every, str) and eval_every == "log"):
        raise ValueError(f'eval_every must be at least 1, or "log", got {describe(eval_every)}')
