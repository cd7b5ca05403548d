"""One split of a data set, in memory or mapped from a file, with its description."""

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
"""The condition given which images are modelled: none, or the label."""

_SUBSET_SEED, _VALIDATION_SEED = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class LazyPixels:
    """Intensities `[N, ...]`, float32, computed from `images` when rows are indexed.

    Attributes:
      images: `[N, ...]`, uint8 from 0 to `max_value`, or floats, which are not scaled.
      max_value: the pixel value that becomes 1.
    """

    images: np.ndarray
    max_value: int
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape `(N, ...)` of `images`."""
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> np.ndarray:
        images = self.images[rows]
        return images.astype(np.float32) if images.dtype.kind == "f" else images / np.float32(self.max_value)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, with its description.

    Attributes:
      name: the name of the data set.
      split: "train", "valid" or "test".
      images: `[N, H, W]`, `[N, H, W, C]` or vectors `[N, D]`; uint8, or float32 in [0, 1]; read-only. Or sequences
        `[N, T, D]`, with their `lengths` among `others`.
      labels: `[N]` int64 classes, or `None`.
      max_value: the pixel value of full intensity: uint8 values range over 0..max_value; 1 for floats.
      split_rule: a description of how the split was made.
      subset_size: the size of the subset, if this is a `subset` of the split.
      num_valid: the number of datapoints set aside by `split_off`.
      label_names: the names of the classes, or `None`.
      fingerprint: for your own data, a hexadecimal checksum of the images and labels of all splits; `None` for a named
        data set, which its name identifies.
      num_skipped: the number of unreadable files left out of the whole data set.
      main: the name of the `images` in the data set.
      others: the arrays `[N, ...]` other than `images` and `labels`, by name.
      num_classes: the number of classes in the whole data set; by default the highest label plus one, and `None` if
        there are no labels.
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

    def __repr__(self) -> str:
        """Return the name, the split and the shapes: the arrays' values would fill pages."""
        arrays = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.arrays.items())
        return f"<Dataset {self.name}, {self.split} (split {self.split_rule}): {arrays}>"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays `[N, ...]` by name, as stored: the images, the labels if there are any, and the others."""
        labels = {} if self.labels is None else {"labels": self.labels}
        return {self.main: self.images, **labels, **self.others}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image, `(H, W)`, `(H, W, C)` or `(D,)`, or of one sequence, `(T, D)`."""
        return self.images.shape[1:]

    @property
    def is_sequences(self) -> bool:
        """Whether this is a data set of sequences `[N, T, D]` with `lengths`."""
        return self.images.ndim == 3 and "lengths" in self.others

    def sequences(self) -> np.ndarray:
        """Return float32 sequences `[N, T, D]`, NaN after the end of each and where a value was not observed.

        T is the same for every split. uint8 values are divided by `max_value`; floats are not scaled.

        Raises:
          DatasetError: these are not sequences with lengths.
        """
        return self.lazy_sequences()[:]

    def lazy_sequences(self) -> LazySequences:
        """Return the same as `sequences`, but converted only when rows are indexed."""
        if not self.is_sequences:
            raise DatasetError(
                f"{self.name} holds {', '.join(self.arrays)}: sequences need an array [N, T, D] and lengths [N]"
            )
        return LazySequences(self.images, self.others["lengths"], self.max_value)

    def pixels(self, flat: bool = True) -> np.ndarray:
        """Return float32 intensities in [0, 1], the training data of the models in this package.

        Args:
          flat: whether to return `[N, D]`, with each image flattened row by row and channels innermost, instead of
            `[N, *image_shape]`.

        Raises:
          DatasetError: these are sequences, whose padding is not an observation.
        """
        return self.lazy_pixels(flat)[:]

    def lazy_pixels(self, flat: bool = True) -> LazyPixels:
        """Return the same as `pixels`, but read and scaled only when rows are indexed.

        Each of several processes then reads only its own rows.
        """
        if self.is_sequences:
            raise DatasetError(f"{self.name} holds sequences of different lengths: use .sequences(), padded with NaN")
        return LazyPixels(self._images(flat), self.max_value)

    def datapoints(self, flat: bool = True, condition: Condition = "none", lazy: bool = False) -> Any:
        """Return the training data of a model: pixels or sequences, or with a condition `Given(values, labels)`.

        Args:
          flat: see `pixels`. Sequences are `[N, T, D]` in both cases.
          condition: "none" or "label".
          lazy: whether to convert the values only when rows are indexed; see `lazy_pixels`.

        Raises:
          DatasetError: the condition is "label", but there are no labels, or they are not classes.
        """
        values = self.lazy_sequences() if self.is_sequences else self.lazy_pixels(flat)
        return self._given(values if lazy else values[:], condition)

    def stream(self, flat: bool = True, condition: Condition = "none", **options: Any) -> Stream:
        """Return the same as `datapoints`, but as a `Stream`, for data that do not fit in device memory.

        Args:
          flat: see `pixels`.
          condition: see `datapoints`.
          **options: `block_size` and `num_threads` of the `Stream`.

        Raises:
          DatasetError: the condition is "label", but there are no labels, or they are not classes.
        """
        if self.is_sequences:
            check_choice("condition", condition, get_args(Condition))
            labels = None if condition == "none" else self.classes()
            return Stream(SequenceRecords(self.lazy_sequences(), labels), **options)
        max_value = None if self.images.dtype.kind == "f" else self.max_value
        return Stream(self._given(self._images(flat), condition), max_value=max_value, **options)

    def classes(self) -> np.ndarray:
        """Return the labels as int32, the integer type of JAX: `[N]` from 0 to `num_classes - 1`.

        Raises:
          DatasetError: there are no labels, or they are not classes.
        """
        if self.labels is None:
            raise DatasetError(f"the {self.split} images of {self.name} have no labels to condition on")
        if self.labels.ndim != 1 or not self.num_classes or self.num_classes > 2**31 or self.labels.min() < 0:
            raise DatasetError(
                f"the labels of {self.name} must be classes, integers [N] from 0, got {describe(self.labels)}"
            )
        return self.labels.astype(np.int32)

    def subset(self, count: int) -> "Dataset":
        """Return a random subset of `count` datapoints, drawn with seed 0.

        Smaller subsets are contained in larger ones. The subset is random because the first datapoints of a file may
        differ from the rest, as the two halves of MNIST's test set do.

        Raises:
          ValueError: there are fewer than `count` datapoints.
        """
        if not 1 <= count <= len(self.images):
            raise ValueError(f"{self.name} has {len(self.images)} {self.split} images, not {count}")
        chosen = np.random.RandomState(_SUBSET_SEED).permutation(len(self.images))[:count]
        return dataclasses.replace(self._at(chosen), subset_size=count)

    def split_off(self, count: int) -> tuple["Dataset", "Dataset"]:
        """Set `count` datapoints, drawn with seed 1, aside for validation. Return the rest and the validation data.

        Raises:
          ValueError: no datapoints would remain.
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
    """The splits of one data set; `valid` is `None` if it has no validation split."""

    train: Dataset
    valid: Dataset | None
    test: Dataset
