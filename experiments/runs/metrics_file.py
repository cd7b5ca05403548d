"""The rows of metrics.csv: one per evaluation, each with its checksum."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from aevb.distributions.levels import ONE_LEVEL
from aevb.training import Evaluation
from aevb.training.history import ONLY_SOME_HAVE

CHECKSUM = "sha256"
"""The last column: half of the SHA-256 of a row's names and cells. Older versions wrote none."""

_REBUILT = " rebuilt"  # after the checksum of a row that `experiments.check --repair` evaluated again
_COUNTS = ("epoch", "num_train_samples", "active_units", "active_units_by_level")
_BY_LEVEL = ("test_kl_by_level", "active_units_by_level")


class Line(NamedTuple):
    """One line of metrics.csv.

    Attributes:
      row: the evaluation; `None` if the line is damaged.
      why: what is wrong with the line; empty if it is correct.
      is_rebuilt: whether the evaluation was repeated from a checkpoint.
      is_checked: whether the line has a checksum.
    """

    row: Evaluation | None
    why: str = ""
    is_rebuilt: bool = False
    is_checked: bool = False


def text_of(rows: Sequence[Evaluation], like: Evaluation, rebuilt: Collection[int] = ()) -> str:
    """Return the contents of the file.

    Args:
      rows: the rows in order.
      like: a row of the same run, for the columns.
      rebuilt: `num_train_samples` of the rows that were evaluated again.
    """
    heading = _csv_line([*_columns(like), CHECKSUM])
    return heading + "".join(line_of(row, row.num_train_samples in rebuilt) for row in rows)


def line_of(row: Evaluation, is_rebuilt: bool = False) -> str:
    """Return a row as a line of the file."""
    columns = _columns(row)
    mark = _REBUILT if is_rebuilt else ""
    cells = next(csv.reader([_csv_line(columns.values())]))
    return _csv_line([*columns.values(), _checksum(list(columns), cells, mark) + mark])


def parse(contents: bytes, like: Evaluation | None = None) -> list[Line]:
    """Return the lines after the heading, without an incomplete last line from an interrupted write.

    Args:
      contents: the contents of the file.
      like: a row of the same run, for the columns if the heading is damaged.

    Raises:
      ValueError, csv.Error: there is no heading.
    """
    *whole, _ = contents.decode(errors="replace").split("\n")
    heading, *lines = whole or [""]
    names = [*_columns(like), CHECKSUM] if like is not None else next(csv.reader([heading]), [])
    if not names:
        raise ValueError("it has no heading")
    return [_line(names, line) for line in lines]


def _line(names: list[str], line: str) -> Line:
    try:
        cells = next(csv.reader([line]), [])
    except csv.Error as error:
        return Line(None, str(error))
    if len(cells) != len(names):
        return Line(None, "it has more or fewer cells than the heading")
    is_checked = names[-1] == CHECKSUM
    is_rebuilt = is_checked and cells[-1].endswith(_REBUILT)
    if is_checked:
        *names, _ = names
        *cells, checksum = cells
        mark = _REBUILT if is_rebuilt else ""
        if checksum != _checksum(names, cells, mark) + mark:
            return Line(None, "its checksum does not match")
    try:
        return Line(_evaluation(dict(zip(names, cells, strict=True))), "", is_rebuilt, is_checked)
    except (ValueError, KeyError, TypeError) as error:
        return Line(None, str(error))


def _checksum(names: list[str], cells: list[str], mark: str) -> str:
    return hashlib.sha256(json.dumps([names, cells, mark]).encode()).hexdigest()[:32]


def _columns(row: Evaluation) -> dict[str, Any]:
    """Return the columns of a row, with one per level of the latents; unknown values are left out."""
    columns = {name: value for name, value in row._asdict().items() if name not in _BY_LEVEL}
    for name in ONLY_SOME_HAVE:
        if math.isnan(columns[name]):
            del columns[name]
    for name in _BY_LEVEL:
        levels = getattr(row, name)
        columns |= {f"{name}/{level}": value for level, value in levels.items() if set(levels) != {ONE_LEVEL}}
    return columns


def _evaluation(columns: dict[str, str]) -> Evaluation:
    """Return the row whose columns `_columns` returned.

    Raises:
      ValueError, KeyError, TypeError: the columns are not those of a row.
    """
    values: dict[str, Any] = {name: {} for name in _BY_LEVEL}
    for column, text in columns.items():
        name, _, level = column.partition("/")
        if level:
            values[name][level] = _number(name, text)
        else:
            values[name] = _number(name, text)
    return Evaluation(**values)


def _number(name: str, text: str) -> int | float | None:
    if name == "active_units" and not text:
        return None
    return int(text) if name in _COUNTS else float(text)


def _csv_line(row: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue()
