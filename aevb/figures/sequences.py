"""Sequences: rolls of many values between 0 and 1, lines of a few, and bounds along time."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aevb.figures.style import STYLE, palette

_WIDTH = 8.0  # inches
_MARGIN = 2  # values shown beyond the lowest and the highest that are ever above the threshold
_THRESHOLD = 0.05


class Lines(NamedTuple):
    """One panel of lines.

    Attributes:
      title: of the panel.
      values: `[T, D]`, drawn as points; NaN is left out. `None` where there are none.
      lines: `[T, D]`.
    """

    title: str
    values: np.ndarray | None
    lines: np.ndarray


def rolls(panels: Sequence[tuple[str, np.ndarray]], title: str, y_label: str = "value", first: int = 0) -> Figure:
    """Sequences as pictures, time to the right and values upwards, one under the other on the same axes.

    Of 88 keys of a piano this is a piano roll.

    Args:
      panels: a title and a sequence `[T, D]` in [0, 1] each, NaN where nothing was observed; T may differ.
      title: of the figure.
      y_label: of the values.
      first: the number of the first value.
    """
    low, high = _used(panels)
    longest = max(len(values) for _, values in panels)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 1.65 * len(panels) + 0.7), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, (name, values) in zip(grid, panels, strict=True):
            extent = (0, len(values), first + low - 0.5, first + high - 0.5)
            shown = np.nan_to_num(values[:, low:high]).T
            options = {"cmap": "gray_r", "vmin": 0, "vmax": 1, "interpolation": "nearest", "aspect": "auto"}
            axes.imshow(shown, origin="lower", extent=extent, **options)
            axes.set_title(name)
            axes.set_ylabel(y_label)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        grid[0].set_xlim(0, longest)
        grid[-1].set_xlabel("step")
        figure.suptitle(title)
    return figure


def sequence_lines(panels: Sequence[Lines], names: Sequence[str], title: str) -> Figure:
    """Sequences of a few values as lines along time, one panel under the other; what was observed as points.

    Args:
      panels: one or more.
      names: D of them, for the legend.
      title: of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 1.5 * len(panels) + 0.9), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            for number, (name, color) in enumerate(zip(names, palette(len(names)), strict=True)):
                steps = np.arange(1, len(panel.lines) + 1)
                axes.plot(steps, panel.lines[:, number], color=color, linewidth=1.2, label=name)
                if panel.values is not None:
                    axes.plot(steps, panel.values[:, number], ".", color=color, markersize=3, alpha=0.6)
            axes.set_title(panel.title)
        grid[-1].set_xlabel("step")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), 6))
        figure.suptitle(title)
    return figure


def bound_by_step(reconstruction: np.ndarray, kl: np.ndarray, counts: np.ndarray, title: str) -> Figure:
    """Draw what each step adds to a bound, as a mean over those sequences that are so long, and how many these are.

    Args:
      reconstruction: `[T]`, the sum over sequences of E_q[log p(x_t|z)], in nats.
      kl: `[T]`, the sum of the KL divergences of each step.
      counts: `[T]`, how many sequences reach a step; where none does, nothing is drawn.
      title: of the figure.
    """
    shown = counts > 0
    steps, counts = np.arange(1, len(counts) + 1)[shown], counts[shown]
    terms = {
        "bound": (reconstruction - kl)[shown] / counts,
        "reconstruction": reconstruction[shown] / counts,
        "- KL": -kl[shown] / counts,
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for (name, values), color in zip(terms.items(), palette(len(terms)), strict=True):
            above.plot(steps, values, color=color, linewidth=1.2, label=name)
        above.set_ylabel("nats per step")
        above.legend(loc="best", ncols=len(terms))
        _count_axis(below, steps, counts)
        figure.suptitle(title)
    return figure


def _count_axis(axes: Axes, steps: np.ndarray, counts: np.ndarray) -> None:
    axes.fill_between(steps, counts, step="mid", color="0.6", linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("sequences")
    axes.set_xlabel("step")


def _used(panels: Sequence[tuple[str, np.ndarray]]) -> tuple[int, int]:
    """Return the range of values that are ever above a threshold, with a margin."""
    size = panels[0][1].shape[1]
    used = np.any([np.nanmax(values, axis=0, initial=0) > _THRESHOLD for _, values in panels], axis=0)
    if not used.any():
        return 0, size
    found = np.flatnonzero(used)
    return max(found[0] - _MARGIN, 0), min(found[-1] + 1 + _MARGIN, size)
