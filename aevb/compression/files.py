"""The file format, and the checks of a file before it is decoded.

    magic 5 bytes | version 1 | model 16 | flags 1 | [environment 16] | shape | N | runs of raw datapoints
    [lanes, words of the seed, grids, number of words | heads | words] | raw datapoints | zeros | checksum 16

Counts are stored as 7 bits per byte, the lowest bits first; the highest bit is set if another byte follows. The
checksum covers everything before it. A file is padded with zeros to at least one byte per datapoint, so that a few
bytes cannot declare a number of datapoints that fills the memory.
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
      log2_lanes: the binary logarithm of the largest chunk.
      num_seed_words: the number of seed words below the message; decoding returns them.
      grids: the grids of the levels, in the order of q.
      heads: the heads of the lanes, `[B]` uint64.
      words: the tail, `[n]` uint32.
    """

    log2_lanes: int
    num_seed_words: int
    grids: list[Grid]
    heads: np.ndarray
    words: np.ndarray


class Contents(NamedTuple):
    """The contents of a file.

    Attributes:
      digest: the digest of the model.
      environment: the fingerprint of the environment that can decode the file; empty if any environment can.
      shape: the shape of one datapoint.
      white: the pixel value that the model sees as its largest value: 1 or 255.
      is_raw: `[N]`, whether a datapoint is stored raw and not in the message.
      raw: the raw datapoints in order, with one byte per value, or one bit for values of 0 and 1.
      message: the other datapoints; `None` if there are none.
    """

    digest: bytes
    environment: bytes
    shape: tuple[int, ...]
    white: int
    is_raw: np.ndarray
    raw: bytes
    message: Message | None


def write(contents: Contents) -> bytes:
    """Return the bytes of a file."""
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
    """Raise `CompressionError` unless `data` is a complete file of this version. No model is needed."""
    if data[: len(MAGIC)] != MAGIC:
        raise CompressionError("this is not a file of compressed images: its first bytes are not those of the format")
    if data[len(MAGIC) :][:1] not in (b"", bytes([VERSION])):
        raise CompressionError(f"the file has format {data[len(MAGIC)]}, but this version reads format {VERSION}")
    if _checksum(data[:-NUM_DIGEST_BYTES]) != data[-NUM_DIGEST_BYTES:]:
        raise CompressionError("the file is damaged or cut short: its checksum does not match its contents")


def read(data: bytes, digest: bytes, environment: bytes, num_levels: int, bits_per_value: int) -> Contents:
    """Return the contents of a file.

    Args:
      data: a file that `check` accepts.
      digest: the digest of the model that decodes it.
      environment: the fingerprint of the environment of that model; empty if it computes the same numbers everywhere.
      num_levels: the number of levels of latents.
      bits_per_value: the number of bits per raw value.

    Raises:
      CompressionError: the file belongs to another model or environment, or is inconsistent.
    """
    reader = _Reader(data[:-NUM_DIGEST_BYTES], len(MAGIC) + 1)
    if reader.bytes(NUM_DIGEST_BYTES) != digest:
        raise CompressionError("the file was compressed with another model, or with other parameters of this one")
    flags = reader.bytes(1)[0]
    if flags > (_IS_WHITE_255 | _HAS_ENVIRONMENT):
        raise CompressionError(f"the file has flags that this version does not know: {flags}")
    if reader.bytes(NUM_DIGEST_BYTES if flags & _HAS_ENVIRONMENT else 0) != environment:
        raise CompressionError(
            "the file was compressed in an environment where this model computes different numbers: with another "
            "version of JAX, on another kind of device or with other settings. It can be read only there"
        )
    shape = tuple(reader.counts(reader.count(_MOST_AXES)))
    size = reader.count(len(data))  # at least one byte per datapoint
    is_raw = _is_raw(reader, size)
    num_raw = int(np.count_nonzero(is_raw))
    message = None if num_raw == size else _message(reader, num_levels)
    raw = reader.bytes(-(-num_raw * math.prod(shape) * bits_per_value // 8))
    if any(reader.bytes(min(reader.remaining, len(data)))):
        raise _inconsistent("data follow its end")
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
    """Return pairs of run lengths: the number of datapoints that are not raw, then the number of raw ones."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], is_raw, [False]])))
    return np.diff(np.concatenate([[0], changes])).tolist()


class _Reader:
    """A reader that starts at a given place and never reads beyond the end."""

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
        """Return a count, which must not exceed `most`."""
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
            raise _inconsistent(f"it has a count of {value:,} where at most {most:,} is possible")
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
    return CompressionError(f"the file is inconsistent, although its checksum is right: {reason}")
