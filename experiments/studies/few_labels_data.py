"""Data of which few have visible labels, and the splits that choose settings and count errors."""

from typing import NamedTuple

import numpy as np

from aevb.data import Dataset
from aevb.models.semi_supervised import UNKNOWN


class FewLabels(NamedTuple):
    """Training data with few labels, and two labelled splits to count errors on.

    Attributes:
      train: Intensities of the training images, `[N, D]`.
      labels: Their labels, `[N]`, -1 where the label is hidden.
      valid: Intensities and labels of the validation images, which choose settings.
      test: Intensities and labels of the test images, which choose nothing.
      num_classes: The number of classes, K.
    """

    train: np.ndarray
    labels: np.ndarray
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    num_classes: int

    @property
    def labelled(self) -> np.ndarray:
        """The positions of the images with visible labels."""
        return np.flatnonzero(self.labels != UNKNOWN)


def hold_out(train: Dataset, test: Dataset, num_valid: int) -> FewLabels:
    """Hold out validation images with seed 1. All labels are still visible."""
    train, valid = train.split_off(num_valid)
    labels = np.asarray(train.labels)
    of_valid, of_test = ((split.pixels(), np.asarray(split.labels)) for split in (valid, test))
    return FewLabels(train.pixels(), labels, of_valid, of_test, len(np.unique(labels)))


def hide_labels(data: FewLabels, num_labels: int, seed: int) -> FewLabels:
    """Hide all labels but `num_labels`, drawn with `seed`. Every class keeps the same number. The images are shared.

    Raises:
      ValueError: If there are too few images, or `num_labels` is not a multiple of the number of classes.
    """
    labels, kept = data.labels, []
    classes = np.unique(labels)
    if num_labels % len(classes):
        raise ValueError(f"--num_labels must be a multiple of the {len(classes)} classes, got {num_labels}")
    rng, each = np.random.RandomState(seed), num_labels // len(classes)
    for label in classes:
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < each:
            raise ValueError(
                f"--num_labels={num_labels} takes {each} images per class, but class {label} has {len(of_class)}"
            )
        kept.append(rng.permutation(of_class)[:each])
    hidden = np.full(len(labels), UNKNOWN)
    hidden[np.concatenate(kept)] = labels[np.concatenate(kept)]
    return data._replace(labels=hidden)
