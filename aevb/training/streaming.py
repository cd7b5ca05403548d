"""Training on a `Stream` block by block, in the same order and with the same noise as for data in memory.

The order is drawn on the device from the same key as for data in memory, so a run does not depend on where its data are
stored. Only the indices of an epoch, `[N]`, are held in memory at once.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb.algorithms.base import Progress, TrainState
from aevb.data.binarization import Binarization
from aevb.data.rows import rows
from aevb.data.stream import Stream, read_ahead
from aevb.model import Datapoint, row_template
from aevb.training.epochs import MinibatchStep, epoch_batches


class _FirstBad(NamedTuple):
    """The first step with a non-finite loss, `[]`, or -1, and the indices of its minibatch, `[M]`."""

    step: jax.Array
    indices: jax.Array


def compile_streamed_epochs(
    step: MinibatchStep,
    batch_size: int,
    state: TrainState,
    stream: Stream,
    binarization: Binarization,
    on_block: Callable[[TrainState, float], None] | None = None,
) -> Callable[..., tuple[TrainState, Progress]]:
    """Compile epochs over a stream, with the same order, noise and updates as in `aevb.make_train_epochs`.

    A state in mid-epoch holds the key of the order of that epoch, its `shuffle_key`. The rest of that epoch is done
    first and counts as one. `num_steps` is a number of minibatches after these epochs, fewer than their epoch has left.

    Args:
      step: `(state, xs, indices) -> (state, loss)` for a minibatch of floats, leaves `[M, ...]`.
      batch_size: M.
      state: a state with the structure and shapes of those to be trained. Its values are not used.
      stream: the training data.
      binarization: as for `make_train_epochs`, but not "fixed".
      on_block: called after every block of an epoch except the last, with the state and the seconds since the training
        function was called.

    Returns:
      `(state, num_epochs, num_steps=0) -> (state, progress)`. The mean loss is not computed, and training ends soon
      after a bad step. The state's buffers are donated.
    """
    stream.check(binarization)
    num_batches = len(stream) // batch_size
    # Blocks have equal sizes, so that the last one needs little filling up.
    num_blocks = -(-num_batches * batch_size // stream.block_size)
    block = -(-num_batches // num_blocks)
    train_block = _compile_block(step, state, stream, binarization, (block, batch_size))
    draw_order = jax.jit(functools.partial(epoch_batches, dataset_size=len(stream), batch_size=batch_size))

    def go_on(state: TrainState, start: float, num_steps: int | None = None) -> tuple[TrainState, _FirstBad]:
        """Train `num_steps` minibatches of the current or a new epoch; `None` trains to the end of the epoch."""
        done, shuffle_key = 0, state.shuffle_key
        if shuffle_key is None:
            key, shuffle_key = jax.random.split(state.key)
            state = state._replace(key=key)
        else:
            done, state = int(state.step) % num_batches, state._replace(shuffle_key=None)
        last = num_batches if num_steps is None else done + num_steps
        batches = np.asarray(draw_order(shuffle_key))[:last]
        chunks = [batches[first : first + block] for first in range(done, last, block)]
        first_bad = _none_bad(batch_size)
        with contextlib.closing(read_ahead(stream, chunks, block, binarization)) as blocks:
            for number, (chunk, xs) in enumerate(zip(chunks, blocks, strict=True)):
                before = first_bad.step
                indices = np.resize(chunk, (block, batch_size)).astype(np.int32)
                state, first_bad = train_block(state, first_bad, xs, indices, np.int32(len(chunk)))
                if on_block is not None and number + 1 < len(chunks):
                    on_block(state._replace(shuffle_key=shuffle_key), time.perf_counter() - start)
                # Wait for the previous block while the device processes this one, so that at most two are in flight.
                if int(before) >= 0:
                    break
        return (state if last == num_batches else state._replace(shuffle_key=shuffle_key)), first_bad

    def train_epochs(state: TrainState, num_epochs: int, num_steps: int = 0) -> tuple[TrainState, Progress]:
        start, first_bad = time.perf_counter(), _none_bad(batch_size)
        for count in [None] * num_epochs + [num_steps] * (num_steps > 0):
            state, first_bad = go_on(state, start, count)
            if int(first_bad.step) >= 0:
                break
        return state, Progress(jnp.float32(jnp.nan), *first_bad)

    return train_epochs


def _none_bad(batch_size: int) -> _FirstBad:
    return _FirstBad(jnp.int32(-1), jnp.zeros(batch_size, jnp.int32))


def _compile_block(
    step: MinibatchStep, state: TrainState, stream: Stream, binarization: Binarization, shape: tuple[int, int]
) -> Callable[..., tuple[TrainState, _FirstBad]]:
    """Compile a block of `shape` (minibatches, M): `(state, first_bad, xs, indices, count) -> (state, first_bad)`.

    The number of minibatches to train, `count`, is an argument, so that the end of an epoch needs no separate program.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def train_block(
        state: TrainState, first_bad: _FirstBad, xs: Datapoint, indices: jax.Array, count: jax.Array
    ) -> tuple[TrainState, _FirstBad]:
        def body(i: jax.Array, carry: tuple[TrainState, _FirstBad]) -> tuple[TrainState, _FirstBad]:
            state, first_bad = carry
            after, loss = step(state, stream.intensities(rows(xs, i), binarization), indices[i])
            none_yet = first_bad.step < 0
            here = _FirstBad(jnp.where(jnp.isfinite(loss), -1, state.step), indices[i])
            return after, jax.tree.map(functools.partial(jnp.where, none_yet), here, first_bad)

        return jax.lax.fori_loop(0, count, body, (state, first_bad))

    if jax.config.values["jax_disable_jit"]:
        return train_block
    datapoints = stream.read(np.zeros(1, np.int32))
    xs = row_template(datapoints, shape)
    indices = jax.ShapeDtypeStruct(shape, jnp.int32)
    abstract = (state._replace(shuffle_key=None), _none_bad(shape[1]), xs, indices, jnp.int32(0))
    return train_block.lower(*abstract).compile()
