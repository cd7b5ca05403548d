"""The file: what it says of itself, checked before anything is made of it.

    magic 5 bytes | version 1 | model 16 | flags 1 | [environment 16] | shape | N | runs of raw datapoints
    [lanes, words of the seed, grids, number of words | heads | words] | raw datapoints | zeros | checksum 16

Counts are of 7 bits per byte, the lowest first, the highest bit set where another byte follows. The checksum is of all
that is before it. A file has at least one byte per datapoint, if need be by zeros, so that nobody's memory is filled by
a few bytes.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from aevb.compression.bits_back import LARGEST_LANES
from aevb.compression.errors import CompressionError
from aevb.compression.grids import Grid
from aevb.compression.probabilities import NUM_DIGEST_BYTES
from aevb.compression.rans import pack_heads, unpack_heads

MAGIC = b"\x8baevb"
VERSION = 1

_IS_WHITE_255, _HAS_ENVIRONMENT = 1, 2
_MOST_AXES = 8
_LARGEST_COUNT = 1 << 48


class Message(NamedTuple):
    """The datapoints on a stack.

    Attributes:
      log2_lanes: what chunks grow up to.
      num_seed_words: words of the seed under the message, which are given back when it is decoded.
      grids: of the levels, in the order of q.
      heads: `[B]` uint64.
      words: `[n]` uint32.
    """

    log2_lanes: int
    num_seed_words: int
    grids: list[Grid]
    heads: np.ndarray
    words: np.ndarray


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
      digest: of the model.
      environment: where the model computes what it computed; empty for anywhere.
      shape: of one datapoint.
      white: what a pixel is that the model sees as its largest value: 1 or 255.
      is_raw: `[N]`, which datapoints are not in the message.
      raw: these, one after the other, as bytes, or bits of 0 and 1.
      message: the others; `None` where there are none.
    """

    digest: bytes
    environment: bytes
    shape: tuple[int, ...]
    white: int
    is_raw: np.ndarray
    raw: bytes
    message: Message | None


def write(contents: Contents) -> bytes:
    """Return the file."""
    flags = (_IS_WHITE_255 if contents.white == 255 else 0) | (_HAS_ENVIRONMENT if contents.environment else 0)
    parts = [MAGIC, bytes([VERSION]), contents.digest, bytes([flags]), contents.environment]
    parts.append(_counts(len(contents.shape), *contents.shape, len(contents.is_raw)))
    runs = _runs(contents.is_raw)
    parts.append(_counts(len(runs) // 2, *runs))
    if contents.message is not None:
        log2_lanes, num_seed_words, grids, heads, words = contents.message
        parts.append(_counts(log2_lanes, len(heads), num_seed_words, *(each for grid in grids for each in grid)))
        parts += [_counts(len(words)), pack_heads(heads), words.astype("<u4").tobytes()]
    parts.append(contents.raw)
    whole = b"".join(parts)
    whole += bytes(max(len(contents.is_raw) - len(whole) - NUM_DIGEST_BYTES, 0))
    return whole + _checksum(whole)


def check(data: bytes) -> None:
    """Raise `CompressionError` unless `data` are a whole file of this version: before a model is looked at."""
    if data[: len(MAGIC)] != MAGIC:
        raise CompressionError("this is no file of compressed images: it does not begin as one")
    if data[len(MAGIC) :][:1] not in (b"", bytes([VERSION])):
        raise CompressionError(f"the file is of format {data[len(MAGIC)]}, this version reads format {VERSION}")
    if _checksum(data[:-NUM_DIGEST_BYTES]) != data[-NUM_DIGEST_BYTES:]:
        raise CompressionError("the file is damaged or cut short: its checksum is another than that of its contents")


def read(data: bytes, digest: bytes, environment: bytes, num_levels: int, bits_per_value: int) -> Contents:
    """Return what a file holds.

    Args:
      data: the file, which `check` accepts.
      digest: of the model that is to decode it.
      environment: where that model computes; empty for anywhere.
      num_levels: levels of its latents.
      bits_per_value: of a value that is raw.

    Raises:
      CompressionError: it is of another model or environment, or contradicts itself.
    """
    reader = _Reader(data[:-NUM_DIGEST_BYTES], len(MAGIC) + 1)
    if reader.bytes(NUM_DIGEST_BYTES) != digest:
        raise CompressionError("the file was compressed with another model, or with other parameters of this one")
    flags = reader.bytes(1)[0]
    if flags > (_IS_WHITE_255 | _HAS_ENVIRONMENT):
        raise CompressionError(f"the file has flags that this version does not know: {flags}")
    if reader.bytes(NUM_DIGEST_BYTES if flags & _HAS_ENVIRONMENT else 0) != environment:
        raise CompressionError(
            "the file was compressed where this model computes other numbers: with another version of JAX, on another "
            "kind of device or with other settings. It can be read only there"
        )
    shape = tuple(reader.counts(reader.count(_MOST_AXES)))
    size = reader.count(len(data))  # at least one byte per datapoint
    is_raw = _is_raw(reader, size)
    num_raw = int(np.count_nonzero(is_raw))
    message = None if num_raw == size else _message(reader, num_levels)
    raw = reader.bytes(-(-num_raw * math.prod(shape) * bits_per_value // 8))
    if any(reader.bytes(min(reader.remaining, len(data)))):
        raise _inconsistent("there is something after its end")
    return Contents(digest, environment, shape, 255 if flags & _IS_WHITE_255 else 1, is_raw, raw, message)


def _message(reader: "_Reader", num_levels: int) -> Message:
    log2_lanes = reader.count(LARGEST_LANES)
    num_heads, num_seed_words = reader.count(1 << log2_lanes), reader.count(_LARGEST_COUNT)
    grids = [Grid(*reader.counts(2)) for _ in range(num_levels)]
    if not all(grid.is_valid() for grid in grids):
        raise _inconsistent("it has an impossible grid")
    num_words = reader.count(reader.remaining // 4)
    heads, num_bytes = unpack_heads(reader.peek(), num_heads)
    reader.bytes(num_bytes)
    words = np.frombuffer(reader.bytes(4 * num_words), "<u4")
    return Message(log2_lanes, num_seed_words, grids, heads, words)


def _is_raw(reader: "_Reader", size: int) -> np.ndarray:
    is_raw, place = np.zeros(size, bool), 0
    for _ in range(reader.count(size)):
        first = place + reader.count(size)
        place = first + reader.count(size)
        if place > size:
            raise _inconsistent("it has more raw images than images")
        is_raw[first:place] = True
    return is_raw


def _runs(is_raw: np.ndarray) -> list[int]:
    """Return how many are not raw, how many are, and so on, as pairs."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], is_raw, [False]])))
    return np.diff(np.concatenate([[0], changes])).tolist()


class _Reader:
    """Reads from a place on, and never beyond the end."""

    def __init__(self, data: bytes, place: int):
        self._data, self._place = data, place

    @property
    def remaining(self) -> int:
        return len(self._data) - self._place

    def peek(self) -> bytes:
        return self._data[self._place :]

    def bytes(self, number: int) -> bytes:
        if number > self.remaining:
            raise _inconsistent("it ends too early")
        found = self._data[self._place : self._place + number]
        self._place += number
        return found

    def count(self, most: int) -> int:
        """Return a count, which must not be above `most`."""
        value, shift = 0, 0
        while True:
            byte = self.bytes(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 63:
                raise _inconsistent("it has a count of more than 63 bits")
        if value > most:
            raise _inconsistent(f"it declares {value:,} of something of which there can be {most:,}")
        return value

    def counts(self, number: int) -> list[int]:
        return [self.count(_LARGEST_COUNT) for _ in range(number)]


def _counts(*values: int) -> bytes:
    found = bytearray()
    for value in values:
        while value > 127:
            found.append(value & 127 | 128)
            value >>= 7
        found.append(value)
    return bytes(found)


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:NUM_DIGEST_BYTES]


def _inconsistent(reason: str) -> CompressionError:
    return CompressionError(f"the file contradicts itself, although its checksum is right: {reason}")
