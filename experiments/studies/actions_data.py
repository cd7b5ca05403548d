"""Labelled sequences for `experiments.actions`: loading, standardization and folds."""

from typing import NamedTuple

import numpy as np

from aevb import Given
from aevb.data import DatasetError, load

_SIZE_UNIT = 10


class Task(NamedTuple):
    """Sequences to learn from and to classify.

    Attributes:
      name: The name of the data set.
      train: `Given(x, label)`: standardized sequences `[N, T, D]` float32, NaN after the end of each, and labels `[N]`
        int32.
      test: The same for the test sequences, standardized with the training means and standard deviations.
      label_names: The names of the C classes.
    """

    name: str
    train: Given
    test: Given
    label_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.label_names)


def load_task(name: str, data_dir: str | None, source_dir: str | None) -> Task:
    """Load a data set of labelled sequences.

    Raises:
      DatasetError: If it cannot be loaded, holds no sequences, or a class has fewer than two training sequences.
    """
    train, test = (load(name, split, data_dir, source_dir) for split in ("train", "test"))
    if train.label_names is None:
        raise DatasetError(f"{name} has no class names")
    counts = class_sizes(train.classes(), len(train.label_names))
    if counts.min() < 2:
        raise DatasetError(
            f"class {train.label_names[counts.argmin()]} of {name} has fewer than two training sequences"
        )
    xs = standardized(train.sequences(), test.sequences())
    return Task(name, Given(xs[0], train.classes()), Given(xs[1], test.classes()), train.label_names)


def standardized(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Standardize each of the D values of sequences `[N, T, D]`.

    Means and standard deviations are taken over all observed steps of the training sequences. A value that never varies
    is only centred.
    """
    mean, scale = np.nanmean(train, (0, 1), dtype=np.float64), np.nanstd(train, (0, 1), dtype=np.float64)
    scale = np.where(scale > 0, scale, 1.0)
    return [((each - mean) / scale).astype(np.float32) for each in (train, *others)]


def stratified_folds(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each sequence, `[N]`, from 0. Each class is divided evenly at random with `seed`."""
    random, folds = np.random.RandomState(seed), np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        of_class = random.permutation(np.flatnonzero(labels == label))
        folds[of_class] = np.arange(len(of_class)) % num_folds
    return folds


def class_sizes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the number of sequences per class, `[C]`."""
    return np.bincount(labels, minlength=num_classes)


def log_frequencies(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return log p(class) estimated by the class frequencies, `[C]` float64."""
    return np.log(class_sizes(labels, num_classes) / len(labels))


def by_class(x: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the sequences of each class, `[C, M, T, D]`, padded with NaN sequences to the same number.

    M is the size of the largest class, rounded up. The training folds then have the shape of the whole training split
    and share its compiled program.
    """
    largest = int(class_sizes(labels, num_classes).max())
    size = _SIZE_UNIT * -(-largest // _SIZE_UNIT)
    found = np.full((num_classes, size, *x.shape[1:]), np.nan, np.float32)
    for label in range(num_classes):
        of_class = x[labels == label]
        found[label, : len(of_class)] = of_class
    return found
