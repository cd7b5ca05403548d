"""Data sets as arrays, for example `load("mnist", "train")`.

A data set in this package is a file with a `SOURCE` and a line in `SOURCES`. Other code adds one with
`aevb.data.register(Source(...))`. Your own arrays and files need no definition: `load_own`, `from_arrays` and
`from_folder` read them.
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aevb.arguments import describe
from aevb.data.dataset import Condition, Dataset, Splits
from aevb.data.sequences import lengths_of, padded
from aevb.data.source import DatasetError, DatasetWarning, Feature, Source, SplitRule
from aevb.registry import Registry

if TYPE_CHECKING:
    from aevb.data.own import from_arrays, from_folder, load_own

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
    "lengths_of",
    "load",
    "load_own",
    "load_splits",
    "names",
    "padded",
    "register",
    "split_rule_of",
]

# Imported late, here and below: what reads files is a fifth of the time that importing aevb's own modules takes.
_LATE = ("from_arrays", "from_folder", "load_own")


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'aevb.data' has no attribute {name!r}")
    return getattr(importlib.import_module("aevb.data.own"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


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
        "jsb_chorales": "aevb.data.sources.jsb_chorales:SOURCE",
        "basic_motions": "aevb.data.sources.basic_motions:SOURCE",
        "japanese_vowels": "aevb.data.sources.japanese_vowels:SOURCE",
        "co2": "aevb.data.sources.co2:SOURCE",
    },
    _check,
)


def names() -> tuple[str, ...]:
    """Return the names that `load` accepts."""
    return SOURCES.names()


def register(source: Source) -> Source:
    """Register a data set under its own name, for `load`. A registered data set of the same name is replaced.

    Raises:
      TypeError: `source` is not a `Source`.
      ValueError: the name is built in, or is not an identifier.
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
    """Load one split. The data set is prepared first if necessary.

    Args:
      name: one of `names()`.
      split: "train" or "test", or "valid" for a data set with a validation split.
      data_dir: the folder of prepared data; `None` is TFDS's default (`$TFDS_DATA_DIR`, or ~/tensorflow_datasets).
      source_dir: a folder of original files to use instead of downloads, or a folder with one such folder per data set.
        Checksums are verified in both cases. Data prepared earlier are used only if these files are unchanged since.
      split_rule: for "frey_face", "random" (default) or "first_1565"; every other data set has a single rule.

    Returns:
      A `Dataset`.

    Raises:
      ValueError: the name, split or split rule is unknown.
      DatasetError: the data are not available, are damaged, or cannot be written.
    """
    source = _source(name)
    rule = _rule(source, split_rule)
    if split not in rule.splits:
        raise ValueError(f"split must be {' or '.join(map(repr, rule.splits))}, got {split!r}")
    stored, indices = rule.select(split)
    from aevb.data.originals import folder_of

    originals_dir = None if source_dir is None else folder_of(source, Path(source_dir).expanduser())
    arrays = _stored_arrays(source, _data_dir(data_dir), originals_dir, stored)
    chosen = {each: array[indices] for each, array in arrays.items()}
    for array in chosen.values():
        array.setflags(write=False)
    images, labels = chosen.pop(source.main), chosen.pop("labels", None)
    return Dataset(
        name, split, images, labels, source.max_value, rule.description,
        main=source.main, others=chosen, num_classes=source.num_classes or None, label_names=source.label_names,
    )  # fmt: skip


def load_splits(
    name: str,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    split_rule: str | None = None,
) -> Splits:
    """Load all splits of a data set; `valid` is `None` if it has none. Arguments and errors are those of `load`."""
    has_valid = "valid" in _rule(_source(name), split_rule).splits
    train, valid, test = (
        load(name, split, data_dir, source_dir, split_rule) if split != "valid" or has_valid else None
        for split in ("train", "valid", "test")
    )
    assert train is not None
    assert test is not None
    return Splits(train, valid, test)


def split_rule_of(name: str, description: str) -> str:
    """Return the `split_rule` argument of `load` for the `Dataset.split_rule` recorded by a run.

    Raises:
      ValueError: the data set is unknown, or none of its rules has that description.
    """
    for rule_name, rule in _source(name).split_rules.items():
        if rule.description == description:
            return rule_name
    raise ValueError(f"{name} has no split rule with the description {description!r}")


def _rule(source: Source, split_rule: str | None) -> SplitRule:
    rule_name = next(iter(source.split_rules)) if split_rule is None else split_rule
    if rule_name not in source.split_rules:
        raise ValueError(f"split_rule of {source.name} must be one of {tuple(source.split_rules)}, got {split_rule!r}")
    return source.split_rules[rule_name]


def _source(name: str) -> Source:
    if name not in names():
        known = ", ".join(names())
        raise ValueError(f"unknown data set {describe(name)}: choose from {known}, or add one with aevb.data.register")
    return SOURCES.get(name)


def _data_dir(data_dir: str | os.PathLike | None) -> Path:
    if data_dir is not None:
        return Path(data_dir).expanduser()
    # The same rule as in TFDS, without the import of TFDS, which takes a second and a half.
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _stored_arrays(source: Source, data_dir: Path, source_dir: Path | None, stored: str) -> dict[str, np.ndarray]:
    from aevb.data.cache import read_cache, write_cache
    from aevb.data.identity import made_of

    cached = read_cache(source, data_dir, stored, source_dir)
    if cached is not None:
        return cached
    # Imported late: TFDS is needed only once per data set, to prepare it.
    from aevb.data.builder import prepare

    made = made_of(source, source_dir)
    splits = prepare(source, data_dir, source_dir)
    write_cache(source, data_dir, splits, made)
    return splits[stored]
