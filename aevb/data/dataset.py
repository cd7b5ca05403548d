"""One split of a data set in memory or mapped from a file, and what it is."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from aevb.arguments import check_choice, describe
from aevb.data.sequences import LazySequences, SequenceRecords
from aevb.data.source import DatasetError
from aevb.data.stream import Stream
from aevb.model import Given

Condition: TypeAlias = Literal["none", "label"]
"""What images are modelled given: nothing, or the label of each."""

_SUBSET_SEED, _VALIDATION_SEED = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class LazyPixels:
    """Intensities, `[N, ...]` float32, made of `images` as rows are asked for.

    Attributes:
      images: `[N, ...]`, uint8 of 0 to `max_value`, or floats, which stay as they are.
      max_value: the pixel value that becomes 1.
    """

    images: np.ndarray
    max_value: int
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, ...)`, as of `images`."""
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> np.ndarray:
        images = self.images[rows]
        return images.astype(np.float32) if images.dtype.kind == "f" else images / np.float32(self.max_value)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, and what it is.

    Attributes:
      name: of the data set.
      split: "train", "valid" or "test".
      images: `[N, H, W]`, `[N, H, W, C]` or vectors `[N, D]`; uint8, or float32 in [0, 1]; read-only. Or sequences
        `[N, T, D]`, with their `lengths` among `others`.
      labels: `[N]` int64 classes, or `None`.
      max_value: the pixel value of full intensity: uint8 values range over 0..max_value; 1 for floats.
      split_rule: how the split was made, in words.
      subset_size: where it is a `subset` of the split, its size.
      num_valid: how many of the split were kept aside by `split_off`.
      label_names: the name of each class, or `None`.
      fingerprint: of one's own data, a hexadecimal checksum of all splits' images and labels; `None` for a named
        data set, which is known by its name.
      num_skipped: how many unreadable files were left out of the whole data set.
      main: what the data set calls its `images`.
      others: by name, the arrays `[N, ...]` that are neither `images` nor `labels`.
      num_classes: how many classes the whole data set has; by default one more than the highest of `labels`, and `None`
        where there are none.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray | None
    max_value: int
    split_rule: str
    subset_size: int | None = None
    num_valid: int = 0
    label_names: tuple[str, ...] | None = None
    fingerprint: str | None = None
    num_skipped: int = 0
    main: str = "images"
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if self.num_classes is None and self.labels is not None and self.labels.dtype.kind in "iu" and self.labels.size:
            object.__setattr__(self, "num_classes", int(self.labels.max()) + 1)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every array `[N, ...]` by its name, as it is stored: images, labels where there are any, and the others."""
        labels = {} if self.labels is None else {"labels": self.labels}
        return {self.main: self.images, **labels, **self.others}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image, `(H, W)`, `(H, W, C)` or `(D,)`, or of one sequence, `(T, D)`."""
        return self.images.shape[1:]

    @property
    def is_sequences(self) -> bool:
        """Whether this is a data set of sequences `[N, T, D]`: one with `lengths`."""
        return self.images.ndim == 3 and "lengths" in self.others

    def sequences(self) -> np.ndarray:
        """Return float32 sequences `[N, T, D]`, NaN after the end of each, and where something was not observed.

        T is the same for every split. uint8 is divided by `max_value`; floats stay as they are.

        Raises:
          DatasetError: these are not sequences with lengths.
        """
        return self.lazy_sequences()[:]

    def lazy_sequences(self) -> LazySequences:
        """Return what `sequences` does, made as rows are asked for."""
        if not self.is_sequences:
            raise DatasetError(
                f"{self.name} holds {', '.join(self.arrays)}: sequences are an array [N, T, D] and lengths [N]"
            )
        return LazySequences(self.images, self.others["lengths"], self.max_value)

    def pixels(self, flat: bool = True) -> np.ndarray:
        """Return float32 intensities in [0, 1], what models here are trained on.

        Args:
          flat: `[N, D]`, each image a vector, row by row and channels innermost; else `[N, *image_shape]`.

        Raises:
          DatasetError: these are sequences, whose padding is no observation.
        """
        return self.lazy_pixels(flat)[:]

    def lazy_pixels(self, flat: bool = True) -> LazyPixels:
        """Return what `pixels` does, read and scaled as rows are asked for: one process of several reads its own."""
        if self.is_sequences:
            raise DatasetError(f"{self.name} holds sequences of different lengths: .sequences() has NaN after the ends")
        return LazyPixels(self._images(flat), self.max_value)

    def datapoints(self, flat: bool = True, condition: Condition = "none", lazy: bool = False) -> Any:
        """Return what a model is trained on: pixels, or given labels `Given(pixels, labels)`; or `sequences`, likewise.

        Args:
          flat: as of `pixels`; sequences are `[N, T, D]` either way.
          condition: "none" or "label".
          lazy: as `lazy_pixels`.

        Raises:
          DatasetError: the labels are asked for, and there are none, or they are no classes.
        """
        values = self.lazy_sequences() if self.is_sequences else self.lazy_pixels(flat)
        return self._given(values if lazy else values[:], condition)

    def stream(self, flat: bool = True, condition: Condition = "none", **options: Any) -> Stream:
        """Return the same as a `Stream`, for data that do not fit in device memory.

        Args:
          flat: as of `pixels`.
          condition: as of `datapoints`.
          **options: `block_size` and `num_threads` of the `Stream`.

        Raises:
          DatasetError: as for `datapoints`.
        """
        if self.is_sequences:
            check_choice("condition", condition, get_args(Condition))
            labels = None if condition == "none" else self.classes()
            return Stream(SequenceRecords(self.lazy_sequences(), labels), **options)
        max_value = None if self.images.dtype.kind == "f" else self.max_value
        return Stream(self._given(self._images(flat), condition), max_value=max_value, **options)

    def classes(self) -> np.ndarray:
        """Return the labels as JAX's own integers, `[N]` int32 from 0 to `num_classes - 1`.

        Raises:
          DatasetError: there are no labels, or they are no classes.
        """
        if self.labels is None:
            raise DatasetError(f"the {self.split} images of {self.name} have no labels to be modelled given")
        if self.labels.ndim != 1 or not self.num_classes or self.num_classes > 2**31 or self.labels.min() < 0:
            raise DatasetError(
                f"the labels of {self.name} must be classes, integers [N] from 0, got {describe(self.labels)}"
            )
        return self.labels.astype(np.int32)

    def subset(self, count: int) -> "Dataset":
        """Return a random `count` of the datapoints by seed 0, smaller ones within larger ones.

        Random because the first datapoints of a file need not be like the rest: MNIST's test halves differ.

        Raises:
          ValueError: there are not so many.
        """
        if not 1 <= count <= len(self.images):
            raise ValueError(f"{self.name} has {len(self.images)} {self.split} images, not {count}")
        chosen = np.random.RandomState(_SUBSET_SEED).permutation(len(self.images))[:count]
        return dataclasses.replace(self._at(chosen), subset_size=count)

    def split_off(self, count: int) -> tuple["Dataset", "Dataset"]:
        """Return the datapoints without a random `count` of them by seed 1, and those, for validation.

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

    def _given(self, images: Any, condition: Condition) -> Any:
        check_choice("condition", condition, get_args(Condition))
        return images if condition == "none" else Given(images, self.classes())

    def _images(self, flat: bool) -> np.ndarray:
        return self.images.reshape(len(self.images), -1) if flat else self.images

    def _at(self, chosen: np.ndarray) -> "Dataset":
        labels = None if self.labels is None else self.labels[chosen]
        others = {name: array[chosen] for name, array in self.others.items()}
        return dataclasses.replace(self, images=self.images[chosen], labels=labels, others=others)


class Splits(NamedTuple):
    """The splits of one data set; `valid` is `None` where it comes without one."""

    train: Dataset
    valid: Dataset | None
    test: Dataset
