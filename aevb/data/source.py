"""What a data set is, apart from any way of storing it: where its files come from and how they become arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np


class DatasetError(Exception):
    """Data that cannot be had or are not what they should be. The message says what to do."""


class Arrays(NamedTuple):
    """Images `[N, H, W]` uint8, and labels `[N]` int64 where the data set has classes."""

    images: np.ndarray
    labels: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Original:
    """One file as its authors published it.

    Attributes:
      name: its file name, in a `source_dir` too.
      size: its length in bytes.
      sha256: its checksum, in hexadecimal.
      urls: where to download it, tried in order.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """How "train" and "test" come out of what is stored.

    Attributes:
      description: one sentence, recorded with results.
      select: `split -> (stored split, indices into it)`.
    """

    description: str
    select: Callable[[str], tuple[str, slice | np.ndarray]]


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
      read: `folder of verified originals -> {stored split: Arrays}`.
      split_rules: by name; the first is the default.
    """

    name: str
    version: str
    originals: tuple[Original, ...]
    image_shape: tuple[int, int]
    max_value: int
    num_classes: int
    sizes: Mapping[str, int]
    read: Callable[[Path], dict[str, Arrays]]
    split_rules: Mapping[str, SplitRule]


def random_split(size: int, num_train: int, seed: int) -> SplitRule:
    """A random `num_train` of `size` images stored as "full" are for training, the rest for testing."""

    def select(split: str) -> tuple[str, np.ndarray]:
        # RandomState's streams are frozen for good; those of NumPy's newer generators may change between versions.
        order = np.random.RandomState(seed).permutation(size)
        return "full", np.sort(order[:num_train] if split == "train" else order[num_train:])

    return SplitRule(f"random {num_train}/{size - num_train} by seed {seed}", select)
