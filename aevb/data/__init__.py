"""Data sets as arrays: `load("mnist", "train")`. A new one is a file with a `SOURCE` and a line in `SOURCES`.

From outside of the package it is `aevb.data.register(Source(...))`.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from aevb.arguments import describe
from aevb.data.cache import read_cache, write_cache
from aevb.data.source import Arrays, DatasetError, Source
from aevb.registry import Registry

__all__ = ["SOURCES", "Dataset", "DatasetError", "Source", "load", "names", "register", "split_rule_of"]


def _check(source: Any) -> None:
    if not isinstance(source, Source):
        raise TypeError(f"a data set must be an aevb.data.Source, got {describe(source)}")


SOURCES: Registry[Source] = Registry(
    "data set",
    {
        "mnist": "aevb.data.sources.mnist:SOURCE",
        "frey_face": "aevb.data.sources.frey_face:SOURCE",
        "digits": "aevb.data.sources.digits:SOURCE",
    },
    _check,
)

_SUBSET_SEED, _VALIDATION_SEED = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class LazyPixels:
    """Intensities, `[N, H * W]` float32, made of `images` `[N, H * W]` uint8 as rows are asked for."""

    images: np.ndarray
    max_value: int
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, H * W)`."""
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.images[rows] / np.float32(self.max_value)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, and what it is.

    Attributes:
      name: of the data set.
      split: "train", "valid" or "test".
      images: `[N, H, W]` uint8, read-only.
      labels: `[N]` int64 classes, or `None`.
      max_value: the pixel value of full intensity: values range over 0..max_value.
      split_rule: how the split was made, in words.
      subset_size: where it is a `subset` of the split, its size.
      num_valid: how many of the split were kept aside by `split_off`.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray | None
    max_value: int
    split_rule: str
    subset_size: int | None = None
    num_valid: int = 0
    fingerprint: str | None = None

    @property
    def image_shape(self) -> tuple[int, int]:
        """`(H, W)`."""
        return self.images.shape[1], self.images.shape[2]

    def pixels(self) -> np.ndarray:
        """`[N, H * W]` float32 intensities in [0, 1]: what models here are trained on."""
        return self.lazy_pixels()[:]

    def lazy_pixels(self) -> "LazyPixels":
        """The same, of which rows are read and scaled when they are asked for: one process of several reads its own."""
        return LazyPixels(self.images.reshape(len(self.images), -1), self.max_value)

    def subset(self, count: int) -> "Dataset":
        """A random `count` of the datapoints by seed 0, smaller ones within larger ones.

        Random because the first datapoints of a file need not be like the rest: MNIST's test halves differ.

        Raises:
          ValueError: there are not so many.
        """
        if not 1 <= count <= len(self.images):
            raise ValueError(f"{self.name} has {len(self.images)} {self.split} images, not {count}")
        chosen = np.random.RandomState(_SUBSET_SEED).permutation(len(self.images))[:count]
        return dataclasses.replace(self._at(chosen), subset_size=count)

    def split_off(self, count: int) -> tuple["Dataset", "Dataset"]:
        """The datapoints without a random `count` of them by seed 1, and those, for validation.

        Raises:
          ValueError: none would be left.
        """
        if not 1 <= count < len(self.images):
            raise ValueError(
                f"{self.name} has {len(self.images)} {self.split} images: {count} for validation leave none to train on"
            )
        order = np.random.RandomState(_VALIDATION_SEED).permutation(len(self.images))
        rest, kept = np.sort(order[count:]), np.sort(order[:count])
        return dataclasses.replace(self._at(rest), num_valid=count), dataclasses.replace(self._at(kept), split="valid")

    def _at(self, chosen: np.ndarray) -> "Dataset":
        labels = None if self.labels is None else self.labels[chosen]
        return dataclasses.replace(self, images=self.images[chosen], labels=labels)


def names() -> tuple[str, ...]:
    """Return the names that `load` takes."""
    return SOURCES.names()


def register(source: Source) -> Source:
    """Add a data set under its own name, or replace one that was added: `load` then takes that name.

    Raises:
      TypeError: `source` is not a `Source`.
      ValueError: its name is built in, or no identifier.
    """
    _check(source)
    return SOURCES.register(source.name, source)


def load(
    name: str,
    split: str = "train",
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    split_rule: str | None = None,
) -> Dataset:
    """Loads one split, preparing the data set first if need be.

    Args:
      name: one of `names()`.
      split: "train" or "test".
      data_dir: where prepared data live; `None` is TFDS's own default (`$TFDS_DATA_DIR`, or ~/tensorflow_datasets).
      source_dir: a folder of original files that takes the place of the network. Checksums are verified all the same.
      split_rule: for "frey_face", "random" (default) or "first_1565"; the other sets have one rule each.

    Returns:
      A `Dataset`.

    Raises:
      ValueError: an unknown name, split or split rule.
      DatasetError: the data cannot be had, are damaged, or cannot be written.
    """
    source = _source(name)
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    rule_name = next(iter(source.split_rules)) if split_rule is None else split_rule
    if rule_name not in source.split_rules:
        raise ValueError(f"split_rule of {name} must be one of {tuple(source.split_rules)}, got {split_rule!r}")
    rule = source.split_rules[rule_name]
    stored, indices = rule.select(split)
    arrays = _stored_arrays(source, _data_dir(data_dir), None if source_dir is None else Path(source_dir), stored)
    images, labels = arrays.images[indices], None if arrays.labels is None else arrays.labels[indices]
    images.setflags(write=False)
    return Dataset(name, split, images, labels, source.max_value, rule.description)


def split_rule_of(name: str, description: str) -> str:
    """The `split_rule` that `load` takes, from the `Dataset.split_rule` that a run recorded.

    Raises:
      ValueError: an unknown data set, or no rule of it has that description.
    """
    for rule_name, rule in _source(name).split_rules.items():
        if rule.description == description:
            return rule_name
    raise ValueError(f"{name} has no split rule that is described as {description!r}")


def _source(name: str) -> Source:
    if name not in names():
        known = ", ".join(names())
        raise ValueError(f"unknown data set {describe(name)}: there are {known}; aevb.data.register adds one")
    return SOURCES.get(name)


def _data_dir(data_dir: str | os.PathLike | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).expanduser()
    # TFDS's own rule, without the second and a half that importing TFDS takes.
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _stored_arrays(source: Source, data_dir: Path, source_dir: Path | None, stored: str) -> Arrays:
    cached = read_cache(source, data_dir, stored)
    if cached is not None:
        return cached
    # Imported late: TFDS is needed once for each data set, to prepare it.
    from aevb.data.builder import prepare

    splits = prepare(source, data_dir, source_dir)
    write_cache(source, data_dir, splits)
    return splits[stored]
