"""Sequences: rolls of many values between 0 and 1, lines of a few, and bounds along time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from aevb.figures.style import TEXT, Drawing, key, legend_below, literal, looks, new_drawing, plot, styled

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


@styled
def rolls(panels: Sequence[tuple[str, np.ndarray]], title: str, y_label: str = "value", first: int = 0) -> Drawing:
    """Draw sequences as pictures, time to the right and values upwards, one under the other on the same axes.

    Of 88 keys of a piano this is a piano roll.

    Args:
      panels: a title and a sequence `[T, D]` in [0, 1] each, NaN where nothing was observed; T may differ.
      title: of the figure.
      y_label: of the values.
      first: the number of the first value.
    """
    low, high = _used(panels)
    longest = max(len(values) for _, values in panels)
    figure = new_drawing(TEXT, 1.3 * len(panels) + 0.3, title)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, (name, values) in zip(grid, panels, strict=True):
        extent = (0, len(values), first + low - 0.5, first + high - 0.5)
        shown = np.nan_to_num(values[:, low:high]).T
        options = {"cmap": "gray_r", "vmin": 0, "vmax": 1, "interpolation": "nearest", "aspect": "auto"}
        axes.imshow(shown, origin="lower", extent=extent, **options)
        axes.set_title(name)
        axes.set_ylabel(y_label)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        numbers, steps = first + np.arange(low, high), np.arange(1, len(values) + 1)
        figure.record({"x": steps[:, None], "y": numbers[None, :], "value": values[:, low:high]}, panel=name)
    grid[0].set_xlim(0, longest)
    grid[-1].set_xlabel("step")
    return figure


@styled
def sequence_lines(panels: Sequence[Lines], names: Sequence[str], title: str) -> Drawing:
    """Draw sequences of a few values as lines along time, one panel under the other; what was observed as points.

    Args:
      panels: one or more.
      names: D of them, for the legend.
      title: of the figure.
    """
    figure = new_drawing(TEXT, 1.25 * len(panels) + 0.5, title)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    all_looks = looks(len(names))
    for axes, panel in zip(grid, panels, strict=True):
        steps = np.arange(1, len(panel.lines) + 1)
        for number, (name, look) in enumerate(zip(names, all_looks, strict=True)):
            line = panel.lines[:, number]
            axes.plot(steps, line, color=look.color, linestyle=look.line, label=literal(name))
            figure.record({"x": steps, "y": line}, panel=panel.title, curve=name, what="line")
            if panel.values is not None:
                values, number_of = panel.values[:, number], np.arange(1, len(panel.values) + 1)
                axes.plot(number_of, values, look.marker, color=look.color, markersize=2.2, alpha=0.6)
                figure.record({"x": number_of, "y": values}, panel=panel.title, curve=name, what="observed")
        axes.set_title(panel.title)
    grid[-1].set_xlabel("step")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    has_values = any(panel.values is not None for panel in panels)
    entries = [key(look, literal(name), look.line) for look, name in zip(all_looks, names, strict=True)]
    legend_below(figure, entries if has_values else grid[0].get_legend_handles_labels()[0])
    return figure


@styled
def bound_by_step(reconstruction: np.ndarray, kl: np.ndarray, counts: np.ndarray, title: str) -> Drawing:
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
        "\N{MINUS SIGN}KL": -kl[shown] / counts,
    }
    figure = new_drawing(TEXT, 3.2, title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for (name, values), look in zip(terms.items(), looks(len(terms)), strict=True):
        plot(above, steps, values, look, name, look.line)
        figure.record({"x": steps, "y": values, "sequences": counts}, curve=name)
    above.set_ylabel("nats per step")
    legend_below(figure, above.get_legend_handles_labels()[0])
    _count_axis(below, steps, counts)
    return figure


def _count_axis(axes: Axes, steps: np.ndarray, counts: np.ndarray) -> None:
    axes.fill_between(steps, counts, step="mid", color="0.6", linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("sequences")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _used(panels: Sequence[tuple[str, np.ndarray]]) -> tuple[int, int]:
    """Return the range of values that are ever above a threshold, with a margin."""
    size = panels[0][1].shape[1]
    used = np.any([np.nanmax(values, axis=0, initial=0) > _THRESHOLD for _, values in panels], axis=0)
    if not used.any():
        return 0, size
    found = np.flatnonzero(used)
    return max(found[0] - _MARGIN, 0), min(found[-1] + 1 + _MARGIN, size)
