"""Streams of data that do not fit in device memory or in host memory, read ahead in blocks by Grain's threads."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import check_integers
from aevb.data.binarization import Binarization, binarize_once, check_binarization, check_block
from aevb.model import Given


class RandomAccessSource(Protocol):
    """Records by position, such as a TFDS data source, an ArrayRecord file, a memory-mapped array or a list.

    If the source has a method `__getitems__(list of int) -> records`, as TFDS sources do, it is used to read whole
    blocks.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """A data set that is read during training, which replaces an array in `aevb.fit` and `aevb.evaluate`.

    Datapoints are sent to the device as they are stored and become floats there. About `num_threads + 2` blocks of
    `block_size` datapoints are in memory at a time.

    Attributes:
      source: the records, read from several threads at once; or an array, or a `Given` of two arrays, `[N, ...]`.
      transform: a function `record -> datapoint`, for example `lambda record: record["image"].reshape(-1)`. It returns
        a NumPy array, a pytree of arrays or a `Given`. `None` if the records are datapoints already.
      max_value: the value of uint8 or uint16 pixels that becomes 1; 0 becomes 0. Integers of other dtypes and
        conditions are unchanged.
      block_size: the number of datapoints read and sent at a time; training rounds it to whole minibatches.
      num_threads: the number of blocks read concurrently.
    """

    source: RandomAccessSource | np.ndarray | Given
    transform: Callable[[Any], Any] | None = None
    max_value: float | None = None
    block_size: int = 5000
    num_threads: int = 2

    def __post_init__(self) -> None:
        check_integers(block_size=self.block_size, num_threads=self.num_threads)
        for name in ("block_size", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of a Stream must be at least 1, got {getattr(self, name)}")
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.max_value is not None and not 0 < self.max_value < float("inf"):
            raise ValueError(f"max_value of a Stream must be positive and finite, got {self.max_value}")
        if isinstance(self.source, Given):
            self._check_given(self.source)

    def _check_given(self, source: Given) -> None:
        leaves = jax.tree.leaves(source)
        if self.transform is not None or not all(isinstance(leaf, np.ndarray) and leaf.ndim for leaf in leaves):
            raise TypeError(
                "a Stream of a Given needs NumPy arrays [N, ...] and no transform; for other records, use a transform "
                "that returns a Given"
            )
        if len(sizes := {len(leaf) for leaf in leaves}) > 1:
            raise ValueError(f"every array of a Stream must have the same number of rows, got {sorted(sizes)}")

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.source)[0] if isinstance(self.source, Given) else self.source)

    def read(self, indices: np.ndarray) -> Any:
        """Return the datapoints at `indices` `[n]` as they are stored, with leaves `[n, ...]`.

        Raises:
          ValueError: a pixel is above `max_value`.
        """
        datapoints = self._read(indices)
        if self.max_value is not None:
            for pixels in filter(_is_pixels, jax.tree.leaves(_value(datapoints))):
                if len(pixels) and (highest := pixels.max()) > self.max_value:
                    raise ValueError(f"a pixel of the Stream is {highest}, above its max_value of {self.max_value:g}")
        return datapoints

    def _read(self, indices: np.ndarray) -> Any:
        if isinstance(self.source, np.ndarray | Given) and self.transform is None:
            # The `take` method of a memory map is slower.
            return jax.tree.map(lambda array: np.take(np.asarray(array), indices, axis=0), self.source)
        positions = [int(index) for index in indices]
        read_many = getattr(self.source, "__getitems__", None)
        records: Sequence[Any] = read_many(positions) if read_many else [self.source[i] for i in positions]
        datapoints = records if self.transform is None else [self.transform(record) for record in records]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *datapoints)

    def intensities(self, datapoints: Any, binarization: Binarization) -> Any:
        """Return datapoints on the device with pixels as floats, after `binarize_once`."""
        if isinstance(datapoints, Given):
            return datapoints._replace(value=self.intensities(datapoints.value, binarization))
        return binarize_once(jax.tree.map(self._scaled, datapoints), binarization)

    def check(self, binarization: Binarization) -> None:
        """Read one datapoint, and raise `ValueError` if this stream cannot be used for training."""
        check_binarization(binarization)
        if binarization == "fixed":
            raise ValueError(
                'binarization="fixed" draws a whole array once, which a Stream does not hold: binarize the source '
                'beforehand, or use "stochastic"'
            )
        if len(self) == 0:
            return
        dtypes = {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(_value(self.read(np.zeros(1, np.int32))))}
        if self.max_value is None and (pixels := dtypes & _PIXELS):
            raise ValueError(f"data are pixels of {pixels.pop()}: give the Stream a max_value to scale them")
        if self.max_value is not None and not dtypes & _PIXELS:
            found = ", ".join(sorted(map(str, dtypes)))
            raise ValueError(f"max_value of a Stream scales uint8 and uint16, not {found}")

    def _scaled(self, pixels: Any) -> Any:
        if self.max_value is None or not _is_pixels(pixels):
            return pixels
        # A lookup, because a compiled division may round differently from NumPy's, which other data sets use.
        values = np.arange(jnp.iinfo(pixels.dtype).max + 1).astype(pixels.dtype)
        return jnp.asarray(values / np.float32(self.max_value))[pixels]


_PIXELS = {np.dtype(np.uint8), np.dtype(np.uint16)}


def _is_pixels(leaf: Any) -> bool:
    return np.dtype(leaf.dtype) in _PIXELS


def _value(datapoints: Any) -> Any:
    return datapoints.value if isinstance(datapoints, Given) else datapoints


def blocks_in_order(stream: Stream, binarization: Binarization) -> Iterator[tuple[int, Any, int]]:
    """Yield every block of a stream once: its start, its datapoints, and the number of datapoints that count.

    All blocks have the same size, so that one program serves all of them; padding of the last block does not count.
    """
    stream.check(binarization)
    size = len(stream)
    block_size = min(stream.block_size, size)
    prepare = jax.jit(functools.partial(stream.intensities, binarization=binarization))
    chunks = [np.arange(start, min(start + block_size, size)) for start in range(0, size, block_size)]
    with contextlib.closing(read_ahead(stream, chunks, block_size)) as blocks:
        for chunk, xs in zip(chunks, blocks, strict=True):
            yield int(chunk[0]), prepare(xs), len(chunk)


def read_ahead(
    stream: Stream, chunks: Sequence[np.ndarray], size: int, binarization: Binarization = "grey"
) -> Generator[Any]:
    """Yield one block `[size, ...]` on the device per chunk of indices `[n, ...]`.

    Grain's threads read and send the blocks. If n is less than `size`, the rest of the block is zero.

    Raises:
      ValueError: the data cannot be binarized; see `check_intensities`.
    """
    # Imported late: it takes half a second, and only streams need it.
    import grain

    def load(chunk: np.ndarray) -> Any:
        def shaped(leaf: np.ndarray) -> np.ndarray:
            leaf = leaf.reshape(*chunk.shape, *leaf.shape[1:])
            rest = np.zeros((size - len(chunk), *leaf.shape[1:]), leaf.dtype)
            return np.concatenate([leaf, rest]) if len(rest) else leaf

        datapoints = stream.read(chunk.reshape(-1))
        check_block(datapoints, binarization)
        return jax.device_put(jax.tree.map(shaped, datapoints))

    options = grain.ReadOptions(num_threads=stream.num_threads, prefetch_buffer_size=stream.num_threads)
    blocks = grain.MapDataset.source(chunks).map(load).to_iter_dataset(options)
    with contextlib.closing(iter(blocks)) as iterator:
        yield from iterator
