"""Bounds against training samples."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from aevb.figures.edges import Shown, note_departures
from aevb.figures.style import (
    COLUMN,
    MOST_COLUMNS,
    TEXT,
    Drawing,
    Look,
    key,
    legend_below,
    line_key,
    looks,
    minus,
    new_drawing,
    panel_grid,
    plot,
    styled,
    wrapped,
)

SAMPLES = "training samples"
"""The horizontal axis of every learning curve."""

BOUND = "lower bound (nats per datapoint)"

_VALIDATION = "validation"
_LINES = {"test": "-", "train": "--", _VALIDATION: ":"}
_SPLITS = ("test", "train")
_OF_THE_BEST = 15  # per cent of the best curve's values that may fall below the axis


class Curve(NamedTuple):
    """A bound against training samples seen.

    Attributes:
      label: for the legend.
      num_train_samples: `[T]`.
      train: `[T]` or `[S, T]` for S seeds, nats per datapoint.
      test: as `train`.
      valid: `[T]`, or `None` where there are no validation data; for `lower_bounds`.
    """

    label: str
    num_train_samples: np.ndarray
    train: np.ndarray
    test: np.ndarray
    valid: np.ndarray | None = None


class Panel(NamedTuple):
    """One set of axes of a figure of several.

    Attributes:
      title: of the panel.
      curves: with the same label they look the same in every panel.
      x_label: what the curves are against.
      notes: lines to write into the panel, for example which runs diverged and have no curve.
    """

    title: str
    curves: Sequence[Curve]
    x_label: str = SAMPLES
    notes: Sequence[str] = ()


@styled
def lower_bounds(curves: Sequence[Curve], title: str) -> Drawing:
    """Draw lower bounds against training samples on a log axis, train dashed and test solid, as in Figure 2.

    Bounds on validation data are dotted, with a ring around the best. The legend has the last test bound of each curve.
    A curve that leaves the panel is named in it.
    """
    is_alone = len(curves) == 1 and not curves[0].label
    figure = new_drawing(COLUMN, 2.5 + 0.16 * len(curves), title)
    axes = figure.subplots()
    axes.set_xscale("log")
    shown: list[Shown] = []
    entries = []
    for curve, look in zip(curves, looks(len(curves)), strict=True):
        shown += _draw_curve(figure, axes, curve, look)
        words = {"test": f"test {last(np.asarray(curve.test)[_seen(curve)])}"}
        if curve.valid is not None:
            best, more = _draw_validation(figure, axes, curve, look)
            shown.append(more)
            words[_VALIDATION] = f"validation, best {minus(f'{best:,.1f}')}"
        if is_alone:
            named = {"test": "", "train": "train"} | words
            entries += [key(look, name, _LINES[split]) for split, name in named.items()]
        else:
            entries.append(key(look, f"{curve.label}: {', '.join(words.values())}"))
    log_axis(axes)
    axes.set_xlabel(SAMPLES)
    axes.set_ylabel(BOUND)
    axes.set_ylim(*_bound_limits(curves))
    note_departures(axes, shown)
    has_valid = any(curve.valid is not None for curve in curves)
    legend_below(figure, entries, None if is_alone else _KEY + _KEY_VALIDATION * has_valid)
    return figure


_KEY, _KEY_VALIDATION = "solid: test, dashed: train", ",\ndotted: validation, ring: its best"


@styled
def bound_panels(panels: Sequence[Panel], num_columns: int, y_label: str = BOUND, y_quantile: float = 15) -> Drawing:
    """Draw panels of bounds against training samples on a log axis, train dashed and test solid, as Figures 2 and 3.

    A band is one standard deviation over seeds either side of their mean. Curves with the same label look the same in
    all panels. A curve that leaves its panel is named in it.

    Args:
      panels: row by row.
      num_columns: panels in a row, of which three fit.
      y_label: of the leftmost axes.
      y_quantile: how many per cent of a panel's values, the lowest ones, may fall below its axis.
    """
    num_columns = max(1, min(num_columns, MOST_COLUMNS, len(panels)))
    width = COLUMN if num_columns == 1 else TEXT
    titles = [wrapped(panel.title, 0.85 * width / num_columns) for panel in panels]
    lines = max((title.count("\n") for title in titles), default=0)
    figure = new_drawing(width, (2.0 + 0.14 * lines) * -(-len(panels) // num_columns) + 0.5, "")
    names = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    by_name = dict(zip(names, looks(len(names)), strict=True))
    for number, (axes, panel, title) in enumerate(
        zip(panel_grid(figure, len(panels), num_columns), panels, titles, strict=True)
    ):
        _draw_panel(figure, axes, panel, by_name, y_quantile)
        axes.set_title(title)
        if number % num_columns == 0:
            axes.set_ylabel(y_label)
    splits = [line_key(_LINES[split], split) for split in _SPLITS]
    legend_below(figure, [*(key(look, name) for name, look in by_name.items()), *splits])
    return figure


def _draw_panel(figure: Drawing, axes: Axes, panel: Panel, by_name: Mapping[str, Look], y_quantile: float) -> None:
    axes.set_xscale("log")
    shown = []
    for curve in panel.curves:
        shown += _draw_curve(figure, axes, curve, by_name[curve.label], panel.title)
    values = np.concatenate([each.y for each in shown]) if shown else np.zeros(0)
    values = values[np.isfinite(values)]
    if len(values):
        best = max((each.y for each in shown if np.isfinite(each.y[-1:]).any()), key=lambda y: y[-1], default=values)
        low = min(np.percentile(values, y_quantile), np.nanpercentile(best, _OF_THE_BEST))
        high = values.max()
        axes.set_ylim(low - 0.05 * (high - low) - 1e-6, high + 0.08 * (high - low) + 1e-6)
    log_axis(axes)
    axes.set_xlabel(panel.x_label)
    note_departures(axes, shown, panel.notes)


def _draw_curve(figure: Drawing, axes: Axes, curve: Curve, look: Look, panel: str = "") -> list[Shown]:
    """Draw the test and training bounds of a curve: of several seeds the mean, and a band of a standard deviation."""
    seen = _seen(curve)
    samples, shown = np.asarray(curve.num_train_samples)[seen], []
    names = {"panel": panel} if panel else {}
    for split in _SPLITS:
        values = np.atleast_2d(getattr(curve, split))[:, seen]
        mean = values.mean(0)
        plot(axes, samples, mean, look, f"{curve.label} {split}".strip(), _LINES[split])
        columns = {"x": samples, "y": mean}
        if len(values) > 1:
            deviation = values.std(0, ddof=1)
            axes.fill_between(samples, mean - deviation, mean + deviation, color=look.color, alpha=0.2, linewidth=0)
            columns["standard_deviation"] = deviation
        figure.record(columns, **names, curve=curve.label, split=split)
        shown.append(Shown(curve.label, split, look.color, samples, mean))
    return shown


def _draw_validation(figure: Drawing, axes: Axes, curve: Curve, look: Look) -> tuple[float, Shown]:
    """Draw the bounds on validation data with a ring around the best, and return that and the line."""
    samples, valid = (np.asarray(of)[_seen(curve)] for of in (curve.num_train_samples, curve.valid))
    best = int(np.nanargmax(valid))
    plot(axes, samples, valid, look, f"{curve.label} {_VALIDATION}".strip(), _LINES[_VALIDATION])
    axes.plot(samples[best], valid[best], color=look.color, marker="o", markersize=7, markerfacecolor="none")
    figure.record({"x": samples, "y": valid}, curve=curve.label, split=_VALIDATION)
    return float(valid[best]), Shown(curve.label, _VALIDATION, look.color, samples, valid)


def _seen(curve: Curve) -> np.ndarray:
    """Tell where a curve is on a log axis, which has no 0."""
    return np.asarray(curve.num_train_samples) > 0


def last(values: np.ndarray) -> str:
    """Return the last of some values in words."""
    return minus(f"{values[-1]:,.1f}") if len(values) else "none"


def log_axis(axes: Axes) -> None:
    """Make the horizontal axis logarithmic; where it has few powers of ten, name three times these too."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < low * _FEW_TIMES:
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    elif high < low * 10**_FEW_DECADES:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(EngFormatter(places=0, sep="") if low >= 1 else StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


_FEW_TIMES, _FEW_DECADES = 4, 1.8


def _bound_limits(curves: Sequence[Curve]) -> tuple[float | None, float | None]:
    """Return limits without the first moments, whose bounds are hundreds of nats below all that follows."""
    values = [np.concatenate([c.train, c.test])[np.tile(np.asarray(c.num_train_samples) > 0, 2)] for c in curves]
    found = np.concatenate(values) if values else np.array([])
    found = found[np.isfinite(found)]
    if len(found) < 3:
        return None, None
    low, high = np.percentile(found, 3), found.max()
    margin = 0.06 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)
