"""Forecasts: fans of quantiles, scores by horizon, and whether probabilities are what they say."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aevb.figures.style import PANELS_WIDTH, STYLE, literal, palette

_BANDS = (0.9, 0.5)
_NUM_PATHS = 3
_FEWEST = 10  # values of which a share is shown


class Fan(NamedTuple):
    """One panel: a forecast, and what was observed before and after it.

    Attributes:
      title: of the panel.
      times: `[T]`, of `values`.
      values: `[T]`, observed; NaN is left out.
      forecast_times: `[H]`.
      draws: `[S, H]`.
    """

    title: str
    times: np.ndarray
    values: np.ndarray
    forecast_times: np.ndarray
    draws: np.ndarray


def fans(panels: Sequence[Fan], num_columns: int, x_label: str, title: str) -> Figure:
    """Forecasts as bands of 50 and 90 %, a median and a few draws, over what was observed.

    Args:
      panels: row by row; those of a column share their axes.
      num_columns: panels in a row.
      x_label: what times are.
      title: of the figure.
    """
    num_rows = -(-len(panels) // num_columns)
    color = palette(2)[1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANELS_WIDTH, 2.1 * num_rows + 0.8), layout="constrained")
        grid = figure.subplots(num_rows, num_columns, squeeze=False, sharex="col", sharey="col")
        for axes, panel in zip(grid.ravel(), panels, strict=False):
            for level, alpha in zip(_BANDS, (0.2, 0.35), strict=True):
                low, high = np.quantile(panel.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
                label = f"{level:.0%} of draws"
                axes.fill_between(panel.forecast_times, low, high, color=color, alpha=alpha, linewidth=0, label=label)
            for number, path in enumerate(panel.draws[:_NUM_PATHS]):
                label = "draws" if number == 0 else None
                axes.plot(panel.forecast_times, path, color=color, linewidth=0.6, alpha=0.8, label=label)
            axes.plot(panel.forecast_times, np.median(panel.draws, axis=0), color=color, linewidth=1.4, label="median")
            axes.plot(panel.times, panel.values, ".-", color="0.15", linewidth=0.7, markersize=2.5, label="observed")
            axes.set_title(literal(panel.title))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for axes in grid[-1]:
            axes.set_xlabel(x_label)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        figure.suptitle(literal(title))
    return figure


def by_horizon(scores: Mapping[str, np.ndarray], y_label: str, title: str) -> Figure:
    """Scores of forecasts against how many steps ahead they are.

    Args:
      scores: by model, `[H]`; NaN is left out.
      y_label: what they are.
      title: of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for (name, values), color in zip(scores.items(), palette(len(scores)), strict=True):
            axes.plot(np.arange(1, len(values) + 1), values, ".-", color=color, linewidth=1.2, label=literal(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("steps ahead")
        axes.set_ylabel(y_label)
        axes.set_title(literal(title))
        axes.legend(loc="best")
    return figure


def reliability(chances: Mapping[str, np.ndarray], outcomes: np.ndarray, title: str, num_bins: int = 10) -> Figure:
    """How often what was given a probability came true, against that probability, and how often each was given.

    Args:
      chances: by model, `[N]` between 0 and 1.
      outcomes: `[N]`, 0 or 1; NaN counts nothing.
      title: of the figure.
      num_bins: of equal width.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    seen = ~np.isnan(outcomes)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color="0.5", linewidth=1)
        for (name, each), color in zip(chances.items(), palette(len(chances)), strict=True):
            bins = np.clip(np.digitize(each[seen], edges) - 1, 0, num_bins - 1)
            counts = np.bincount(bins, minlength=num_bins)
            with np.errstate(invalid="ignore"):
                said, true = (np.bincount(bins, values[seen], num_bins) / counts for values in (each, outcomes))
                error = 2 * np.sqrt(true * (1 - true) / counts)
            said, true = (np.where(counts < _FEWEST, np.nan, each) for each in (said, true))
            above.errorbar(said, true, error, fmt=".-", color=color, linewidth=1.2, label=literal(name))
            below.stairs(counts, edges, color=color, linewidth=1.2)
        above.set_ylabel("share that came true, +- 2 standard errors")
        above.set_title(literal(title))
        above.legend(loc="upper left")
        below.set_yscale("log")
        below.set_xlabel("probability that was given")
        below.set_ylabel("values")
    return figure
