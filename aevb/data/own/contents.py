"""The common form of all kinds of your own data, and its conversion to `Splits`."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from aevb.arguments import check_integers, describe
from aevb.data.dataset import Dataset, Splits
from aevb.data.own.checks import blocks, check_images, check_labels
from aevb.data.own.sequences import check_sequences, same_length
from aevb.data.source import DatasetError, random_split

Colour: TypeAlias = Literal["rgb", "grey"]

SPLIT_WORDS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""A mapping from common names of splits to the names used here."""

_LEAST = 10  # datapoints needed to set some aside at random


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options for your own data. Each kind of data lists which of the first seven it takes.

    Attributes:
      image_size: the side in pixels to which pictures are resized, after cropping to their central square.
      colour: "rgb" or "grey", to which every picture is converted; `None` converts none.
      skip_unreadable: whether to skip unreadable pictures and count them, instead of raising an error.
      max_value: the uint8 value of full intensity; `None` is 255.
      image_key: the name of the images among several arrays or features; `None` looks for common names.
      label_key: the name of the labels among several arrays or features; `None` looks for common names.
      data_dir: the folder of prepared TFDS data sets; `None` is TFDS's default.
      test_fraction: the fraction set aside for testing if the data have no test split.
      seed: the seed for that random choice.
    """

    image_size: int | None = None
    colour: Colour | None = None
    skip_unreadable: bool = False
    max_value: int | None = None
    image_key: str | None = None
    label_key: str | None = None
    data_dir: str | os.PathLike | None = None
    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = {"image_size": self.image_size, "max_value": self.max_value, "seed": self.seed}
        check_integers(**{name: value for name, value in numbers.items() if value is not None})
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {self.image_size}")
        if self.max_value is not None and not 1 <= self.max_value <= 255:
            raise ValueError(f"max_value must be between 1 and 255, got {self.max_value}")
        if self.colour not in (None, "rgb", "grey"):
            raise ValueError(f'colour must be "rgb" or "grey", got {describe(self.colour)}')
        if not isinstance(self.test_fraction, float) or not 0 < self.test_fraction < 1:
            raise ValueError(f"test_fraction must be a number between 0 and 1, got {describe(self.test_fraction)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be between 0 and 2^32 - 1, got {self.seed}")

    def check_taken(self, kind: str, taken: Iterable[str]) -> None:
        """Raise `ValueError` if an option was given that this kind of data does not take."""
        always = {"test_fraction", "seed", *taken}
        for field in dataclasses.fields(self):
            if field.name not in always and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} is not an option of {kind}, which takes {', '.join(sorted(always))}")


class Part(NamedTuple):
    """The images and labels of one split as found, and their name in messages.

    With `lengths`, the images are sequences `[N, T, D]`.
    """

    images: Any
    labels: Any = None
    where: str = "images"
    lengths: Any = None


@dataclasses.dataclass(frozen=True)
class Contents:
    """The contents of a data set as found.

    Attributes:
      name: the name of the data set.
      parts: the `Part` of each split; only "train" if the data are not split.
      label_names: the names of the classes, if the labels are numbers.
      num_skipped: the number of unreadable pictures left out.
    """

    name: str
    parts: Mapping[str, Part]
    label_names: tuple[str, ...] | None = None
    num_skipped: int = 0

    def __post_init__(self) -> None:
        # The name of a file may contain unprintable characters, but is shown in one line.
        name = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in self.name)
        object.__setattr__(self, "name", name)


def make_splits(contents: Contents, options: Options) -> Splits:
    """Check the contents of a data set, and split them if they are not split.

    Raises:
      DatasetError: the contents cannot be modelled. The message says what to do.
    """
    parts = {split: contents.parts[split] for split in ("train", "valid", "test") if split in contents.parts}
    if "train" not in parts:
        raise DatasetError(f"{contents.name} has no training split, only the splits {', '.join(contents.parts)}")
    images, lengths, max_value = _checked(contents.name, parts, options)
    labels, names = check_labels(
        {split: (part.labels, part.where) for split, part in parts.items()},
        {split: len(found) for split, found in images.items()},
        contents.label_names,
    )
    common = {
        "max_value": max_value,
        "label_names": names,
        "fingerprint": _fingerprint((images, labels, lengths) if lengths else (images, labels), names, max_value),
        "num_skipped": contents.num_skipped,
        "num_classes": _num_classes(labels, names),
        "main": "values" if lengths else "images",
    }
    if "test" in parts:
        rule = f"own {'/'.join(images)} split, {'/'.join(str(len(each)) for each in images.values())}"
        chosen = {split: (split, slice(None)) for split in images}
    else:
        size = len(images["train"])
        split = random_split(size, size - _num_test(contents.name, size, options.test_fraction), options.seed)
        rule = split.description
        chosen = {split_name: ("train", split.select(split_name)[1]) for split_name in ("train", "test")}
        if "valid" in images:
            rule, chosen["valid"] = f"{rule}, own validation split, {len(images['valid'])}", ("valid", slice(None))

    def dataset(split: str) -> Dataset:
        stored, indices = chosen[split]
        found = images[stored][indices]
        found.setflags(write=False)
        classes = labels[stored]
        others = {"lengths": lengths[stored][indices]} if lengths else {}
        return Dataset(
            contents.name, split, found, None if classes is None else classes[indices],
            **common, split_rule=rule, others=others,
        )  # fmt: skip

    return Splits(dataset("train"), dataset("valid") if "valid" in chosen else None, dataset("test"))


def _checked(
    name: str, parts: Mapping[str, Part], options: Options
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
    """Return the images or values of each split, the lengths of sequences (empty for images), and `max_value`."""
    has_lengths = {split: part.lengths is not None for split, part in parts.items()}
    if any(has_lengths.values()):
        if not all(has_lengths.values()):
            without = next(split for split, has in has_lengths.items() if not has)
            raise DatasetError(f"{parts[without].where} has no lengths, but sequences of other splits have them")
        of_part = lambda part: check_sequences(part.images, part.lengths, part.where, options.max_value)
        sequences = same_length({split: of_part(part) for split, part in parts.items()})
        values = {split: each.values for split, each in sequences.items()}
        lengths = {split: each.lengths for split, each in sequences.items()}
        return values, lengths, max(each.max_value for each in sequences.values())
    checked = {split: check_images(part.images, part.where, options.max_value) for split, part in parts.items()}
    _check_alike(name, checked)
    images = {split: found for split, (found, _) in checked.items()}
    return images, {}, max(found for _, found in checked.values())


def _num_classes(labels: Mapping[str, np.ndarray | None], names: tuple[str, ...] | None) -> int | None:
    """Return the number of classes in all splits together, `None` if there are no labels."""
    found = [int(each.max()) + 1 for each in labels.values() if each is not None]
    return (len(names) if names else max(found)) if found else None


def _num_test(name: str, size: int, fraction: float) -> int:
    count = round(size * fraction)
    if size < _LEAST or not 1 <= count < size:
        raise DatasetError(
            f"{name} has {size} images, too few to set {fraction:.0%} aside at random for testing: at least {_LEAST} "
            f"are needed, or a separate test set"
        )
    return count


def _check_alike(name: str, checked: Mapping[str, tuple[np.ndarray, int]]) -> None:
    kinds = {
        split: f"{images.dtype} from 0 to {max_value} with shape {images.shape[1:]}"
        for split, (images, max_value) in checked.items()
    }
    for split, kind in kinds.items():
        if kind != kinds["train"]:
            raise DatasetError(f"the training images of {name} are {kinds['train']}, but those of {split} are {kind}")


def _fingerprint(
    arrays: Sequence[Mapping[str, Any]],
    names: tuple[str, ...] | None,
    max_value: int,
) -> str:
    """Return a checksum of the arrays to be modelled, which does not depend on the format of the files."""
    digest = hashlib.sha256(repr((max_value, names)).encode())
    for split in arrays[0]:
        for array in (of_split[split] for of_split in arrays if of_split[split] is not None):
            digest.update(repr((split, array.shape, array.dtype.str)).encode())
            for block in blocks(array):
                digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
