"""Bounds against training samples."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from aevb.figures.style import LEGEND_ENTRY, STYLE, palette


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
    """One set of axes of a figure of several: a title, the curves in it, and what they are against."""

    title: str
    curves: Sequence[Curve]
    x_label: str = "training samples"


def lower_bounds(curves: Sequence[Curve], title: str) -> Figure:
    """Lower bound against training samples on a log axis, train dashed and test solid, as in Figure 2.

    On validation data it is dotted, with a ring around the best.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, max(len(curves), 1)))
        for curve, color in zip(curves, colors, strict=True):
            label = f"{curve.label} " if curve.label else ""
            test = np.asarray(curve.test)[_seen(curve)]
            _draw_curve(axes, curve, color, {"test": f"{label}test ({_last(test)})", "train": f"{label}train"})
            if curve.valid is not None:
                _draw_validation(axes, curve, color, label)
        _log_axis(axes)
        axes.set_xlabel("training samples evaluated")
        axes.set_ylabel("lower bound (nats per datapoint)")
        axes.set_title(title)
        axes.set_ylim(*_bound_limits(curves))
        axes.legend(loc="best", ncols=1 if len(curves) < 3 else 2)
    return figure


def bound_panels(
    panels: Sequence[Panel], num_columns: int, y_label: str = "lower bound (nats per datapoint)", y_quantile: float = 15
) -> Figure:
    """Panels of bounds against training samples on a log axis, train dashed and test solid, as Figures 2 and 3.

    A band is one standard deviation over seeds either side of their mean.

    Args:
      panels: row by row.
      num_columns: panels in a row.
      y_label: of the leftmost axes.
      y_quantile: how many per cent of a panel's values, the earliest ones, may fall below its axis.
    """
    num_rows = -(-len(panels) // num_columns)
    num_columns = min(num_columns, len(panels))
    with matplotlib.rc_context(STYLE):
        width = max(2.35 * num_columns, 4.5)
        figure = Figure(figsize=(width, 2.4 * num_rows + 0.4), layout="constrained")
        grid = figure.subplots(num_rows, num_columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, y_quantile)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel(y_label)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=max(1, int(width // LEGEND_ENTRY)))
    return figure


_LINES = {"test": "-", "train": "--"}


def _draw_curve(axes: Axes, curve: Curve, color: Any, labels: Mapping[str, str]) -> list[np.ndarray]:
    """Draw a curve's bounds that `labels` names; of several seeds their means, and a band of a standard deviation.

    Returns:
      What was drawn, `[T]` each.
    """
    seen = _seen(curve)
    samples, drawn = np.asarray(curve.num_train_samples)[seen], []
    marker = "o" if len(samples) == 1 else None  # a line of one point is none
    for name, label in labels.items():
        values = np.atleast_2d(getattr(curve, name))[:, seen]
        mean = values.mean(0)
        axes.plot(samples, mean, _LINES[name], color=color, linewidth=1.3, markersize=4, marker=marker, label=label)
        if len(values) > 1:
            deviation = values.std(0, ddof=1)
            axes.fill_between(samples, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
        drawn.append(mean)
    return drawn


def _draw_validation(axes: Axes, curve: Curve, color: Any, label: str) -> None:
    """Draw the bounds on validation data dotted, with a ring around the best."""
    samples, valid = (np.asarray(of)[_seen(curve)] for of in (curve.num_train_samples, curve.valid))
    best = int(np.nanargmax(valid))
    axes.plot(samples, valid, color=color, linestyle=":", label=f"{label}valid (best {valid[best]:,.1f})")
    axes.plot(samples[best], valid[best], color=color, marker="o", markerfacecolor="none")


def _seen(curve: Curve) -> np.ndarray:
    """Where a curve is on a log axis, which has no 0."""
    return np.asarray(curve.num_train_samples) > 0


def _draw_panel(axes: Axes, panel: Panel, y_quantile: float) -> None:
    shown = []
    for curve, color in zip(panel.curves, palette(len(panel.curves)), strict=True):
        names = {name: f"{curve.label} ({name})" for name in ("test", "train")}
        shown += _draw_curve(axes, curve, color, names)
    values = np.concatenate(shown) if shown else np.zeros(0)
    values = values[np.isfinite(values)]
    if len(values):
        low, high = np.percentile(values, y_quantile), values.max()
        axes.set_ylim(low - 0.05 * (high - low), high + 0.08 * (high - low) + 1e-6)
    _log_axis(axes)
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.title)


def reconstruction_and_kl(
    num_train_samples: np.ndarray, reconstruction: np.ndarray, kl: np.ndarray, title: str
) -> Figure:
    """The two terms of the test bound, apart, against training samples on a log axis."""
    seen = np.asarray(num_train_samples) > 0
    samples = np.asarray(num_train_samples)[seen]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        panels = figure.subplots(1, 2)
        names = (r"$E_q[\log p(x|z)]$", r"KL$(q(z|x)\,\|\,p(z))$")
        for axes, values, name in zip(panels, (reconstruction, kl), names, strict=True):
            values = np.asarray(values)[seen]
            axes.plot(samples, values, color="#31688e", marker="o" if len(samples) == 1 else None)
            _log_axis(axes)
            axes.set_xlabel("training samples evaluated")
            axes.set_ylabel("nats per datapoint")
            axes.set_title(f"{name}, test: {_last(values)}")
        figure.suptitle(title)
    return figure


def levels(
    num_train_samples: np.ndarray, kl: Mapping[str, np.ndarray], active: Mapping[str, np.ndarray], title: str
) -> Figure:
    """The KL divergence and the active units of each level against training samples on a log axis.

    Args:
      num_train_samples: `[T]`.
      kl: by level, `[T]`, nats per datapoint.
      active: by level, `[T]` counts; empty where they were not counted.
      title: of the figure.
    """
    seen = np.asarray(num_train_samples) > 0
    samples = np.asarray(num_train_samples)[seen]
    marker = "o" if len(samples) == 1 else None
    panels = [("KL divergence by level, test", "nats per datapoint", kl, "{:,.2f}")]
    if active:
        panels.append(("active units by level", "latent dimensions", active, "{:,.0f}"))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(panels) + 0.6, 3.0), layout="constrained")
        for axes, (name, label, by_level, written) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for (level, values), color in zip(by_level.items(), palette(len(by_level)), strict=True):
                values = np.asarray(values)[seen]
                last = written.format(values[-1]) if len(values) else "none"
                axes.plot(samples, values, color=color, linewidth=1.3, marker=marker, label=f"{level} ({last})")
            _log_axis(axes)
            axes.set_ylim(0, max(axes.get_ylim()[1], 1 if by_level is active else 0))
            axes.yaxis.set_major_locator(MaxNLocator(6, integer=by_level is active))
            axes.set_xlabel("training samples evaluated")
            axes.set_ylabel(label)
            axes.set_title(name)
            axes.legend(loc="best")
        figure.suptitle(title)
    return figure


def _log_axis(axes: Axes) -> None:
    """Make the horizontal axis logarithmic; where it has few powers of ten, 2 and 5 times these are named too."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < low * _FEW_TIMES:
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    elif high < low * 10**_FEW_DECADES:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=(10, 10)))
    axes.xaxis.set_minor_formatter(NullFormatter())


_FEW_TIMES, _FEW_DECADES = 4, 1.8


def _last(values: np.ndarray) -> str:
    return f"{values[-1]:,.1f}" if len(values) else "none"


def _bound_limits(curves: Sequence[Curve]) -> tuple[float | None, float | None]:
    """Cuts off the first moments, whose bounds are hundreds of nats below all that follows."""
    values = [np.concatenate([c.train, c.test])[np.tile(np.asarray(c.num_train_samples) > 0, 2)] for c in curves]
    found = np.concatenate(values) if values else np.array([])
    found = found[np.isfinite(found)]
    if len(found) < 3:
        return None, None
    low, high = np.percentile(found, 3), found.max()
    margin = 0.06 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


def error_curves(curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], title: str) -> Figure:
    """Draw the share of misclassified images against epochs, in %: of test images solid, of validation images dotted.

    Args:
      curves: a name, and rows with `epoch`, `valid_error` and `test_error`, shares from 0 to 1.
      title: of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        for (name, rows), color in zip(curves, palette(len(curves)), strict=True):
            epochs = [row["epoch"] for row in rows]
            for split, style, label in (("test", "-", name), ("valid", ":", None)):
                errors = [100 * row[f"{split}_error"] for row in rows]
                axes.plot(epochs, errors, style, color=color, linewidth=1.2, marker=".", markersize=3, label=label)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("epochs")
        axes.set_ylabel("error in % (test; validation dotted)")
        axes.set_title(title)
        axes.legend(fontsize=7)
    return figure
