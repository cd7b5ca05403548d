"""What a data set is, apart from any way of storing it: where its files come from and how they become arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class DatasetError(Exception):
    """Data that cannot be had or are not what they should be. The message says what to do."""


class DatasetWarning(UserWarning):
    """Something in the data was left out. The message says what, and why."""


class Arrays(NamedTuple):
    """Images `[N, H, W]` uint8, and labels `[N]` int64 where the data set has classes."""

    images: np.ndarray
    labels: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Feature:
    """What each datapoint has of one named array, `[N, *shape]`.

    Attributes:
      shape: of one datapoint: `(H, W, C)`, `(T, D)`, `(D,)`, or `()` for labels and lengths.
      dtype: of numbers or booleans.
    """

    shape: tuple[int, ...]
    dtype: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.dtype.kind not in "buif":
            raise TypeError(f"a Feature is of numbers or booleans, got dtype {self.dtype}")


@dataclasses.dataclass(frozen=True)
class Original:
    """One file as its authors published it.

    Attributes:
      name: its file name, in a `source_dir` too.
      size: its length in bytes.
      sha256: its checksum, in hexadecimal.
      urls: where to download it, tried in order.
      packaged: where Python packages have it, of which one may be installed: `package/folder/file`.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]
    packaged: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """How "train" and "test", and "valid" where there is one, come out of what is stored.

    Attributes:
      description: one sentence, recorded with results.
      select: `split -> (stored split, indices into it)`.
      splits: those that there are.
    """

    description: str
    select: Callable[[str], tuple[str, slice | np.ndarray]]
    splits: tuple[str, ...] = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set's definition; everything else in this package works from it.

    Attributes:
      name: as `load` takes it.
      version: of the prepared form; raise it when `read` changes what it returns.
      originals: the files that `read` needs.
      image_shape: `(H, W)`.
      max_value: the pixel value that means full intensity.
      num_classes: how many labels there are, 0 where there are none.
      sizes: stored split -> number of images.
      read: `folder of verified originals -> {stored split: Arrays}`, `{stored split: {name: array}}` with `features`.
      split_rules: by name; the first is the default.
      features: by name, of a data set that is something else than grey images and labels; see `of_features`.
      label_names: the name of each class, where the classes have names.
      collection: the name of a folder of originals that several data sets share, where they do.
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
        """Define a data set of named arrays: images of any shape, sequences and their lengths, tables.

        Args:
          name: as `load` takes it.
          version: of the prepared form; raise it when `read` changes what it returns.
          features: by name. The one called "images", or else the first, is what `Dataset.images` returns; the one
            called "labels" is its `labels`, and `lengths` are those of sequences, `Dataset.sequences`; `Dataset.arrays`
            has all of them.
          sizes: stored split -> number of datapoints.
          read: `folder of verified originals -> {stored split: {name: array [N, *shape]}}`.
          split_rules: by name; the first is the default.
          originals: the files that `read` needs.
          max_value: of images of uint8, the value that means full intensity.
          label_names: the name of each class of "labels".
          collection: the name of a folder of originals that several data sets share.

        Raises:
          TypeError: a feature is no `Feature`.
          ValueError: no features, or a name that is no identifier.
        """
        if not features:
            raise ValueError(f"the data set {name} needs at least one feature")
        for each, feature in features.items():
            if not isinstance(each, str) or not each.isidentifier():
                raise ValueError(f"a feature is declared under a name, an identifier, got {each!r}")
            if not isinstance(feature, Feature):
                raise TypeError(f"the feature {each} must be an aevb.data.Feature, got {feature!r}")
        main = features["images"] if "images" in features else next(iter(features.values()))
        return cls(
            name, version, originals, main.shape, max_value, len(label_names or ()), sizes, read, split_rules,
            dict(features), label_names, collection,
        )  # fmt: skip

    @property
    def declared(self) -> Mapping[str, Feature]:
        """Every array by its name: `features`, or images and labels."""
        if self.features is not None:
            return self.features
        images = {"images": Feature(self.image_shape, np.uint8)}
        return images | {"labels": Feature((), np.int64)} if self.num_classes else images

    @property
    def main(self) -> str:
        """The name of the array that is modelled."""
        return "images" if "images" in self.declared else next(iter(self.declared))

    def by_name(self, arrays: Any) -> dict[str, np.ndarray]:
        """Return the arrays of one split that `read` returned, by their names."""
        if not isinstance(arrays, Arrays):
            return {name: np.asarray(array) for name, array in arrays.items()}
        images, labels = arrays
        if labels is None:
            return {"images": images}
        return {"images": images, "labels": labels.astype(np.int64) if labels.dtype.kind in "iu" else labels}


def random_split(size: int, num_train: int, seed: int) -> SplitRule:
    """A random `num_train` of `size` images stored as "full" are for training, the rest for testing."""

    def select(split: str) -> tuple[str, np.ndarray]:
        # RandomState's streams are frozen for good; those of NumPy's newer generators may change between versions.
        order = np.random.RandomState(seed).permutation(size)
        return "full", np.sort(order[:num_train] if split == "train" else order[num_train:])

    return SplitRule(f"random {num_train}/{size - num_train} by seed {seed}", select)
