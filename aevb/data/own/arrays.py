"""Arrays, and `.npy` and `.npz` files of arrays, which are never unpickled."""

import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aevb.data.own.contents import SPLIT_WORDS, Contents, Options, Part
from aevb.data.source import DatasetError

OPTIONS = ("max_value", "image_key", "label_key")

_IMAGE_WORDS = {"images", "image", "imgs", "img", "x", "data", "pixels", "features", "samples", "arr"}
_SEQUENCE_WORDS = {"values", "sequences", "series", "rolls"}
_LENGTH_WORDS = {"lengths", "length"}
_LABEL_WORDS = {"labels", "label", "y", "targets", "target", "classes", "class"}


def read(spec: str, options: Options) -> Contents:
    """Read a `.npy` or `.npz` file; see `from_arrays`."""
    path = Path(os.path.expanduser(spec))
    if path.suffix.lower() == ".npy":
        for key in ("image_key", "label_key"):
            if getattr(options, key) is not None:
                raise ValueError(f"{key} is for .npz files with several arrays, but {path} holds one array")
        return Contents(path.stem, {"train": Part(read_npy(path), None, str(path))})
    return Contents(path.stem, _parts(path, read_npz(path), options))


def is_path(value: Any) -> bool:
    """Return whether `value` is a path instead of an array."""
    return isinstance(value, str | os.PathLike)


def read_npy(path: Path) -> np.ndarray:
    """Map a `.npy` file into memory. Its values are read when they are used.

    Raises:
      DatasetError: the file is missing, damaged, or holds Python objects.
    """
    check_file(path)
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # On damaged input, NumPy's parser can raise almost any error. All mean the same here.
        raise DatasetError(_unreadable(path, ".npy", error)) from None


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an `.npz` file, except those of Python objects.

    Raises:
      DatasetError: the file is missing or damaged, or holds only arrays of Python objects.
    """
    check_file(path)
    arrays, objects = {}, []
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                array = _read_member(archive, info)
                if array is None:
                    objects.append(name)
                else:
                    arrays[name] = array
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DatasetError(_unreadable(path, ".npz", error)) from None
    except MemoryError:
        raise DatasetError(f"{path} does not fit in memory: save its images as an uncompressed .npy file") from None
    if not arrays:
        held = f"only Python objects, {', '.join(objects)}" if objects else "no array"
        raise DatasetError(f"{path} holds {held}: save numbers with numpy.savez(path, images=images, labels=labels)")
    return arrays


def check_file(path: Path) -> None:
    """Raise `DatasetError` unless `path` is a file that can be opened and is not empty."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise DatasetError(f"{path} is not a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise DatasetError(f"{path} is empty (0 bytes)")
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetError(f"{str(path)!a} is not a path: {error}") from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray | None:
    """Return one array of an archive, or `None` if it holds Python objects."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            return None
        size = math.prod(shape) * dtype.itemsize
        if size > info.file_size:  # refused before anything is allocated
            raise ValueError(f"{info.filename} declares {size:,} bytes but has {info.file_size:,}")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _unreadable(path: Path, kind: str, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Python objects" in reason:
        return f"{path} holds Python objects, which are not read: save numbers, such as images.astype(numpy.uint8)"
    save = f"numpy.save{'z' if kind == '.npz' else ''}"
    return f"{path} is damaged or not a {kind} file ({reason}): write it with {save}"


def _parts(path: Path, arrays: Mapping[str, np.ndarray], options: Options) -> dict[str, Part]:
    """Find images or sequences, labels and lengths among named arrays: `x_train`, `train_images`, `labels`, `arr_0`."""
    tables: dict[str, dict[str, str]] = {"images": {}, "labels": {}, "lengths": {}}
    has_lengths = any(_meaning(name, options, True)[1] == "lengths" for name in arrays)
    for name in arrays:
        split, role = _meaning(name, options, has_lengths)
        if role is not None:
            if split in tables[role]:
                keys = {"images": "choose with image_key=", "labels": "choose with label_key=", "lengths": "keep one"}
                raise DatasetError(f"{path} has two arrays of {role}, {tables[role][split]} and {name}: {keys[role]}")
            tables[role][split] = name
    images, labels, lengths = tables.values()
    if options.image_key is None and not images:
        known = {*labels.values(), *lengths.values()}
        unknown = [name for name in arrays if name not in known and arrays[name].ndim > 1]
        if len(unknown) != 1:
            raise DatasetError(
                f"{path} holds {', '.join(arrays)}, but none is named images, x or data: choose one with image_key="
            )
        if not has_lengths and arrays[unknown[0]].ndim == 3 and _SEQUENCE_WORDS.intersection(_words(unknown[0])):
            raise DatasetError(
                f"{path} has {unknown[0]} but no lengths, which sequences need: use numpy.full(N, T) if each has all T "
                f"steps; choose images with image_key="
            )
        images = {next(iter(labels | lengths), "train"): unknown[0]}
    for key, table in (("image_key", images), ("label_key", labels)):
        if getattr(options, key) is not None and not table:
            raise DatasetError(f"{path} has no array {getattr(options, key)!r}: it holds {', '.join(arrays)}")
    _check_splits(path, images, labels)
    _check_splits(path, images, lengths, "lengths")
    found = lambda table, split: arrays[table[split]] if split in table else None
    return {
        split: Part(arrays[name], found(labels, split), f"{path}[{name!r}]", found(lengths, split))
        for split, name in images.items()
    }


def _meaning(name: str, options: Options, has_lengths: bool) -> tuple[str, str | None]:
    """Return the split and the role of an array, `None` if it has none. `values` are sequences if there are lengths."""
    words = _words(name)
    split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")
    rest = [word for word in words if word not in SPLIT_WORDS and not word.isdigit()]
    if options.image_key is not None and name == options.image_key:
        return split, "images"
    if options.label_key is not None and name == options.label_key:
        return split, "labels"
    if len(rest) == 1 and rest[0] in _LENGTH_WORDS:
        return split, "lengths"
    words_of_values = _IMAGE_WORDS | _SEQUENCE_WORDS if has_lengths else _IMAGE_WORDS
    if len(rest) == 1 and rest[0] in words_of_values and options.image_key is None:
        return split, "images"
    if len(rest) == 1 and rest[0] in _LABEL_WORDS and options.label_key is None:
        return split, "labels"
    return split, None


def _words(name: str) -> list[str]:
    return name.lower().replace("-", "_").replace(".", "_").split("_")


def _check_splits(path: Path, images: Mapping[str, str], others: Mapping[str, str], role: str = "labels") -> None:
    if alone := others.keys() - images.keys():
        raise DatasetError(f"{path} has {role}, {others[alone.pop()]}, without images of the same split")
    if "train" not in images:
        raise DatasetError(f"{path} has {', '.join(images.values())} but no images to train on")
