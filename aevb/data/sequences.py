"""Sequences of different lengths in one array, in which NaN marks padding after the end and values not observed.

Padding is never inferred from zeros, because a silent step is an observation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import describe
from aevb.model import Given


def padded(values: Any, lengths: Any) -> np.ndarray:
    """Return float32 sequences `[N, T, D]` that are NaN after their ends.

    Args:
      values: numbers `[N, T, D]`, or one sequence `[T, D]`. Values after an end are ignored. A NaN before it marks a
        value that was not observed, and is kept.
      lengths: integers `[N]`, or one integer, from 1 to T.

    Raises:
      ValueError: the shapes do not match, or a length is out of range.
      TypeError: the lengths are not integers.
    """
    values, lengths = np.asarray(values), np.asarray(lengths)
    check_lengths(values, lengths)
    ends = np.arange(values.shape[-2]) >= lengths[..., None]
    return np.where(ends[..., None], np.float32(np.nan), values.astype(np.float32))


def lengths_of(x: Any) -> Any:
    """Return the position after the last step with an observed value, int32 `[...]`.

    Args:
      x: sequences `[..., T, D]` that are NaN after their ends, as a NumPy array or a JAX array, which may be traced.

    Returns:
      The lengths, as an array of the same kind; 0 for a sequence without any observed value.
    """
    library: Any = jnp if isinstance(x, jax.Array) else np
    is_seen = ~library.all(library.isnan(x), axis=-1)
    after = library.arange(1, is_seen.shape[-1] + 1, dtype=np.int32)
    return library.max(library.where(is_seen, after, 0), axis=-1).astype(np.int32)


def check_lengths(values: np.ndarray, lengths: np.ndarray) -> None:
    """Raise `ValueError` or `TypeError` with a one-line message unless lengths `[N]` match sequences `[N, T, D]`."""
    if values.ndim not in (2, 3):
        raise ValueError(f"sequences must have the shape [N, T, D], or [T, D] for one, got {values.shape}")
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, the number of steps of each sequence, got {describe(lengths)}")
    if lengths.shape != values.shape[:-2]:
        raise ValueError(
            f"lengths must have the shape {values.shape[:-2]}, one length per sequence of values {values.shape}, got "
            f"{lengths.shape}"
        )
    is_wrong = np.flatnonzero((lengths < 1) | (lengths > values.shape[-2]))
    if is_wrong.size:
        first = int(is_wrong[0])
        raise ValueError(
            f"lengths must be from 1 to the {values.shape[-2]} steps of values {values.shape}, but sequence {first} "
            f"has length {int(lengths.reshape(-1)[first])}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class LazySequences:
    """Sequences `[N, T, D]`, float32 and NaN after their ends, converted when rows are indexed.

    Attributes:
      values: `[N, T, D]`, uint8 from 0 to `max_value`, or floats, which are not scaled.
      lengths: `[N]` integers.
      max_value: the uint8 value that becomes 1.
    """

    values: np.ndarray
    lengths: np.ndarray
    max_value: int = 1
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, T, D)`."""
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return the rows `index`, or with a tuple `[rows, steps, values]` a part of them, as sharding needs."""
        rows, *others = index if isinstance(index, tuple) else (index,)
        values = self.values[rows]
        values = values if values.dtype.kind == "f" else values / np.float32(self.max_value)
        found = padded(values, self.lengths[rows])
        return found[(..., *others, *[slice(None)] * (2 - len(others)))]


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceRecords:
    """Sequences as records for a `Stream`, each as `Given(sequence, label)` if there are labels.

    Attributes:
      sequences: all sequences.
      labels: `[N]` int32, or `None`.
    """

    sequences: LazySequences
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: Any) -> Any:
        return self.sequences[index] if self.labels is None else Given(self.sequences[index], self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        values = self.sequences[np.asarray(indices, np.int64)]
        return list(values) if self.labels is None else list(map(Given, values, self.labels[indices]))
