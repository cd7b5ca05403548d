"""Figures as files: a PNG, the same as vectors, and the numbers drawn in it as CSV."""

import csv
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from aevb.durable import make_folder, write_whole
from aevb.figures.style import STYLE, Drawing

FORMATS = ("png", "pdf", "svg")
"""The formats that `save` can write."""

# Without dates, so that the same figure is the same file.
_METADATA: Mapping[str, Any] = {"png": {}, "pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}}
_IMAGE_DPI = 400  # of images inside vectors
_DIGITS = 7
_MARGIN = 0.04  # inches


def save(
    figure: Figure,
    path: str | os.PathLike,
    formats: Sequence[str] = (),
    data: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write a figure, and beside it `NAME.csv` with the numbers drawn in it, each file whole or not at all.

    The same figure gives the same bytes. The table has one row for each point, with what tells it apart (`panel`,
    `curve`, ...) before its `x` and `y` in the units of the axes. Figures of images have one row for each image, with
    its place in the grid and what it shows, without its pixels.

    Files of the same name in formats that are not written now stay, even where an earlier call wrote them.

    Args:
      figure: any figure, of this package or not.
      path: of the PNG file, 200 dots per inch. A path that ends in .pdf or .svg is written in that format.
      formats: further ones, written beside it under the same name: png, pdf, svg.
      data: rows of the table. By default those of the figure, if it was drawn by this package; empty writes none.

    Raises:
      ValueError: one of `formats` is not known.
      OSError: a file cannot be written.
    """
    path = Path(path)
    if unknown := [each for each in formats if each not in FORMATS]:
        raise ValueError(f"formats must be of {', '.join(FORMATS)}, got {unknown[0]!r}")
    ending = path.suffix[1:].lower()
    first = ending if ending in FORMATS else "png"
    make_folder(path.parent)
    rows = data if data is not None else figure.data if isinstance(figure, Drawing) else []
    for each in dict.fromkeys((first, *formats)):
        write_whole(path if each == first else path.with_suffix(f".{each}"), _contents(figure, each))
    if rows:
        write_data(path.with_suffix(".csv"), rows)


def write_data(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all. A column that a row lacks is empty there.

    Raises:
      OSError: the file cannot be written.
    """
    write_whole(path, _table(rows))


def _contents(figure: Figure, name: str) -> bytes:
    file = io.BytesIO()
    dpi = STYLE["savefig.dpi"] if name == "png" else _IMAGE_DPI
    with warnings.catch_warnings(), matplotlib.rc_context(STYLE):
        # Letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        if isinstance(figure, Drawing):
            _lay_out(figure)
        figure.savefig(file, format=name, dpi=dpi, metadata=_METADATA[name])
    return file.getvalue()


def _lay_out(figure: Drawing) -> None:
    """Lay out a figure so that nothing is cut off: constrained layout misjudges axes of a fixed aspect."""
    figure.draw_without_rendering()  # ticks depend on the layout, and the layout on them
    engine = figure.get_layout_engine()
    if not isinstance(engine, ConstrainedLayoutEngine):
        return
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    left, bottom = max(0, _MARGIN - box.x0), max(0, _MARGIN - box.y0)
    right, top = max(0, box.x1 + _MARGIN - width), max(0, box.y1 + _MARGIN - height)
    if max(left, bottom, right, top) > 0.01:
        size = (1 - (left + right) / width, 1 - (bottom + top) / height)
        engine.set(rect=(left / width, bottom / height, *size))  # type: ignore[arg-type]


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode(errors="replace")


def _cell(value: Any) -> str:
    """Return a number with seven digits, and what is unknown as nothing."""
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.{_DIGITS}g}"
    return str(value)
