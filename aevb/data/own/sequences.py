"""Checks of your own sequences, values `[N, T, D]` and lengths `[N]`. Each check fails with a one-line message."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aevb.data.own.checks import as_array
from aevb.data.sequences import check_lengths
from aevb.data.source import DatasetError

_EXACT = 2**24  # integers up to here are exact in float32


class Sequences(NamedTuple):
    """Checked sequences.

    Attributes:
      values: `[N, T, D]` uint8, 0 after each end, or float32, NaN after each end and where a value was not observed.
      lengths: `[N]` int32.
      max_value: the uint8 value that becomes 1; 1 if values are not scaled.
    """

    values: np.ndarray
    lengths: np.ndarray
    max_value: int


def check_sequences(values: Any, lengths: Any, where: str, max_value: int | None) -> Sequences:
    """Return checked sequences, with the values after the ends removed.

    Args:
      values: `[N, T, D]` booleans, integers or floats. NaN before the end marks a value that was not observed.
      lengths: `[N]` integers, 1 to T.
      where: the name of the values in messages.
      max_value: the uint8 value that becomes 1; `None` does not scale integers.

    Raises:
      DatasetError: the shape or dtype is wrong, a length is out of range, or values are infinite.
    """
    array, lengths = as_array(values, where), as_array(lengths, f"the lengths of {where}")
    if array.ndim != 3 or 0 in array.shape:
        hint = f": pass a single channel as {where}[..., None]" if array.ndim == 2 else ""
        raise DatasetError(f"{where} has shape {array.shape}, but sequences with lengths must be [N, T, D]{hint}")
    try:
        check_lengths(array, lengths)
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{where}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DatasetError(f"{where} has dtype {array.dtype}: sequences must be numbers or booleans")
    is_before_end = (np.arange(array.shape[1]) < lengths[:, None])[..., None]
    if array.dtype in (bool, np.uint8):
        found = np.where(is_before_end, array, 0).astype(np.uint8)
        return Sequences(found, lengths.astype(np.int32), _max_value(found, where, max_value))
    if max_value is not None:
        raise DatasetError(f"max_value={max_value} is for uint8, but {where} holds {array.dtype}: leave it out")
    return Sequences(_floats(array, is_before_end, where), lengths.astype(np.int32), 1)


def same_length(splits: Mapping[str, Sequences]) -> dict[str, Sequences]:
    """Return the sequences of all splits, padded to the largest T.

    Raises:
      DatasetError: D or the dtypes differ between splits.
    """
    kinds = {split: f"{each.values.dtype} [N, T, {each.values.shape[2]}]" for split, each in splits.items()}
    for split, kind in kinds.items():
        if kind != kinds["train"]:
            raise DatasetError(f"the training sequences are {kinds['train']}, but those of {split} are {kind}")
    num_steps = max(each.values.shape[1] for each in splits.values())

    def longer(each: Sequences) -> Sequences:
        after = ((0, 0), (0, num_steps - each.values.shape[1]), (0, 0))
        padding = np.nan if each.values.dtype.kind == "f" else 0
        return each._replace(values=np.pad(each.values, after, constant_values=padding))

    return {split: longer(each) for split, each in splits.items()}


def _max_value(found: np.ndarray, where: str, max_value: int | None) -> int:
    if max_value is not None and (highest := int(found.max())) > max_value:
        raise DatasetError(f"a value of {where} is {highest}, above max_value={max_value}")
    return max_value or 1


def _floats(array: np.ndarray, is_before_end: np.ndarray, where: str) -> np.ndarray:
    # Two comparisons, because the lowest integer has no positive counterpart.
    is_large = is_before_end & ((array > _EXACT) | (array < -_EXACT))
    if array.dtype.kind in "iu" and is_large.any():
        raise DatasetError(f"{where} has integers above {_EXACT:,}, which are not exact in float32: scale them")
    with np.errstate(over="ignore"):
        found = np.where(is_before_end, array, np.nan).astype(np.float32)
    if (is_wrong := np.isinf(found).any(axis=(1, 2))).any():
        row = int(np.argmax(is_wrong))
        raise DatasetError(
            f"{where} has values that are infinite or too large for float32, first in sequence {row}: mark values not "
            f"observed with NaN"
        )
    if (is_empty := np.isnan(found).all(axis=(1, 2))).any():
        raise DatasetError(f"{where} has only NaN in sequence {int(np.argmax(is_empty))}: leave it out")
    return found
