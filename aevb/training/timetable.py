"""When training stops for an evaluation or a pause."""

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


class Segment(NamedTuple):
    """A piece of training with nothing under way at its end.

    Attributes:
      state: after it.
      seconds: that it took.
      is_evaluation: whether it is time for an evaluation.
    """

    state: TrainState
    seconds: float
    is_evaluation: bool


def segments(
    train: Callable[[TrainState, int], TrainState],
    state: TrainState,
    epoch: int,
    num_epochs: int,
    eval_every: EvalEvery,
    pauses: bool,
) -> Iterator[Segment]:
    """Train from one evaluation to the next, in pieces of about a second if there are to be pauses.

    Args:
      train: `(state, num_epochs) -> state`, after which nothing is under way.
      state: after `epoch` epochs.
      epoch: where to begin.
      num_epochs: where to stop, counted from the beginning.
      eval_every: as for `fit`.
      pauses: whether pieces are to be short.

    Yields:
      Each piece.
    """
    longest = 1 if pauses else num_epochs
    while epoch < num_epochs:
        start = time.perf_counter()
        goal = min(next_evaluation(epoch, eval_every), num_epochs)
        epochs = min(goal - epoch, longest)
        state = train(state, epochs)
        epoch += epochs
        seconds = time.perf_counter() - start
        if pauses:
            longest = sharding.agreed(max(1, int(epochs * _SECONDS_BETWEEN_PAUSES / seconds)))
        yield Segment(state, seconds, epoch == goal)


def next_evaluation(epoch: int, eval_every: EvalEvery) -> int:
    """Return the epoch of the next evaluation: a function of `epoch` alone, wherever a run was cut in two."""
    if eval_every != "log":
        return epoch - epoch % eval_every + eval_every
    exponents = itertools.count()
    return next(at for k in exponents if (at := math.ceil(10 ** (k / _EVALUATIONS_PER_DECADE))) > epoch)


def check_timetable(num_epochs: int, eval_every: Any) -> None:
    """Raise `ValueError` or `TypeError` for what `fit` does not take."""
    check_counts(0, num_epochs=num_epochs)
    is_count = is_integer(eval_every) and eval_every >= 1
    if not is_count and not (isinstance(eval_every, str) and eval_every == "log"):
        raise ValueError(f'eval_every must be at least 1, or "log", got {describe(eval_every)}')
