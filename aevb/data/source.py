"""The definition of a data set, independent of its storage: its original files and how they become arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class DatasetError(Exception):
    """The data are not available or not as expected. The message says what to do."""


class DatasetWarning(UserWarning):
    """A part of the data was left out. The message says which part and why."""


class Arrays(NamedTuple):
    """Images `[N, H, W]` uint8, and labels `[N]` int64 if the data set has classes."""

    images: np.ndarray
    labels: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Feature:
    """The shape and dtype of one named array `[N, *shape]`.

    Attributes:
      shape: the shape per datapoint: `(H, W, C)`, `(T, D)`, `(D,)`, or `()` for labels and lengths.
      dtype: a dtype of numbers or booleans.
    """

    shape: tuple[int, ...]
    dtype: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.dtype.kind not in "buif":
            raise TypeError(f"a Feature must have a dtype of numbers or booleans, got {self.dtype}")


@dataclasses.dataclass(frozen=True)
class Original:
    """One file as published by its authors.

    Attributes:
      name: the file name, also in a `source_dir`.
      size: the size in bytes.
      sha256: the SHA-256 checksum, in hexadecimal.
      urls: the addresses for downloading, tried in order.
      packaged: the paths `package/folder/file` in Python packages that contain the file, if one is installed.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]
    packaged: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """A rule that forms "train", "test" and possibly "valid" from the stored splits.

    Attributes:
      description: a one-sentence description, recorded with results.
      select: a function `split -> (stored split, indices into it)`.
      splits: the names of the splits.
    """

    description: str
    select: Callable[[str], tuple[str, slice | np.ndarray]]
    splits: tuple[str, ...] = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Source:
    """The definition of a data set, on which the rest of this package is based.

    Attributes:
      name: the name for `load`.
      version: the version of the prepared data. Increase it when the result of `read` changes.
      originals: the files that `read` needs.
      image_shape: `(H, W)`.
      max_value: the pixel value of full intensity.
      num_classes: the number of classes; 0 if there are no labels.
      sizes: the number of images per stored split.
      read: a function `folder of verified originals -> {stored split: Arrays}`; with `features`, it returns
        `{stored split: {name: array}}`.
      split_rules: the split rules by name; the first is the default.
      features: the features by name, for data other than grey images and labels; see `of_features`.
      label_names: the names of the classes, if they have names.
      collection: the name of a folder of originals shared by several data sets, if there is one.
    """

    name: str
    version: str
    originals: tuple[Original, ...]
    image_shape: tuple[int, ...]
    max_value: int
    num_classes: int
    sizes: Mapping[str, int]
    read: Callable[[Path], Mapping[str, Any]]
    split_rules: Mapping[str, SplitRule]
    features: Mapping[str, Feature] | None = None
    label_names: tuple[str, ...] | None = None
    collection: str | None = None

    @classmethod
    def of_features(
        cls,
        name: str,
        version: str,
        features: Mapping[str, Feature],
        sizes: Mapping[str, int],
        read: Callable[[Path], Mapping[str, Mapping[str, np.ndarray]]],
        split_rules: Mapping[str, SplitRule],
        originals: tuple[Original, ...] = (),
        max_value: int = 1,
        label_names: tuple[str, ...] | None = None,
        collection: str | None = None,
    ) -> "Source":
        """Define a data set of named arrays, such as images of any shape, sequences with lengths, or tables.

        Args:
          name: the name for `load`.
          version: the version of the prepared data. Increase it when the result of `read` changes.
          features: the features by name. `Dataset.images` is the feature "images", or else the first one.
            `Dataset.labels` is the feature "labels". A feature "lengths" makes the data set one of sequences; see
            `Dataset.sequences`. `Dataset.arrays` has all features.
          sizes: the number of datapoints per stored split.
          read: a function `folder of verified originals -> {stored split: {name: array [N, *shape]}}`.
          split_rules: the split rules by name; the first is the default.
          originals: the files that `read` needs.
          max_value: the value of full intensity of uint8 images.
          label_names: the names of the classes in "labels".
          collection: the name of a folder of originals shared by several data sets.

        Raises:
          TypeError: a feature is not a `Feature`.
          ValueError: there are no features, or a name is not an identifier.
        """
        if not features:
            raise ValueError(f"the data set {name} needs at least one feature")
        for each, feature in features.items():
            if not isinstance(each, str) or not each.isidentifier():
                raise ValueError(f"the name of a feature must be an identifier, got {each!r}")
            if not isinstance(feature, Feature):
                raise TypeError(f"the feature {each} must be an aevb.data.Feature, got {feature!r}")
        main = features["images"] if "images" in features else next(iter(features.values()))
        return cls(
            name, version, originals, main.shape, max_value, len(label_names or ()), sizes, read, split_rules,
            dict(features), label_names, collection,
        )  # fmt: skip

    @property
    def declared(self) -> Mapping[str, Feature]:
        """All features by name: `features`, or images and labels."""
        if self.features is not None:
            return self.features
        images = {"images": Feature(self.image_shape, np.uint8)}
        return images | {"labels": Feature((), np.int64)} if self.num_classes else images

    @property
    def main(self) -> str:
        """The name of the array that is modelled."""
        return "images" if "images" in self.declared else next(iter(self.declared))

    def by_name(self, arrays: Any) -> dict[str, np.ndarray]:
        """Return the arrays of one split, as returned by `read`, by name."""
        if not isinstance(arrays, Arrays):
            return {name: np.asarray(array) for name, array in arrays.items()}
        images, labels = arrays
        if labels is None:
            return {"images": images}
        return {"images": images, "labels": labels.astype(np.int64) if labels.dtype.kind in "iu" else labels}


def random_split(size: int, num_train: int, seed: int) -> SplitRule:
    """Return a rule that draws `num_train` of the `size` images in "full" for training and keeps the rest for testing.

    The draw is determined by `seed`.
    """

    def select(split: str) -> tuple[str, np.ndarray]:
        # RandomState's streams are frozen permanently; those of NumPy's newer generators may change between versions.
        order = np.random.RandomState(seed).permutation(size)
        return "full", np.sort(order[:num_train] if split == "train" else order[num_train:])

    return SplitRule(f"random {num_train}/{size - num_train} by seed {seed}", select)
