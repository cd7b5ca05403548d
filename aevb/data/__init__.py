"""Data sets as arrays: `load("mnist", "train")`. A new one is a file with a `SOURCE` and a line in `SOURCES`.

From outside of the package it is `aevb.data.register(Source(...))`. Data of one's own, arrays and files that need no
definition, are read by `load_own`, `from_arrays` and `from_folder`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from aevb.arguments import describe
from aevb.data.cache import read_cache, write_cache
from aevb.data.dataset import Condition, Dataset, Splits
from aevb.data.identity import made_of
from aevb.data.own import from_arrays, from_folder, load_own
from aevb.data.source import DatasetError, DatasetWarning, Feature, Source
from aevb.registry import Registry

__all__ = [
    "SOURCES",
    "Condition",
    "Dataset",
    "DatasetError",
    "DatasetWarning",
    "Feature",
    "Source",
    "Splits",
    "from_arrays",
    "from_folder",
    "load",
    "load_own",
    "names",
    "register",
    "split_rule_of",
]


def _check(source: Any) -> None:
    if not isinstance(source, Source):
        raise TypeError(f"a data set must be an aevb.data.Source, got {describe(source)}")


SOURCES: Registry[Source] = Registry(
    "data set",
    {
        "mnist": "aevb.data.sources.mnist:SOURCE",
        "frey_face": "aevb.data.sources.frey_face:SOURCE",
        "digits": "aevb.data.sources.digits:SOURCE",
        "bimodal": "aevb.data.sources.bimodal:SOURCE",
        "diabetes": "aevb.data.sources.diabetes:SOURCE",
    },
    _check,
)


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
        What was prepared before is used only where these files have not changed since.
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
    chosen = {each: array[indices] for each, array in arrays.items()}
    for array in chosen.values():
        array.setflags(write=False)
    images, labels = chosen.pop(source.main), chosen.pop("labels", None)
    return Dataset(
        name, split, images, labels, source.max_value, rule.description,
        main=source.main, others=chosen, num_classes=source.num_classes or None,
    )  # fmt: skip


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


def _stored_arrays(source: Source, data_dir: Path, source_dir: Path | None, stored: str) -> dict[str, np.ndarray]:
    cached = read_cache(source, data_dir, stored, source_dir)
    if cached is not None:
        return cached
    # Imported late: TFDS is needed once for each data set, to prepare it.
    from aevb.data.builder import prepare

    made = made_of(source, source_dir)
    splits = prepare(source, data_dir, source_dir)
    write_cache(source, data_dir, splits, made)
    return splits[stored]
