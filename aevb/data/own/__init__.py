"""Data of one's own: arrays, files of arrays, folders of pictures, and data sets prepared by other libraries.

Each kind is a file here with a `read(spec, options) -> Contents`, and a line in `KINDS`.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aevb.arguments import describe
from aevb.data.dataset import Splits
from aevb.data.own import arrays as _arrays
from aevb.data.own.checks import check_names
from aevb.data.own.contents import Colour, Contents, Options, Part, make_splits
from aevb.data.source import DatasetError


class Kind(NamedTuple):
    """One kind of data.

    Attributes:
      what: to call it in a message.
      takes: whether a spec is of this kind.
      module: with `read(spec, options)` and the names of its `OPTIONS`.
    """

    what: str
    takes: Callable[[str], bool]
    module: str


def _has_suffix(*suffixes: str) -> Callable[[str], bool]:
    return lambda spec: Path(spec).suffix.lower() in suffixes and not _is_folder(spec)


def _is_folder(spec: str) -> bool:
    return os.path.isdir(os.path.expanduser(spec))  # which, unlike Path, is False for what cannot be a path


KINDS = (
    Kind("tfds:NAME", lambda spec: spec.startswith("tfds:"), "aevb.data.own.tfds"),
    Kind("hf:NAME", lambda spec: spec.startswith("hf:"), "aevb.data.own.huggingface"),
    Kind("a .npy or .npz file", _has_suffix(".npy", ".npz"), "aevb.data.own.arrays"),
    Kind("a folder of PNG or JPEG files", _is_folder, "aevb.data.own.folder"),
)


def load_own(
    spec: str | os.PathLike,
    *,
    image_size: int | None = None,
    colour: Colour | None = None,
    skip_unreadable: bool = False,
    max_value: int | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    data_dir: str | os.PathLike | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Read one's own data by a path or a name.

    A test split of the data's own is honoured. Where there is none, a random 10 % by seed 0 are set aside for testing.

    Args:
      spec: a `.npy` or `.npz` file of images, an `.npz` file of sequences, `values` `[N, T, D]` and
        `lengths` `[N]`, a folder of PNG or JPEG files, `tfds:NAME` (prepared in `data_dir`),
        `tfds:/path/of/prepared/data`, `hf:NAME`, `hf:NAME:CONFIG` or `hf:/path/of/saved/data`.
      image_size: of pictures, which are cropped to their central square and resized to this many pixels a side.
      colour: "rgb" or "grey", to which every picture is converted.
      skip_unreadable: leave unreadable pictures out with one warning, and count them, rather than refuse.
      max_value: the value of uint8 that means full intensity; by default 255.
      image_key: the name of the images, where there are several arrays or features.
      label_key: the name of the labels, likewise.
      data_dir: where prepared TFDS data sets are; `None` is TFDS's own default.
      test_fraction: the part that is set aside for testing where the data have no test split.
      seed: of that random choice.

    Returns:
      `Splits(train, valid, test)`, with `valid=None` where the data have no validation split of their own.

    Raises:
      DatasetError: the data cannot be had, or cannot be modelled as they are.
      ValueError: an option is out of range, or of another kind of data.
    """
    options = Options(
        image_size=image_size,
        colour=colour,
        skip_unreadable=skip_unreadable,
        max_value=max_value,
        image_key=image_key,
        label_key=label_key,
        data_dir=data_dir,
        test_fraction=test_fraction,
        seed=seed,
    )
    if not isinstance(spec, str | os.PathLike):
        raise TypeError(f"load_own takes a path or a name, got {describe(spec)}: from_arrays takes arrays")
    return make_splits(_read(os.fspath(spec), options), options)


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    test: Any = None,
    test_labels: Any = None,
    valid: Any = None,
    valid_labels: Any = None,
    lengths: Any = None,
    test_lengths: Any = None,
    valid_lengths: Any = None,
    name: str | None = None,
    label_names: Sequence[str] | None = None,
    max_value: int | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Make a data set of arrays, or of the paths of files that hold them.

    Args:
      images: `[N, H, W]`, `[N, H, W, C]` or `[N, D]`; uint8, booleans, or floats in [0, 1]. Or the path of a `.npy`
        file, which is mapped and read when it is used, or of an `.npz` file, whose own splits and labels are found by
        their names: `images` and `labels`, `x_train`, `y_train`, `x_test` and `y_test`.
      labels: `[N]`, integers from 0 or strings, or the path of a `.npy` file of them.
      test: images to test on, as `images`; by default a random part of `images`.
      test_labels: their labels.
      valid: images to validate on, as `images`.
      valid_labels: their labels.
      lengths: `[N]` integers where `images` are sequences `[N, T, D]` of any numbers: how many steps each has. What is
        after them is not looked at, and what is NaN before was not observed.
      test_lengths: those of `test`.
      valid_lengths: those of `valid`.
      name: of the data set; by default the file's.
      label_names: of the classes 0, 1, ...
      max_value: the value of uint8 that means full intensity; by default 255.
      image_key: the name of the images in an `.npz` file.
      label_key: the name of the labels in an `.npz` file.
      test_fraction: the part that is set aside for testing where there is no `test`.
      seed: of that random choice.

    Returns:
      `Splits(train, valid, test)`, with `valid=None` where there is none.

    Raises:
      DatasetError: a file cannot be read, or its arrays cannot be modelled as they are.
      ValueError: an argument is out of range or has no use.
      TypeError: an argument is of another type.
    """
    options = Options(
        max_value=max_value, image_key=image_key, label_key=label_key, test_fraction=test_fraction, seed=seed
    )
    contents = _read_arrays(images, options)
    parts = dict(contents.parts)
    given = {"train": (None, labels), "valid": (valid, valid_labels), "test": (test, test_labels)}
    for split, (more_images, more_labels) in given.items():
        if more_images is not None:
            if split in parts:
                raise ValueError(f"{parts[split].where} has a {split} split of its own: leave {split}= out")
            parts[split] = _only_part(split, _read_arrays(more_images, options, split))
        if more_labels is not None:
            parts[split] = _with_labels(parts, split, more_labels)
    for split, more_lengths in (("train", lengths), ("valid", valid_lengths), ("test", test_lengths)):
        if more_lengths is not None:
            if split not in parts:
                raise ValueError(f"{split}_lengths are given without {split}=")
            if parts[split].lengths is not None:
                raise ValueError(f"{parts[split].where} has lengths of its own: leave the others out")
            parts[split] = parts[split]._replace(lengths=more_lengths)
    return make_splits(Contents(name or contents.name, parts, check_names(label_names)), options)


def from_folder(
    path: str | os.PathLike,
    image_size: int | None = None,
    skip_unreadable: bool = False,
    *,
    colour: Colour | None = None,
    max_value: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Read a folder of PNG and JPEG files, in the order of their names.

    Subfolders are classes, whose names are kept; subfolders that are called train, test and valid are splits. EXIF
    rotations are applied. Files that are hidden or of other kinds are ignored. Needs Pillow.

    Args:
      path: of the folder.
      image_size: crop every picture to its central square and resize it to this many pixels a side; needed where they
        differ in size.
      skip_unreadable: leave unreadable pictures out with one warning, and count them, rather than refuse.
      colour: convert every picture to "rgb" or "grey"; needed where they differ.
      max_value: the value that means full intensity; by default 255.
      test_fraction: the part that is set aside for testing where there is no subfolder of tests.
      seed: of that random choice.

    Returns:
      `Splits(train, valid, test)` of images `[N, H, W]`, or `[N, H, W, 3]` in colour.

    Raises:
      DatasetError: no pictures, pictures that differ, or one that cannot be read; it is named.
      ValueError: an argument is out of range.
    """
    options = Options(
        image_size=image_size,
        skip_unreadable=skip_unreadable,
        colour=colour,
        max_value=max_value,
        test_fraction=test_fraction,
        seed=seed,
    )
    if not _arrays.is_path(path):
        raise TypeError(f"from_folder takes the path of a folder, got {describe(path)}")
    spec = os.fspath(path)
    if not _is_folder(spec):
        raise DatasetError(_problem(spec, "is not a folder"))
    return make_splits(importlib.import_module("aevb.data.own.folder").read(spec, options), options)


def _read(spec: str, options: Options) -> Contents:
    for kind in KINDS if spec.strip() else ():
        if kind.takes(spec):
            module = importlib.import_module(kind.module)
            options.check_taken(kind.what, module.OPTIONS)
            return module.read(spec, options)
    kinds = ", ".join(kind.what for kind in KINDS)
    raise DatasetError(f"{_problem(spec, 'is of no kind that is read')}: it may be {kinds}")


def _problem(spec: str, otherwise: str) -> str:
    """Say why there is nothing at a path, or else what is wrong with it."""
    if not spec.strip():
        return "the data are an empty path"
    is_there = os.path.exists(os.path.expanduser(spec))
    return f"{ascii(spec) if not spec.isprintable() else spec} {otherwise if is_there else 'does not exist'}"


def _only_part(split: str, contents: Contents) -> Part:
    if len(contents.parts) > 1:
        raise ValueError(f"{split}= takes the images of one split, but {contents.name} has {', '.join(contents.parts)}")
    return contents.parts["train"]


def _read_arrays(images: Any, options: Options, where: str = "images") -> Contents:
    if not _arrays.is_path(images):
        return Contents("arrays", {"train": Part(images, None, where)})
    spec = os.fspath(images)
    if not _has_suffix(".npy", ".npz")(spec):
        raise DatasetError(f"{spec} is no .npy or .npz file; load_own and from_folder read other kinds")
    return _arrays.read(spec, options)


def _with_labels(parts: dict[str, Part], split: str, labels: Any) -> Part:
    if split not in parts:
        raise ValueError(f"{split}_labels are given without {split}=")
    if parts[split].labels is not None:
        raise ValueError(f"{parts[split].where} has labels of its own: leave the others out")
    if _arrays.is_path(labels):
        if Path(labels).suffix.lower() != ".npy":
            raise DatasetError(f"{os.fspath(labels)} is no .npy file of labels")
        labels = _arrays.read_npy(Path(os.path.expanduser(labels)))
    return parts[split]._replace(labels=labels)
