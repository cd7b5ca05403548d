"""Checks of your own images and labels. The error message of each check is one line that says what to do."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aevb.arguments import describe
from aevb.data.source import DatasetError

_BLOCK = 1 << 24  # bytes of an array that are checked at a time

SHAPES = "[N, H, W], [N, H, W, C] or [N, D]"


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array in blocks of rows, so that an array mapped from a file need not fit in memory."""
    rows = max(1, _BLOCK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def check_images(images: Any, where: str, max_value: int | None) -> tuple[np.ndarray, int]:
    """Return images as uint8 or float32, and the value of full intensity.

    Args:
      images: `[N, H, W]`, `[N, H, W, C]` or `[N, D]`: uint8, booleans, or floats in [0, 1].
      where: the name of the images in messages.
      max_value: the uint8 value of full intensity, 1 to 255; `None` is 255.

    Returns:
      An array of the same shape, sharing the memory if the dtype allows it, and its `max_value`, which is 1 for floats.

    Raises:
      DatasetError: the images have another shape or dtype, are empty, contain NaN, or have values out of range.
    """
    array = as_array(images, where)
    _check_shape(array, where)
    if array.dtype == bool:
        _refuse_max_value(max_value, where, "booleans")
        return array.view(np.uint8), 1
    if array.dtype.kind == "f":
        _refuse_max_value(max_value, where, "floats")
        return _check_floats(array, where), 1
    if array.dtype != np.uint8:
        _refuse_integers(array, where)
    return array.view(), _check_bytes(array, where, max_value)


def as_array(values: Any, where: str) -> np.ndarray:
    """Return a NumPy array of numbers, booleans or strings, or raise `DatasetError`."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise DatasetError(f"{where} is a masked array with missing values: fill them, as in {where}.filled(0)")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{where} cannot be made one array ({reason}): all rows must have the same shape") from None
    if array.dtype.hasobject or array.dtype.kind not in "biufUS":
        raise DatasetError(
            f"{where} is an array of dtype {array.dtype}, not of numbers: save it as uint8, or as float32 in [0, 1]"
        )
    return array


def _check_shape(array: np.ndarray, where: str) -> None:
    shape = array.shape
    if array.ndim not in (2, 3, 4):
        hint = ": pass a single image as image[None]" if array.ndim == 1 else ""
        raise DatasetError(f"{where} has shape {shape}, but images must be {SHAPES}{hint}")
    if 0 in shape:
        raise DatasetError(f"{where} is empty: its shape is {shape}")
    if array.ndim == 3 and array.dtype == np.uint8 and shape[-1] in (3, 4) and min(shape[:2]) > 4:
        raise DatasetError(
            f"{where} has shape {shape}, which looks like one colour image: images must be {SHAPES}, with N first"
        )
    if array.ndim == 4 and shape[1] in (1, 3) and shape[3] > 4:
        raise DatasetError(
            f"{where} has shape {shape}, which looks like channels first: convert it to [N, H, W, C] with "
            f"numpy.moveaxis(images, 1, -1)"
        )


def _check_floats(array: np.ndarray, where: str) -> np.ndarray:
    low, high = np.inf, -np.inf
    start = 0
    for block in blocks(array):
        smallest, largest = block.min(), block.max()
        if not (np.isfinite(smallest) and np.isfinite(largest)):
            bad = ~np.isfinite(block).reshape(len(block), -1).all(axis=1)
            row = start + int(np.argmax(bad))
            raise DatasetError(f"{where} has NaN or infinite values, first in image {row}: replace or remove them")
        low, high, start = min(low, float(smallest)), max(high, float(largest)), start + len(block)
    if low < 0 or high > 1:
        way = "(images + 1) / 2 from [-1, 1]" if low >= -1 and high <= 1 else "images / 255 for pixels"
        raise DatasetError(f"{where} has floats from {low:g} to {high:g}: scale them to [0, 1], for example {way}")
    return array.view() if array.dtype == np.float32 else array.astype(np.float32)


def _check_bytes(array: np.ndarray, where: str, max_value: int | None) -> int:
    highest = max(int(block.max()) for block in blocks(array))
    if max_value is None:
        if highest <= 1:
            raise DatasetError(
                f"{where} is uint8 with no value above {highest}: pass max_value=1 if 1 is white, else max_value=255"
            )
        return 255
    if highest > max_value:
        raise DatasetError(f"a pixel of {where} is {highest}, above max_value={max_value}")
    return max_value


def _refuse_integers(array: np.ndarray, where: str) -> None:
    if array.dtype.kind not in "iu":
        raise DatasetError(f"{where} has dtype {array.dtype}: images must be uint8, or floats in [0, 1]")
    low, high = int(array.min()), int(array.max())
    if low >= 0 and high <= 255:
        way = "convert them with images.astype(numpy.uint8)"
    elif low >= 0 and high <= 65535:
        way = "(images / 65535).astype(numpy.float32) keeps 16 bits, (images // 257).astype(numpy.uint8) the upper 8"
    else:
        way = "scale them to floats in [0, 1]"
    raise DatasetError(f"{where} is {array.dtype} from {low} to {high}, not uint8 or floats in [0, 1]: {way}")


def _refuse_max_value(max_value: int | None, where: str, what: str) -> None:
    if max_value is not None:
        raise DatasetError(f"max_value={max_value} is for uint8, but {where} holds {what}: leave it out")


def check_labels(
    labels: Mapping[str, tuple[Any, str]], sizes: Mapping[str, int], names: tuple[str, ...] | None
) -> tuple[dict[str, np.ndarray | None], tuple[str, ...] | None]:
    """Return the labels of each split as classes `[N]` int64, and the names of the classes if they have any.

    Strings are numbered in alphabetical order over all splits.

    Args:
      labels: for each split, the labels `[N]` or `[N, 1]`, or `None`, and their name in messages.
      sizes: for each split, N.
      names: the names of numeric classes, in order.

    Raises:
      DatasetError: the labels have another length, are neither integers nor strings, are negative, or lack a name.
    """
    found = {split: _one_column(given, sizes[split], where) for split, (given, where) in labels.items()}
    present = {split: each for split, each in found.items() if each is not None}
    if not present:
        return found, None
    strings = [each.dtype.kind in "US" for each in present.values()]
    if any(strings):
        if not all(strings):
            raise DatasetError("labels of some splits are strings and of others numbers: use either for all")
        if names is not None:
            raise DatasetError("label_names are for numeric labels, but the labels are strings")
        texts = {split: _decoded(each) for split, each in present.items()}
        names = tuple(sorted(set().union(*(set(each.tolist()) for each in texts.values()))))
        numbers = {split: np.searchsorted(np.array(names), each) for split, each in texts.items()}
    else:
        for split, each in present.items():
            _check_classes(each, labels[split][1], names)
        numbers = present
    return {split: numbers[split].astype(np.int64) if split in numbers else None for split in found}, names


def _one_column(labels: Any, size: int, where: str) -> np.ndarray | None:
    if labels is None:
        return None
    array = as_array(labels, f"the labels of {where}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = ": convert one-hot labels with labels.argmax(1)" if array.ndim == 2 else ""
        raise DatasetError(f"the labels of {where} have shape {array.shape}, not [N]{hint}")
    if len(array) != size:
        raise DatasetError(f"{where} has {size} images but {len(array)} labels")
    if array.dtype.kind == "f":
        raise DatasetError(
            f"the labels of {where} are {array.dtype}: classes must be integers, as in labels.astype(numpy.int64)"
        )
    return array


def _decoded(labels: np.ndarray) -> np.ndarray:
    return labels if labels.dtype.kind == "U" else np.char.decode(labels, "utf-8", "backslashreplace")


def _check_classes(labels: np.ndarray, where: str, names: tuple[str, ...] | None) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= 2**63:
        raise DatasetError(f"the labels of {where} range from {low} to {high}: classes must be 0 or more")
    if names is not None and high >= len(names):
        raise DatasetError(f"the labels of {where} go up to {high}, but there are {len(names)} label_names")


def check_names(names: Any) -> tuple[str, ...] | None:
    """Return the names of classes as a tuple, or raise `TypeError`."""
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"label_names must be a sequence of strings, got {describe(names)}")
    return tuple(names)
