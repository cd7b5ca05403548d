"""Your own data: arrays, files of arrays, folders of pictures, and data sets prepared by other libraries.

Each kind of data has a module here with a function `read(spec, options) -> Contents`, and a line in `KINDS`.
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
      what: the name of the kind in messages.
      takes: a function that returns whether a spec is of this kind.
      module: the module with `read(spec, options)` and the names of its `OPTIONS`.
    """

    what: str
    takes: Callable[[str], bool]
    module: str


def _has_suffix(*suffixes: str) -> Callable[[str], bool]:
    return lambda spec: Path(spec).suffix.lower() in suffixes and not _is_folder(spec)


def _is_folder(spec: str) -> bool:
    return os.path.isdir(os.path.expanduser(spec))  # unlike Path.is_dir, False for a string that cannot be a path


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
    """Read your own data by a path or a name.

    If the data have no test split of their own, a random 10 % is set aside for testing with seed 0.

    Args:
      spec: a `.npy` or `.npz` file of images, an `.npz` file of sequences, `values` `[N, T, D]` and
        `lengths` `[N]`, a folder of PNG or JPEG files, `tfds:NAME` (prepared in `data_dir`),
        `tfds:/path/of/prepared/data`, `hf:NAME`, `hf:NAME:CONFIG` or `hf:/path/of/saved/data`.
      image_size: the side in pixels to which pictures are resized, after cropping to their central square.
      colour: "rgb" or "grey", to which every picture is converted.
      skip_unreadable: whether to skip unreadable pictures with one warning and count them, instead of raising an error.
      max_value: the uint8 value of full intensity; by default 255.
      image_key: the name of the images, if there are several arrays or features.
      label_key: the name of the labels, if there are several arrays or features.
      data_dir: the folder of prepared TFDS data sets; `None` is TFDS's default.
      test_fraction: the fraction set aside for testing if the data have no test split.
      seed: the seed for that random choice.

    Returns:
      `Splits(train, valid, test)`, with `valid=None` if the data have no validation split of their own.

    Raises:
      DatasetError: the data are not available, or cannot be modelled as they are.
      ValueError: an option is out of range, or belongs to another kind of data.
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
        raise TypeError(f"load_own takes a path or a name, got {describe(spec)}: use from_arrays for arrays")
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
    """Make a data set from arrays, or from the paths of files that contain arrays.

    Args:
      images: `[N, H, W]`, `[N, H, W, C]` or `[N, D]`; uint8, booleans, or floats in [0, 1]. Or the path of a `.npy`
        file, which is memory-mapped, or of an `.npz` file, whose splits and labels are found by their names: `images`
        and `labels`, `x_train`, `y_train`, `x_test` and `y_test`.
      labels: `[N]`, integers from 0 or strings, or the path of a `.npy` file of them.
      test: images for testing, in the form of `images`; by default a random part of `images`.
      test_labels: the labels of `test`.
      valid: images for validation, in the form of `images`.
      valid_labels: the labels of `valid`.
      lengths: `[N]` integers, the number of steps of each sequence, if `images` are sequences `[N, T, D]` of numbers.
        Values after the end are ignored; NaN before the end marks values that were not observed.
      test_lengths: the lengths of `test`.
      valid_lengths: the lengths of `valid`.
      name: the name of the data set; by default that of the file.
      label_names: the names of the classes 0, 1, ...
      max_value: the uint8 value of full intensity; by default 255.
      image_key: the name of the images in an `.npz` file.
      label_key: the name of the labels in an `.npz` file.
      test_fraction: the fraction set aside for testing if `test` is not given.
      seed: the seed for that random choice.

    Returns:
      `Splits(train, valid, test)`, with `valid=None` if there is no validation split.

    Raises:
      DatasetError: a file cannot be read, or its arrays cannot be modelled as they are.
      ValueError: an argument is out of range or not applicable.
      TypeError: an argument has the wrong type.
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
                raise ValueError(f"{parts[split].where} has lengths of its own: do not pass others")
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

    Subfolders are classes, named after the folders; subfolders called train, test and valid are splits. EXIF rotations
    are applied. Hidden files and files of other kinds are ignored. Pillow is required.

    Args:
      path: the path of the folder.
      image_size: the side in pixels to which pictures are resized, after cropping to their central square; needed if
        their sizes differ.
      skip_unreadable: whether to skip unreadable pictures with one warning and count them, instead of raising an error.
      colour: "rgb" or "grey", to which every picture is converted; needed if they differ.
      max_value: the value of full intensity; by default 255.
      test_fraction: the fraction set aside for testing if there is no subfolder for testing.
      seed: the seed for that random choice.

    Returns:
      `Splits(train, valid, test)` of images `[N, H, W]`, or `[N, H, W, 3]` in colour.

    Raises:
      DatasetError: there are no pictures, they differ, or one of them, which the message names, cannot be read.
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
    raise DatasetError(f"{_problem(spec, 'is not a supported kind of data')}: supported are {kinds}")


def _problem(spec: str, otherwise: str) -> str:
    """Describe why nothing can be read at a path; `otherwise` applies if the path exists."""
    if not spec.strip():
        return "the path of the data is empty"
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
        raise DatasetError(f"{spec} is not a .npy or .npz file; load_own and from_folder read other kinds")
    return _arrays.read(spec, options)


def _with_labels(parts: dict[str, Part], split: str, labels: Any) -> Part:
    if split not in parts:
        raise ValueError(f"{split}_labels are given without {split}=")
    if parts[split].labels is not None:
        raise ValueError(f"{parts[split].where} has labels of its own: do not pass others")
    if _arrays.is_path(labels):
        if Path(labels).suffix.lower() != ".npy":
            raise DatasetError(f"{os.fspath(labels)} is not a .npy file of labels")
        labels = _arrays.read_npy(Path(os.path.expanduser(labels)))
    return parts[split]._replace(labels=labels)
