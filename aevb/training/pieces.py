"""Training in pieces: one program for whole epochs, and another, which few runs need, for part of an epoch."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb.algorithms.base import Bucket, Progress, TrainState
from aevb.model import Datapoint
from aevb.training.divergence import restoring
from aevb.training.epochs import MinibatchStep, compiled_epochs, part_of_epoch
from aevb.training.keys import key_pair
from aevb.training.timetable import Remaining


class Programs(NamedTuple):
    """Programs that train one state, or the states of a population, on data in memory.

    Attributes:
      begin: `state -> state`, begins an epoch: draws the key of its order and stores it as `shuffle_key`.
      whole: `(state, num_epochs) -> (state, progress)`, trains whole epochs.
      part: `(state, first, last) -> (state, progress)`, trains minibatches `first` to `last - 1` of the current epoch.
    """

    begin: Callable[[TrainState], TrainState]
    whole: Callable[[TrainState, int], tuple[TrainState, Progress]]
    part: Callable[[TrainState, np.int32, np.int32], tuple[TrainState, Progress]]


def pieces(
    programs: Programs, state: TrainState, num_epochs: int, num_steps: int, steps_per_epoch: int
) -> Iterator[tuple[TrainState, Progress]]:
    """Train for a number of epochs and some minibatches of one more. An epoch in progress counts as the first.

    Args:
      programs: the training programs.
      state: the state to begin with, or the states of a population, all at the same step; consumed.
      num_epochs: the number of epochs to complete.
      num_steps: the number of minibatches after those epochs, fewer than their epoch has left.
      steps_per_epoch: N // M.

    Yields:
      The state and the progress after each program. After an epoch that was in progress, the state still has its
      `shuffle_key`.
    """
    done = 0 if state.shuffle_key is None else int(jnp.max(state.step)) % steps_per_epoch
    if num_epochs and state.shuffle_key is not None:
        state, progress = programs.part(state, np.int32(done), np.int32(steps_per_epoch))
        yield state, progress
        state, num_epochs, done = state._replace(shuffle_key=None), num_epochs - 1, 0
    if num_epochs:
        state, progress = programs.whole(state, num_epochs)
        yield state, progress
    if num_steps:
        state = programs.begin(state) if state.shuffle_key is None else state
        yield programs.part(state, np.int32(done), np.int32(done + num_steps))


def begin_epoch(state: TrainState) -> TrainState:
    """Split the key of the state into the key of the next epoch's order and the key of its noise."""
    key, shuffle_key = key_pair(state.key)
    return state._replace(key=key, shuffle_key=shuffle_key)


def compile_resident_epochs(
    step: MinibatchStep,
    batch_size: int,
    state: TrainState,
    data: Datapoint,
    steps_per_epoch: int,
    left: Remaining,
    bucket: Bucket | None = None,
) -> Callable[..., tuple[TrainState, Progress]]:
    """Compile training on data in memory, `(state, num_epochs, num_steps=0) -> (state, progress)`.

    Epochs and minibatches are counted as in `pieces`. A non-finite loss or parameter ends training and restores the
    state from before the program in which it occurred.

    Args:
      step: `(state, xs, indices) -> (state, loss)`.
      batch_size: M.
      state: a state with the structure and shapes of those to be trained. Its values are not used.
      data: leaves `[N, ...]`.
      steps_per_epoch: N // M.
      left: the planned training. A program that it does not need is compiled only when called.
      bucket: as in an `Algorithm`.
    """
    whole: Any = compiled_epochs(step, batch_size, bucket)
    part: Any = jax.jit(part_of_epoch(step, batch_size, bucket), donate_argnums=0)
    if not jax.config.values["jax_disable_jit"]:
        if left.has_whole_epochs:
            whole = whole.lower(state._replace(shuffle_key=None), data, 1).compile()
        if left.has_parts:
            part = part.lower(begin_epoch(state), data, np.int32(0), np.int32(1)).compile()
    programs = Programs(
        begin_epoch,
        restoring(lambda state, num_epochs: whole(state, data, num_epochs)),
        restoring(lambda state, first, last: part(state, data, first, last)),
    )

    def train(state: TrainState, num_epochs: int, num_steps: int = 0) -> tuple[TrainState, Progress]:
        after, progress = state, None
        for after, progress in pieces(programs, state, num_epochs, num_steps, steps_per_epoch):
            if int(progress.first_bad_step) >= 0:
                return after, progress
        assert progress is not None, "there was nothing to do"
        return (after if num_steps else after._replace(shuffle_key=None)), progress

    return train
