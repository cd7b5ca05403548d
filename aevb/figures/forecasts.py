"""Forecasts: fans of quantiles, scores by horizon, and whether probabilities are what they claim."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from aevb.figures.style import (
    COLUMN,
    FIRST,
    MOST_COLUMNS,
    TEXT,
    Drawing,
    legend_below,
    literal,
    looks,
    new_drawing,
    panel_grid,
    plot,
    styled,
    wrapped,
)

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


@styled
def fans(panels: Sequence[Fan], num_columns: int, x_label: str, title: str) -> Drawing:
    """Draw forecasts as bands of 50 and 90 %, a median and a few draws, over what was observed.

    Args:
      panels: row by row; those of a column share their axes.
      num_columns: panels in a row, of which three fit; with more, panels share no axes.
      x_label: what times are.
      title: of the figure.
    """
    shares = num_columns <= MOST_COLUMNS
    num_columns = min(num_columns, MOST_COLUMNS)
    num_rows = -(-len(panels) // num_columns)
    figure = new_drawing(TEXT, 1.55 * num_rows + 0.6, literal(title))
    grid = panel_grid(
        figure, len(panels), num_columns, sharex="col" if shares else False, sharey="col" if shares else False
    )
    for index, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        names = {"panel": panel.title}
        for level, alpha in zip(_BANDS, (0.2, 0.35), strict=True):
            low, high = np.quantile(panel.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
            label = f"{level:.0%} of draws"
            axes.fill_between(panel.forecast_times, low, high, color=FIRST, alpha=alpha, linewidth=0, label=label)
            for side, values in (("lower", low), ("upper", high)):
                figure.record({"x": panel.forecast_times, "y": values}, **names, curve=f"{side} end, {label}")
        for number, path in enumerate(panel.draws[:_NUM_PATHS]):
            label = "draws" if number == 0 else None
            axes.plot(panel.forecast_times, path, color=FIRST, linewidth=0.6, alpha=0.8, label=label)
            figure.record({"x": panel.forecast_times, "y": path}, **names, curve=f"draw {number + 1}")
        median = np.median(panel.draws, axis=0)
        axes.plot(panel.forecast_times, median, color=FIRST, linestyle="--", linewidth=1.4, label="median")
        axes.plot(panel.times, panel.values, ".-", color="0.15", linewidth=0.7, markersize=2.5, label="observed")
        figure.record({"x": panel.forecast_times, "y": median}, **names, curve="median")
        figure.record({"x": panel.times, "y": panel.values}, **names, curve="observed")
        axes.set_title(wrapped(literal(panel.title), 0.9 * TEXT / num_columns))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if index + num_columns >= len(panels):
            axes.set_xlabel(x_label)
            axes.tick_params(labelbottom=True)
    legend_below(figure, grid[0].get_legend_handles_labels()[0])
    return figure


@styled
def by_horizon(scores: Mapping[str, np.ndarray], y_label: str, title: str) -> Drawing:
    """Draw scores of forecasts against how many steps ahead they are.

    Args:
      scores: by model, `[H]`; NaN is left out.
      y_label: what they are.
      title: of the figure.
    """
    figure = new_drawing(COLUMN, 2.4 + 0.16 * len(scores), literal(title))
    axes = figure.subplots()
    for (name, values), look in zip(scores.items(), looks(len(scores)), strict=True):
        steps = np.arange(1, len(values) + 1)
        plot(axes, steps, values, look, literal(name), look.line)
        figure.record({"x": steps, "y": values}, curve=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps ahead")
    axes.set_ylabel(y_label)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


@styled
def reliability(chances: Mapping[str, np.ndarray], outcomes: np.ndarray, title: str, num_bins: int = 10) -> Drawing:
    """Draw how often what was given a probability came true, against that probability, and how often each was given.

    Args:
      chances: by model, `[N]` between 0 and 1.
      outcomes: `[N]`, 0 or 1; NaN is left out.
      title: of the figure.
      num_bins: of equal width.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    seen = ~np.isnan(outcomes)
    figure = new_drawing(COLUMN, 3.4 + 0.16 * len(chances), literal(title))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=1, label="calibrated")
    for (name, each), look in zip(chances.items(), looks(len(chances)), strict=True):
        bins = np.clip(np.digitize(each[seen], edges) - 1, 0, num_bins - 1)
        counts = np.bincount(bins, minlength=num_bins)
        with np.errstate(invalid="ignore"):
            said, true = (np.bincount(bins, values[seen], num_bins) / counts for values in (each, outcomes))
            error = 2 * np.sqrt(true * (1 - true) / counts)
        said, true = (np.where(counts < _FEWEST, np.nan, each) for each in (said, true))
        above.errorbar(
            said, true, error, fmt=look.marker, linestyle=look.line, color=look.color, markersize=4, label=literal(name)
        )
        below.stairs(counts, edges, color=look.color, linestyle=look.line, linewidth=1.2)
        figure.record({"x": said, "y": true, "two_standard_errors": error, "values": counts}, curve=name)
    above.set_ylabel("share that came true\n(bars: 2 standard errors)")
    below.set_yscale("log")
    below.set_xlabel("predicted probability")
    below.set_ylabel("values")
    legend_below(figure, above.get_legend_handles_labels()[0])
    return figure
