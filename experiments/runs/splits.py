"""The splits of a data set: training, validation where images are kept aside for it, test."""

from pathlib import Path
from typing import Any, NamedTuple

import aevb
from aevb import data as datasets
from aevb.data import Dataset
from experiments.configs import DataConfig
from experiments.runs import distributed


class Splits(NamedTuple):
    """What a run trains on and what it is evaluated on; nothing is ever chosen by `test`."""

    train: Dataset
    valid: Dataset | None
    test: Dataset

    @classmethod
    def load(cls, data: DataConfig, data_dir: str | None, source_dir: str | None) -> "Splits":
        """Load a data set, keep images aside for validation, and take a subset of the rest.

        Args:
          data: which, and how many of its images.
          data_dir: where prepared data are kept.
          source_dir: a folder of the original files, or one that has such a folder of this data set's name.
        """
        originals = _originals(data.name, source_dir)
        train, test = (
            datasets.load(data.name, split, data_dir, originals, data.split_rule) for split in ("train", "test")
        )
        train, valid = train.split_off(data.num_valid_images) if data.num_valid_images else (train, None)
        return cls(train.subset(data.num_train_images) if data.num_train_images else train, valid, test)


def _originals(name: str, source_dir: str | None) -> Path | None:
    if source_dir is None:
        return None
    inside = Path(source_dir) / name
    return inside if inside.is_dir() else Path(source_dir)


def rows_of(data: Dataset) -> Any:
    """Return a split's pixels: all of them for one process, those that it asks for where there are several."""
    return data.pixels() if distributed.process_count() == 1 else data.lazy_pixels()


def stream_of(data: Dataset) -> aevb.Stream:
    """Return a split to be read while it is trained on."""
    return aevb.Stream(data.images.reshape(len(data.images), -1), max_value=data.max_value)
