"""The one style that figures are drawn and saved in.

Widths are those of a two-column paper, a column or the full text, and type is 8 pt at that width: a figure is included
at 100 %. Curves are told apart by colour (Okabe and Ito, 2008), marker and, where it is free, line style, so that a
black-and-white print and a colour-blind reader lose nothing.
"""

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "figure.titlesize": 9,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.h_pad": 0.05,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "aevb",
}

COLUMN, TEXT = 3.4, 7.0
"""Widths in inches: one column, and the full text of a two-column page."""

MOST_COLUMNS = 3
"""Panels in a row: more than that are too narrow for 8 pt."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
_LETTERS_PER_INCH = 13.0  # of 9 pt
_KEY_LETTERS = 7  # the width of a legend's line and of the space between columns
_NUM_MARKS = 7  # markers on a curve

FIRST = _COLOURS[0]
"""The colour where there is one curve."""


class Look(NamedTuple):
    """How one of several curves is told from the others.

    Attributes:
      color: of the Okabe-Ito palette.
      marker: another one for each.
      line: a line style, for figures that use it for nothing else.
    """

    color: str
    marker: str
    line: Any


def looks(number: int) -> list[Look]:
    """Return the looks of so many curves; of more than 56 some are alike."""
    cycles = zip(itertools.cycle(_COLOURS), itertools.cycle(_MARKERS), itertools.cycle(_LINES), strict=False)
    return [Look(*each) for each in itertools.islice(cycles, number)]


class Drawing(Figure):
    """A figure that holds the numbers that are drawn in it.

    Attributes:
      data: rows of one table, which `save` writes as CSV beside the figure.
    """

    def __init__(self, *args: Any, **options: Any):
        """Take the arguments of `matplotlib.figure.Figure`."""
        super().__init__(*args, **options)
        self.data: list[dict[str, Any]] = []

    def record(self, columns: Mapping[str, Any], **names: Any) -> None:
        """Add rows to `data`.

        Args:
          columns: arrays that broadcast against each other, one row for each element.
          **names: what is the same in all of these rows, put before the columns.
        """
        arrays = [each.ravel() for each in np.broadcast_arrays(*columns.values())]
        self.data += [names | dict(zip(columns, row, strict=True)) for row in zip(*arrays, strict=True)]


class _RoundedLayout(ConstrainedLayoutEngine):
    """Constrained layout, rounded: the last bits of its solver vary, and SVG files have names made from them."""

    def execute(self, fig: Figure) -> None:
        """Lay out the axes."""
        super().execute(fig)
        for axes in fig.axes:
            box = axes.get_position(original=True)
            axes.set_position(Bbox(np.round(box.get_points(), 6)), which="original")
            axes.set_in_layout(True)


Function = TypeVar("Function")


def styled(function: Function) -> Function:
    """Decorate a function that draws, so that it draws in this style."""
    return matplotlib.rc_context(STYLE)(function)  # type: ignore[operator]


def new_drawing(width: float, height: float, title: str) -> Drawing:
    """Return a figure of that width and, without its title, that height in inches."""
    words = wrapped(title, width)
    lines = words.count("\n") + 1 if words else 0
    figure = Drawing(figsize=(width, height + 0.17 * lines), layout=_RoundedLayout())
    if words:
        figure.suptitle(words)
    return figure


def panel_grid(figure: Figure, number: int, num_columns: int, **options: Any) -> list[Axes]:
    """Return axes for so many panels, row by row; those that are left over in the last row are removed."""
    num_columns = max(1, min(num_columns, number))
    grid = figure.subplots(-(-number // num_columns), num_columns, squeeze=False, **options)
    for axes in grid.flat[number:]:
        axes.remove()
    return list(grid.flat[:number])


def wrapped(text: str, width: float) -> str:
    """Return text in lines that fit a width in inches."""
    letters = max(8, int(width * _LETTERS_PER_INCH))
    return "\n".join(textwrap.fill(line, letters) for line in text.split("\n"))


def literal(text: str) -> str:
    """Return text so that matplotlib shows it unchanged, without reading mathematics in it."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # an underscore would keep it out of a legend


def plot(axes: Axes, x: Any, y: Any, look: Look, label: str | None = None, line: Any = "-", **options: Any) -> Line2D:
    """Draw a curve with a few markers, evenly spaced from left to right, or a single point as a marker.

    Args:
      axes: with their scale set, so that markers are spaced in it.
      x: `[T]`.
      y: `[T]`.
      look: colour and marker.
      label: for the legend.
      line: style of the line.
      **options: for `Axes.plot`.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    options = {"markevery": _marks(x, axes.get_xscale() == "log"), "markeredgewidth": 0.5, **options}
    (drawn,) = axes.plot(x, y, color=look.color, marker=look.marker, linestyle=line, label=label, **options)
    return drawn


def _marks(x: np.ndarray, is_log: bool) -> list[int]:
    """Return the positions of the points that get a marker."""
    if len(x) <= _NUM_MARKS:
        return list(range(len(x)))
    where = np.log(np.maximum(x, 1e-300)) if is_log else x
    wanted = np.linspace(np.nanmin(where), np.nanmax(where), _NUM_MARKS)
    return sorted({int(np.nanargmin(np.abs(where - each))) for each in wanted})


def minus(text: str) -> str:
    """Return text with minus signs for hyphens before digits."""
    return re.sub(r"(?<![\w)])-(?=\d)", "\N{MINUS SIGN}", text)


def key(look: Look, label: str, line: Any = "-") -> Line2D:
    """Return a legend's entry for a curve."""
    return Line2D([], [], color=look.color, marker=look.marker, linestyle=line, label=label)


def line_key(line: Any, label: str) -> Line2D:
    """Return a legend's entry for a line style, whatever the colour."""
    return Line2D([], [], color="0.25", linestyle=line, label=label)


def legend_below(figure: Figure, entries: Sequence[Any], title: str | None = None) -> None:
    """Write a legend under all panels, in as many columns as fit."""
    labels = [str(each.get_label()).replace("$", "").replace("\\", "") for each in entries]
    width = figure.get_figwidth() * _LETTERS_PER_INCH * 9 / STYLE["legend.fontsize"]
    for columns in range(len(entries), 0, -1):
        # Filled from the top down, the first ones with one more where they do not come out even.
        sizes = [len(part) for part in np.array_split(np.arange(len(labels)), columns)]
        starts = np.cumsum([0, *sizes])
        longest = [max(map(len, labels[start : start + size])) for start, size in zip(starts, sizes, strict=False)]
        if columns == 1 or sum(longest) + _KEY_LETTERS * columns <= width:
            figure.legend(handles=list(entries), loc="outside lower center", ncols=columns, title=title)
            return
