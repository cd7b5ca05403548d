"""Training in pieces: whole epochs by one program, part of an epoch by another that few runs need."""

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
    """What trains one state, or those of a population, on data in memory.

    Attributes:
      begin: `state -> state`, at the beginning of an epoch, with the key of its order as `shuffle_key`.
      whole: `(state, num_epochs) -> (state, progress)`, from the beginning of an epoch.
      part: `(state, first, last) -> (state, progress)`, for minibatches `first` to `last - 1` of the epoch under way.
    """

    begin: Callable[[TrainState], TrainState]
    whole: Callable[[TrainState, int], tuple[TrainState, Progress]]
    part: Callable[[TrainState, np.int32, np.int32], tuple[TrainState, Progress]]


def pieces(
    programs: Programs, state: TrainState, num_epochs: int, num_steps: int, steps_per_epoch: int
) -> Iterator[tuple[TrainState, Progress]]:
    """Train for a number of epochs, of which one under way is the first, and some minibatches of another.

    Args:
      programs: what trains.
      state: to begin with, or the states of a population, all of them equally far; consumed.
      num_epochs: epochs to end.
      num_steps: minibatches after those, fewer than are left of the epoch that they are part of.
      steps_per_epoch: N // M.

    Yields:
      The state and the progress after each program. A state has a `shuffle_key` also at the end of an epoch that was
      under way.
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
    """Return the state with the key of the next epoch's order; the key that is left is that of its noise."""
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
    """Return training on data in memory, `(state, num_epochs, num_steps=0) -> (state, progress)`, compiled.

    Epochs and minibatches are those of `pieces`. A loss or parameter that is not finite ends it and restores the state
    from before its program.

    Args:
      step: `(state, xs, indices) -> (state, loss)`.
      batch_size: M.
      state: like those that will be trained; its values are not used.
      data: leaves `[N, ...]`.
      steps_per_epoch: N // M.
      left: what will be trained; a program that this does not need is compiled when it is called.
      bucket: as of an `Algorithm`.
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
