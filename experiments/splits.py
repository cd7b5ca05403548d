"""The splits of a data set: training, validation where images are kept aside for it, test."""

from typing import Any, NamedTuple

from aevb import data as datasets
from aevb.data import Dataset


class Splits(NamedTuple):
    """What a run trains on and what it is evaluated on; nothing is ever chosen by `test`."""

    train: Dataset
    valid: Dataset | None
    test: Dataset

    @classmethod
    def load(
        cls,
        dataset: str,
        data_dir: str | None,
        source_dir: str | None,
        split_rule: str,
        num_valid_images: int = 0,
        num_train_images: int = 0,
    ) -> "Splits":
        """Load a data set, keep images aside for validation, and take a subset of the rest; 0 is none and all."""
        train, test = (datasets.load(dataset, split, data_dir, source_dir, split_rule) for split in ("train", "test"))
        train, valid = train.split_off(num_valid_images) if num_valid_images else (train, None)
        return cls(train.subset(num_train_images) if num_train_images else train, valid, test)

    @classmethod
    def of(cls, config: dict[str, Any], data_dir: str | None, source_dir: str | None) -> "Splits":
        """Load what a run was made of, from its config.json."""
        rule = datasets.split_rule_of(config["dataset"], config["split_rule"])
        counts = config.get("num_valid_images", 0), config.get("num_train_images", 0)
        return cls.load(config["dataset"], data_dir, source_dir, rule, *counts)
