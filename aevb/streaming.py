"""Training on data that do not fit in device memory, or in any: blocks of records, read ahead by Grain's threads.

The order is drawn on the device by the key that draws it for data in memory, so that a run does not depend on where its
data are: only the indices of an epoch, `[N]`, are ever held at once.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import check_integers
from aevb.datasets.binarization import Binarization, binarize_once, check_binarization


class RandomAccessSource(Protocol):
    """Records by their position: a TFDS data source, an ArrayRecord file, a memory-mapped array, a list.

    Where there is a `__getitems__(list of int) -> records`, as TFDS has it, whole blocks are read by it.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """A data set that is read while it is trained on, in place of an array, for `aevb.fit` and `aevb.evaluate`.

    Datapoints cross to the device as they are stored and become floats there. About `num_threads + 2` blocks of
    `block_size` datapoints are held at a time.

    Attributes:
      source: the records; read from several threads at once.
      transform: `record -> [...]`, a record's datapoint as a NumPy array: `lambda record: record["image"].reshape(-1)`.
        `None` where the records are datapoints already.
      max_value: for integer datapoints, the value that becomes 1; 0 becomes 0.
      block_size: datapoints that are read and sent at a time; rounded to whole minibatches in training.
      num_threads: blocks that are read at once.
    """

    source: RandomAccessSource | np.ndarray
    transform: Callable[[Any], np.ndarray] | None = None
    max_value: float | None = None
    block_size: int = 5000
    num_threads: int = 2

    def __post_init__(self):
        check_integers(block_size=self.block_size, num_threads=self.num_threads)
        for name in ("block_size", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a Stream must be at least 1, got {getattr(self, name)}")
        if self.max_value is not None and not 0 < self.max_value < float("inf"):
            raise ValueError(f"max_value of a Stream must be positive and finite, got {self.max_value}")

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The datapoints at `indices` `[n]`, as they are stored: `[n, ...]`."""
        if isinstance(self.source, np.ndarray) and self.transform is None:
            return np.take(np.asarray(self.source), indices, axis=0)  # a memory map's own `take` is slower
        positions = [int(index) for index in indices]
        read_many = getattr(self.source, "__getitems__", None)
        records: Sequence[Any] = read_many(positions) if read_many else [self.source[i] for i in positions]
        return np.stack(records if self.transform is None else [self.transform(record) for record in records])

    def intensities(self, datapoints: jax.Array, binarization: Binarization) -> jax.Array:
        """On the device, what was read, as float and after `binarize_once`."""
        if self.max_value is not None:
            # Looked up, because a compiled division need not round as NumPy's does, from which other data come.
            values = np.arange(jnp.iinfo(datapoints.dtype).max + 1).astype(datapoints.dtype)
            datapoints = jnp.asarray(values / np.float32(self.max_value))[datapoints]
        return binarize_once(datapoints, binarization)

    def check(self, binarization: Binarization) -> None:
        """Reads one datapoint and raises `ValueError` where this stream cannot be trained on."""
        check_binarization(binarization)
        if binarization == "fixed":
            raise ValueError(
                'binarization="fixed" is one draw for a whole array, which a Stream does not hold: binarize the '
                'source beforehand, or use "stochastic"'
            )
        if len(self) == 0:
            return
        dtype = self.read(np.zeros(1, np.int32)).dtype
        if self.max_value is None and not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"data must be floating-point, got {dtype}: give the Stream a max_value to scale by")
        if self.max_value is not None and dtype not in (np.uint8, np.uint16):
            raise ValueError(f"max_value of a Stream scales uint8 and uint16, not {dtype}")


def blocks_in_order(stream: Stream, binarization: Binarization) -> Iterator[tuple[int, jax.Array, int]]:
    """All of a stream once: where each block starts, its datapoints as floats, and how many of them count.

    All blocks have one size, so that one program does for them; what fills the last one up does not count.
    """
    stream.check(binarization)
    size = len(stream)
    block_size = min(stream.block_size, size)
    prepare = jax.jit(functools.partial(stream.intensities, binarization=binarization))
    chunks = [np.arange(start, min(start + block_size, size)) for start in range(0, size, block_size)]
    with contextlib.closing(_read_ahead(stream, chunks, block_size)) as blocks:
        for chunk, xs in zip(chunks, blocks, strict=True):
            yield int(chunk[0]), prepare(xs), len(chunk)


def _read_ahead(stream: Stream, chunks: Sequence[np.ndarray], size: int) -> Generator[jax.Array]:
    """For each of `chunks` of indices `[n, ...]` a block `[size, ...]` on the device, read and sent by Grain's threads.

    Where n is less than `size`, the rest of the block is zero.
    """
    # Imported late: it takes half a second, and only streams need it.
    import grain

    def load(chunk: np.ndarray) -> jax.Array:
        datapoints = stream.read(chunk.reshape(-1))
        datapoints = datapoints.reshape(*chunk.shape, *datapoints.shape[1:])
        if len(chunk) < size:
            rest = np.zeros((size - len(chunk), *datapoints.shape[1:]), datapoints.dtype)
            datapoints = np.concatenate([datapoints, rest])
        return jax.device_put(datapoints)

    options = grain.ReadOptions(num_threads=stream.num_threads, prefetch_buffer_size=stream.num_threads)
    blocks = grain.MapDataset.source(chunks).map(load).to_iter_dataset(options)
    with contextlib.closing(iter(blocks)) as iterator:
        yield from iterator


def compile_epochs(
    step: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]],
    epoch_batches: Callable[[jax.Array], jax.Array],
    state: Any,
    stream: Stream,
    binarization: Binarization,
    on_block: Callable[[Any, float], None] | None = None,
) -> Callable[[Any, int], tuple[Any, jax.Array, jax.Array]]:
    """Whole epochs over a stream, compiled; the same order, noise and updates as in `aevb.make_train_epochs`.

    A state in mid-epoch holds the key of that epoch's order, its `shuffle_key`: what is left of the epoch is done first
    and counts as one.

    Args:
      step: `(state, xs, indices) -> (state, loss)` for a minibatch of floats `[M, ...]`.
      epoch_batches: `key -> [N // M, M]`, the order of an epoch.
      state: a `TrainState` like those that will be trained; its values are not used.
      stream: what is trained on.
      binarization: as for `make_train_epochs`, but not "fixed".
      on_block: called after every block but an epoch's last, with the state and the seconds since the call that it is
        part of.

    Returns:
      `(state, num_epochs) -> (state, first_bad_step, indices)`, the last two as in `Progress`; training ends soon after
      a bad step. The state's buffers are donated.
    """
    stream.check(binarization)
    order = jax.eval_shape(epoch_batches, state.key)
    num_batches, batch_size = order.shape
    # Blocks of one size, so that the last has little left to be filled up.
    num_blocks = -(-num_batches * batch_size // stream.block_size)
    block = -(-num_batches // num_blocks)
    train_block = _compile_block(step, state, stream, binarization, (block, batch_size))
    draw_order = jax.jit(epoch_batches)

    def finish_epoch(state: Any, start: float) -> tuple[Any, jax.Array, jax.Array]:
        done, shuffle_key = 0, state.shuffle_key
        if shuffle_key is None:
            key, shuffle_key = jax.random.split(state.key)
            state = state._replace(key=key)
        else:
            done, state = int(state.step) % num_batches, state._replace(shuffle_key=None)
        batches = np.asarray(draw_order(shuffle_key))
        chunks = [batches[start : start + block] for start in range(done, num_batches, block)]
        latest, bad_indices = jnp.int32(-1), jnp.zeros(batch_size, jnp.int32)
        with contextlib.closing(_read_ahead(stream, chunks, block)) as blocks:
            for number, (chunk, xs) in enumerate(zip(chunks, blocks, strict=True)):
                indices = np.resize(chunk, (block, batch_size))
                before = latest
                state, latest, bad_indices = train_block(state, latest, bad_indices, xs, indices, len(chunk))
                if on_block is not None and number + 1 < len(chunks):
                    on_block(state._replace(shuffle_key=shuffle_key), time.perf_counter() - start)
                # Waits for the block before, while the device has this one: no more than two are under way.
                if int(before) >= 0:
                    break
        return state, latest, bad_indices

    def train_epochs(state: Any, num_epochs: int) -> tuple[Any, jax.Array, jax.Array]:
        start, first_bad_step, bad_indices = time.perf_counter(), jnp.int32(-1), jnp.zeros(batch_size, jnp.int32)
        for _ in range(num_epochs):
            state, first_bad_step, bad_indices = finish_epoch(state, start)
            if int(first_bad_step) >= 0:
                break
        return state, first_bad_step, bad_indices

    return train_epochs


def _compile_block(
    step: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]],
    state: Any,
    stream: Stream,
    binarization: Binarization,
    shape: tuple[int, int],
) -> Callable[..., tuple[Any, jax.Array, jax.Array]]:
    """One block of `shape` (minibatches, M): `(state, *first_bad, xs, indices, count) -> (state, *first_bad)`.

    `first_bad` is the first bad step and the indices of its minibatch, or of the last one's where none is. The number
    of minibatches in it, `count`, is an argument, so that the end of an epoch needs no program of its own.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def train_block(
        state: Any,
        first_bad_step: jax.Array,
        bad_indices: jax.Array,
        xs: jax.Array,
        indices: jax.Array,
        count: jax.Array,
    ) -> tuple[Any, jax.Array, jax.Array]:
        def body(i: jax.Array, carry: tuple[Any, jax.Array, jax.Array]) -> tuple[Any, jax.Array, jax.Array]:
            state, first_bad_step, bad_indices = carry
            after, loss = step(state, stream.intensities(xs[i], binarization), indices[i])
            none_yet = first_bad_step < 0
            here = jnp.where(jnp.isfinite(loss), -1, state.step)
            return after, jnp.where(none_yet, here, first_bad_step), jnp.where(none_yet, indices[i], bad_indices)

        return jax.lax.fori_loop(0, count, body, (state, first_bad_step, bad_indices))

    datapoint = stream.read(np.zeros(1, np.int32))[0]
    xs = jax.ShapeDtypeStruct((*shape, *datapoint.shape), datapoint.dtype)
    indices = jax.ShapeDtypeStruct(shape, jnp.int32)
    first_bad = jnp.int32(-1), jnp.zeros(shape[1], jnp.int32)
    return train_block.lower(state._replace(shuffle_key=None), *first_bad, xs, indices, jnp.int32(0)).compile()
