"""Whole epochs, and parts of epochs, as one compiled program: shuffle, gather, step, repeat."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from aevb import sharding
from aevb.algorithms.base import Algorithm, Bucket, Loss, Progress, TrainState, check_algorithm, descent_step
from aevb.arguments import check_not_donated
from aevb.data.binarization import Binarization, binarize_batch, check_binarization
from aevb.data.rows import contiguous, num_rows, rows, rows_of
from aevb.model import Datapoint
from aevb.random_bits import fused, unfused

TrainEpochs: TypeAlias = Callable[[TrainState, Datapoint, int | jax.Array], tuple[TrainState, Progress]]
"""`(state, data, num_epochs) -> (state, progress)`."""

MinibatchStep: TypeAlias = Callable[[TrainState, Datapoint, jax.Array], tuple[TrainState, jax.Array]]
"""`(state, xs, indices) -> (state, loss)`."""


class DonatingProgram:
    """A compiled program that consumes its first argument, a state. Using that state again raises a clear error."""

    def __init__(self, program: jax.stages.Wrapped):
        """Wrap a program that donates the buffers of its first argument."""
        self._program = program

    def __call__(self, state: TrainState, *arguments: Any) -> Any:
        check_not_donated(state, "state")
        return self._program(state, *arguments)

    def trace(self, *arguments: Any) -> jax.stages.Traced:
        """Trace the program, like the method of a jitted function."""
        return self._program.trace(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Lower the program, like the method of a jitted function."""
        return self._program.lower(*arguments)


def make_train_step(loss: Loss, optimizer: optax.GradientTransformation) -> DonatingProgram:
    """Compile one update on one minibatch, `(state, xs) -> (state, loss)`. The state's buffers are donated.

    Args:
      loss: `(params, key, xs) -> []`, from `make_loss` or your own.
      optimizer: any optax transformation.
    """
    return DonatingProgram(jax.jit(descent_step(loss, optimizer), donate_argnums=0))


def make_train_epochs(algorithm: Algorithm, batch_size: int, binarization: Binarization = "grey") -> DonatingProgram:
    """Compile whole epochs, `(state, data, num_epochs) -> (state, progress)`, as one program.

    Shuffling, gathering, noise, gradient and update all happen on the device that holds `data`, leaves `[N, ...]`. The
    number of epochs is an argument of the program, so changing it does not recompile. An epoch has N // M minibatches;
    the N mod M datapoints that it leaves out differ from epoch to epoch. The state's buffers are donated.

    Args:
      algorithm: an algorithm from `auto_encoding`, from `descent` on your own loss, or from `aevb.algorithms`.
      batch_size: M.
      binarization: "stochastic" redraws the targets of every minibatch.
    """
    return compiled_epochs(minibatch_step(algorithm, binarization), batch_size, algorithm.bucket)


def compiled_epochs(step: MinibatchStep, batch_size: int, bucket: Bucket | None = None) -> DonatingProgram:
    """Do the same as `make_train_epochs`, for a `minibatch_step` and, optionally, the buckets of an algorithm."""
    return DonatingProgram(jax.jit(whole_epochs(step, batch_size, bucket), donate_argnums=0))


def whole_epochs(step: MinibatchStep, batch_size: int, bucket: Bucket | None = None) -> TrainEpochs:
    """Return the function that `compiled_epochs` compiles, so that it can be transformed first."""

    def train_epochs(state: TrainState, data: Datapoint, num_epochs: int | jax.Array) -> tuple[TrainState, Progress]:
        buckets = None if bucket is None else jax.vmap(bucket)(data)
        tables = contiguous(data)

        def epoch(_: jax.Array, carry: tuple[TrainState, Progress]) -> tuple[TrainState, Progress]:
            before, progress = carry
            key, shuffle_key = jax.random.split(before.key)
            batches = epoch_batches(shuffle_key, num_rows(data), batch_size, buckets)
            state, losses = jax.lax.scan(
                lambda state, indices: step(state, rows_of(tables, data, indices), indices),
                before._replace(key=key),
                batches,
            )
            return state, _first_bad(progress, before.step, losses, batches)

        _, loss = jax.eval_shape(step, state, rows(data, slice(batch_size)), jnp.arange(batch_size))
        nothing = Progress(jnp.zeros((), loss.dtype), jnp.int32(-1), jnp.zeros(batch_size, jnp.int32))
        return jax.lax.fori_loop(0, num_epochs, epoch, (state, nothing))

    return train_epochs


def part_of_epoch(
    step: MinibatchStep, batch_size: int, bucket: Bucket | None = None
) -> Callable[..., tuple[TrainState, Progress]]:
    """Return minibatches of one epoch, `(state, data, first, last) -> (state, progress)`, not compiled.

    They are minibatches `first` to `last - 1` in the order that the state's `shuffle_key` draws. The code mirrors an
    epoch of `whole_epochs` so that it compiles alike. The numbers are arguments of the program, and `shuffle_key` stays
    in the state.
    """

    def train_part(
        state: TrainState, data: Datapoint, first: int | jax.Array, last: int | jax.Array
    ) -> tuple[TrainState, Progress]:
        buckets = None if bucket is None else jax.vmap(bucket)(data)
        batches = epoch_batches(jnp.asarray(state.shuffle_key), num_rows(data), batch_size, buckets)
        tables = contiguous(data)

        def body(number: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, losses = carry
            indices = jax.lax.dynamic_index_in_dim(batches, number, keepdims=False)
            state, loss = step(state, rows_of(tables, data, indices), indices)
            return state, jax.lax.dynamic_update_index_in_dim(losses, loss, number, axis=0)

        inside = state._replace(shuffle_key=None)
        _, loss = jax.eval_shape(step, inside, rows(data, slice(batch_size)), jnp.arange(batch_size))
        losses = jnp.zeros(len(batches), loss.dtype)
        after, losses = jax.lax.fori_loop(first, last, body, (inside, losses))
        bad = ~jnp.isfinite(losses)  # the loss of a minibatch that was not done is 0
        number = jnp.where(jnp.any(bad), jnp.argmax(bad), last - 1)
        first_bad_step = jnp.where(jnp.any(bad), state.step + (number - first).astype(jnp.int32), -1)
        progress = Progress(jnp.sum(losses) / (last - first), first_bad_step, batches[number].astype(jnp.int32))
        return after._replace(shuffle_key=state.shuffle_key), progress

    return train_part


def epoch_batches(key: jax.Array, dataset_size: int, batch_size: int, buckets: jax.Array | None = None) -> jax.Array:
    """Return the minibatches of one epoch, in order: indices `[N // M, M]`.

    Args:
      key: the key of the order.
      dataset_size: N.
      batch_size: M.
      buckets: `[N]`, the bucket number of each datapoint. If given, the datapoints of an epoch are sorted by bucket, in
        random order within each, consecutive ones form minibatches, and the order of the minibatches is random.
    """
    num_batches = dataset_size // batch_size
    order = jax.random.permutation(key, dataset_size)[: num_batches * batch_size]
    if buckets is None:
        return order.reshape(num_batches, batch_size)
    order = order[jnp.argsort(buckets[order], stable=True)]
    batches = order.reshape(num_batches, batch_size)
    return jax.random.permutation(jax.random.fold_in(key, 1), batches)


def minibatch_step(algorithm: Algorithm, binarization: Binarization) -> MinibatchStep:
    """Return the algorithm's step on a raw minibatch: it is split over the mesh and binarized, and the key is fused."""
    check_algorithm(algorithm)
    check_binarization(binarization)

    @jax.jit  # only called inside jitted functions, but jitted so that it is traced only once
    def step(state: TrainState, xs: Datapoint, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        key = fused(state.key)
        key, binarize_key = jax.random.split(key) if binarization == "stochastic" else (key, key)
        xs = binarize_batch(binarize_key, sharding.split(xs, sharding.BATCH), binarization)
        state, loss = algorithm.step(state._replace(key=key), xs, indices)
        return state._replace(key=unfused(state.key)), loss

    return step


def _first_bad(progress: Progress, start: jax.Array, losses: jax.Array, batches: jax.Array) -> Progress:
    """Return the progress after an epoch that started at step `start` and has losses `[N // M]`."""
    bad = ~jnp.isfinite(losses)
    number = jnp.where(jnp.any(bad), jnp.argmax(bad), len(bad) - 1)
    here = jnp.where(jnp.any(bad), start + number.astype(jnp.int32), -1), batches[number].astype(jnp.int32)
    known = progress.first_bad_step >= 0
    first = jax.tree.map(functools.partial(jnp.where, known), tuple(progress[1:]), here)
    return Progress(jnp.mean(losses), *first)
