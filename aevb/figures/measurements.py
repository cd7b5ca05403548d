"""Measurements: variances of gradients, turns of a benchmark, costs."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from aevb.figures.style import STYLE


def gradient_variances(
    variances: np.ndarray,
    parts: Sequence[str],
    stages: Sequence[str],
    estimators: Sequence[tuple[str, str]],
    title: str,
) -> Figure:
    """Total variances of gradients on a log axis, a row an estimator, a panel a part of the parameters.

    Args:
      variances: `[P, S, E]`, positive.
      parts: P names, one a panel.
      stages: S names, one a marker.
      estimators: E names, each with its group's, those of a group in succession.
      title: of the figure.
    """
    groups = [group for _, group in estimators]
    first_of_group = np.array([index == 0 or groups[index - 1] != group for index, group in enumerate(groups)])
    heights = -(np.arange(len(estimators)) + 0.9 * np.cumsum(first_of_group))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 0.27 * len(estimators) + 1.9), layout="constrained")
        panels = figure.subplots(1, len(parts), sharey=True)
        colors = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.65, len(stages)))
        for axes, part, of_part in zip(panels, parts, variances, strict=True):
            axes.hlines(heights, of_part.min(axis=0), of_part.max(axis=0), color="0.8", linewidth=1.5)
            for stage, values, color, marker in zip(stages, of_part, colors, "osD^v<>", strict=False):
                axes.plot(values, heights, marker, color=color, markersize=5.5, label=stage)
            axes.set_xscale("log")
            axes.set_xlabel("total variance")
            axes.set_title(part)
            axes.grid(visible=True, axis="both")
            axes.tick_params(axis="y", length=0)
        labels = [(height, name) for height, (name, _) in zip(heights, estimators, strict=True)]
        headings = [(heights[index] + 0.95, groups[index]) for index in np.flatnonzero(first_of_group)]
        ticks = labels + headings
        panels[0].set_yticks([height for height, _ in ticks], [name for _, name in ticks])
        for text in panels[0].get_yticklabels()[len(labels) :]:
            text.set_fontweight("bold")
        panels[0].set_ylim(heights[-1] - 0.7, heights[0] + 1.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(stages))
        figure.suptitle(title)
    return figure


def turns(rates: np.ndarray, ratios: np.ndarray, names: Sequence[str], labels: tuple[str, str], title: str) -> Figure:
    """Measurements in turns, a row a contender: a dot a turn and a bar at the median.

    Args:
      rates: `[C, T]`, T turns of C contenders.
      ratios: `[C, T]`, the first contender's rate over each one's; a row of NaN is left empty.
      names: C of them.
      labels: of the two horizontal axes.
      title: of the figure.
    """
    heights = -np.arange(len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 0.32 * len(names) + 1.5), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, values, label in zip(panels, (rates, ratios), labels, strict=True):
            for height, row, color in zip(heights, values, ("#c0392b", *["#31688e"] * len(names)), strict=False):
                axes.plot(row, np.full(len(row), height), "o", color=color, markersize=4, alpha=0.5, linewidth=0)
                axes.plot([np.median(row)] * 2, [height - 0.3, height + 0.3], color=color, linewidth=2)
            axes.set_xlim(left=0)
            axes.set_xlabel(label)
        panels[1].axvline(1, color="0.5", linewidth=1, linestyle=":")
        panels[0].set_yticks(heights, names)
        figure.suptitle(title)
    return figure


def costs(panels: Sequence[tuple[str, np.ndarray, np.ndarray]], y_label: str, title: str) -> Figure:
    """Cost against one size a panel, both axes logarithmic.

    Args:
      panels: the size's name, its values `[V]`, and median, lowest and highest cost, `[3, V]`.
      y_label: of the cost.
      title: of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.4 * max(len(panels), 2), 2.8), layout="constrained")
        grid = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)
        for axes, (name, values, (median, low, high)) in zip(grid.flat, panels, strict=False):
            axes.plot(values, median, "o-", color="#31688e", markersize=4, linewidth=1.3)
            axes.fill_between(values, low, high, color="#31688e", alpha=0.2, linewidth=0)
            axes.set_xscale("log")
            axes.set_xticks(values)
            axes.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.set_xlabel(name)
        grid[0, 0].set_ylabel(y_label)
        figure.suptitle(title)
    return figure
