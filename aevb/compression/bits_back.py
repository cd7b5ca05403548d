"""Bits-back coding of data sets (Townsend et al. 2019), in chunks whose datapoints are coded in parallel.

For each chunk, an encoder pops z from the stack with q(z|x), pushes x with p(x|z), and pushes z with p(z). The net cost
is log q(z|x) - log p(x, z), on average the negative lower bound. The first pop consumes initial bits, which are lost.
Therefore the first chunk is one datapoint, and chunks grow with the number of datapoints coded.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from aevb.compression import tables
from aevb.compression.coders import ByCumulative, Coder, bits_of
from aevb.compression.errors import CompressionError
from aevb.compression.probabilities import Grids, Probabilities, Step, X
from aevb.compression.rans import Stack, random_words

OnChunk = Callable[[int], None]

LARGEST_LANES = 10
"""The binary logarithm of the largest number of lanes."""

_GROWTH = 3  # a chunk is at most 1 / _GROWTH of the datapoints coded before it
_MEMORY = 1 << 23  # the largest number of decoder outputs per chunk
_NUM_CALIBRATION = 256  # datapoints used to choose the grids
_NUM_TRIES = 3  # attempts to encode a chunk, each without the datapoints that the model expanded before


class Coded(NamedTuple):
    """Datapoints on a stack.

    Attributes:
      is_raw: `[N]`, whether a datapoint is left out because the model would expand it.
      stack: the stack with all other datapoints.
      grids: the grids of the levels.
      log2_lanes: the binary logarithm of the largest chunk.
    """

    is_raw: np.ndarray
    stack: Stack
    grids: Grids
    log2_lanes: int


def largest_chunk(model: Probabilities) -> int:
    """Return the binary logarithm of the largest chunk whose decoder outputs fit into a fixed amount of memory."""
    return min(max((_MEMORY // (model.data_size * model.num_outputs)).bit_length() - 1, 0), LARGEST_LANES)


def chunk_sizes(num_datapoints: int, log2_lanes: int) -> Iterator[int]:
    """Yield the sizes of the chunks in order."""
    done = 0
    while done < num_datapoints:
        size = _chunk_size(done, num_datapoints - done, log2_lanes)
        yield size
        done += size


def encode(model: Probabilities, x: np.ndarray, on_chunk: OnChunk | None = None) -> Coded:
    """Encode datapoints `[N, D]` onto a stack.

    Args:
      model: the integer distributions.
      x: whole numbers in 0..num_values - 1.
      on_chunk: called after every chunk with the number of datapoints done.
    """
    stack, is_raw, done = Stack(random_words), np.zeros(len(x), bool), 0
    grids = model.grids(x[:_NUM_CALIBRATION], len(x))
    # A lane costs 5 bits at the end: about 0.1 % of the file if the model compresses fivefold.
    log2_lanes = min(largest_chunk(model), max((len(x) * _raw_bits(model) >> 14).bit_length() - 1, 0))
    pending = np.arange(len(x))
    while len(pending):
        size = _chunk_size(done, len(pending), log2_lanes)
        left_out, pending = _encode_chunk(model, stack, x, pending, size, grids)
        is_raw[left_out] = True
        done = len(x) - len(pending) - int(np.count_nonzero(is_raw))
        if on_chunk is not None:
            on_chunk(len(x) - len(pending))
    return Coded(is_raw, stack, grids, log2_lanes)


def decode(
    model: Probabilities,
    stack: Stack,
    num_datapoints: int,
    grids: Grids,
    log2_lanes: int,
    on_chunk: OnChunk | None = None,
) -> Iterator[np.ndarray]:
    """Yield the chunks of datapoints `[b, D]` on a stack, the last one first.

    After the last chunk the stack holds only the seed.

    Raises:
      CompressionError: the stack cannot be decoded.
    """
    if log2_lanes > largest_chunk(model):
        raise CompressionError(f"the file has chunks of {1 << log2_lanes:,} images, which need too much memory")
    sizes = list(chunk_sizes(num_datapoints, log2_lanes))
    largest = np.maximum.accumulate([0, *sizes]).tolist()
    if len(stack.heads) != largest[-1]:
        raise CompressionError(f"the file has {len(stack.heads)} lanes, but its chunks need {largest[-1]}")
    done = 0
    for size, before in zip(reversed(sizes), reversed(largest[:-1]), strict=True):
        known: dict[str, np.ndarray] = {}
        for step in reversed(model.steps):
            _undo(model, stack, step, known, grids, size)
        stack.close_lanes(before)
        done += size
        if on_chunk is not None:
            on_chunk(done)
        yield known[X]


def _chunk_size(done: int, remaining: int, log2_lanes: int) -> int:
    return min(1 << log2_lanes, max(1, done // _GROWTH), remaining)


def _raw_bits(model: Probabilities) -> int:
    """Return the number of bits of a datapoint stored without a model."""
    return model.data_size * (1 if model.num_values == 2 else 8)


def _encode_chunk(
    model: Probabilities, stack: Stack, x: np.ndarray, pending: np.ndarray, size: int, grids: Grids
) -> tuple[list[int], np.ndarray]:
    """Encode the next `size` datapoints that the model does not expand, or all of them if fewer remain.

    Returns:
      The indices of the datapoints that were left out, and of those still pending.
    """
    raw_bits = _raw_bits(model) << tables.LOG_UNIT
    left_out: list[int] = []
    for attempt in range(_NUM_TRIES):
        chosen, rest = pending[:size], pending[size:]
        restore = stack.saved(len(chosen) * (1 + sum(model.levels.values())))
        stack.open_lanes(len(chosen))
        bits, known = np.zeros(len(chosen), np.int64), {X: x[chosen].astype(np.int64)}
        for step in model.steps:
            bits += _do(model, stack, step, known, grids)
        expands = bits > raw_bits
        if not expands.any() or attempt == _NUM_TRIES - 1:
            return left_out, rest
        restore()
        left_out += chosen[expands].tolist()
        pending = np.concatenate([chosen[~expands], rest])
        if not len(pending):
            break
    return left_out, pending


def _do(model: Probabilities, stack: Stack, step: Step, known: dict[str, np.ndarray], grids: Grids) -> np.ndarray:
    """Take one step of an encoder and return its cost per datapoint, `[b]` in units of 2^-16 bits."""
    if step.is_pop:
        coder = model.posterior(step.name, known, grids)
        known[step.name] = coder.pop(stack)
        assert isinstance(coder, ByCumulative)
        return -bits_of(coder.intervals(known[step.name])[1])
    coder = _generative(model, step.name, known, grids, len(known[X]))
    return bits_of(coder.push(stack, known[step.name]))


def _undo(
    model: Probabilities, stack: Stack, step: Step, known: dict[str, np.ndarray], grids: Grids, size: int
) -> None:
    if step.is_pop:
        model.posterior(step.name, known, grids).push(stack, known[step.name])
    else:
        known[step.name] = _generative(model, step.name, known, grids, size).pop(stack)


def _generative(model: Probabilities, name: str, known: dict[str, np.ndarray], grids: Grids, size: int) -> Coder:
    return model.likelihood(known, grids) if name == X else model.prior(name, known, grids, size)
