"""Measurements: variances of gradients, turns of a benchmark, costs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from aevb.figures.style import (
    FIRST,
    MOST_COLUMNS,
    TEXT,
    Drawing,
    legend_below,
    looks,
    new_drawing,
    panel_grid,
    styled,
)


@styled
def gradient_variances(
    variances: np.ndarray,
    parts: Sequence[str],
    stages: Sequence[str],
    estimators: Sequence[tuple[str, str]],
    title: str,
) -> Drawing:
    """Draw total variances of gradients on a log axis, one row per estimator, one panel per part of the parameters.

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
    figure = new_drawing(TEXT, 0.21 * len(estimators) + 1.2, title)
    panels = figure.subplots(1, len(parts), sharey=True)
    for axes, part, of_part in zip(panels, parts, variances, strict=True):
        axes.hlines(heights, of_part.min(axis=0), of_part.max(axis=0), color="0.8", linewidth=1.2)
        for stage, values, look in zip(stages, of_part, looks(len(stages)), strict=True):
            axes.plot(values, heights, look.marker, color=look.color, markersize=4.5, label=stage)
            for (name, group), value in zip(estimators, values, strict=True):
                figure.data.append(
                    {"panel": part, "stage": stage, "group": group, "estimator": name, "total_variance": value}
                )
        axes.set_xscale("log")
        if of_part.max() < 100 * of_part.min():
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
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
    legend_below(figure, panels[0].get_legend_handles_labels()[0])
    return figure


@styled
def turns(rates: np.ndarray, ratios: np.ndarray, names: Sequence[str], labels: tuple[str, str], title: str) -> Drawing:
    """Draw measurements in turns, one row per contender: a dot per turn and a bar at the median.

    Args:
      rates: `[C, T]`, T turns of C contenders.
      ratios: `[C, T]`, the first contender's rate over each one's; a row of NaN is left empty.
      names: C of them.
      labels: of the two horizontal axes.
      title: of the figure.
    """
    heights = -np.arange(len(names))
    figure = new_drawing(TEXT, 0.24 * len(names) + 0.8, title)
    panels = figure.subplots(1, 2, sharey=True)
    ours, theirs = looks(2)
    for axes, values, label in zip(panels, (rates, ratios), labels, strict=True):
        for height, row, name, look in zip(heights, values, names, [theirs, *[ours] * len(names)], strict=False):
            axes.plot(row, np.full(len(row), height), "o", color=look.color, markersize=3.5, alpha=0.5, linewidth=0)
            axes.plot([np.median(row)] * 2, [height - 0.3, height + 0.3], color=look.color, linewidth=2)
            figure.record({"turn": np.arange(len(row)), "x": row}, panel=label, contender=name)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
    panels[1].axvline(1, color="0.5", linewidth=1, linestyle=":")
    panels[0].set_yticks(heights, names)
    return figure


@styled
def costs(panels: Sequence[tuple[str, np.ndarray, np.ndarray]], y_label: str, title: str) -> Drawing:
    """Draw cost against one size per panel, both axes logarithmic.

    Args:
      panels: the size's name, its values `[V]`, and median, lowest and highest cost, `[3, V]`.
      y_label: of the cost.
      title: of the figure.
    """
    number = max(len(panels), 1)
    columns = min(max(number, 2), MOST_COLUMNS)
    figure = new_drawing(TEXT, 1.9 * -(-number // columns) + 0.2, title)
    grid = panel_grid(figure, number, columns, sharey=True)
    for index, (axes, (name, values, (median, low, high))) in enumerate(zip(grid, panels, strict=False)):
        axes.plot(values, median, "o-", color=FIRST)
        axes.fill_between(values, low, high, color=FIRST, alpha=0.2, linewidth=0)
        figure.record({"x": values, "y": median, "low": low, "high": high}, panel=name)
        axes.set_xscale("log")
        axes.set_xticks(values)
        axes.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_xlabel(name)
        if index % columns == 0:
            axes.set_ylabel(y_label)
    return figure
