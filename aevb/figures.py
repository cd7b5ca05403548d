"""Arrays in, matplotlib figures out. Nothing here trains, and nothing is written but by `save`."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 150,
}
_CONTRASTS = ("#c0392b", "#2c7fb8", "#2ca25f", "#8856a7")
_PANELS_WIDTH = 11.0  # inches
_LEGEND_ENTRY = 1.75  # inches
_GAP = 1  # pixels between the images of a grid, before enlargement


class Curve(NamedTuple):
    """A bound against training samples seen.

    Attributes:
      label: for the legend.
      num_train_samples: `[T]`.
      train: `[T]` or `[S, T]` for S seeds, nats per datapoint.
      test: as `train`.
    """

    label: str
    num_train_samples: np.ndarray
    train: np.ndarray
    test: np.ndarray


class Panel(NamedTuple):
    """One set of axes of a figure of several: a title, the curves in it, and what they are against."""

    title: str
    curves: Sequence[Curve]
    x_label: str = "training samples"


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    figure.savefig(partial, format="png", bbox_inches="tight", pad_inches=0.06)
    os.replace(partial, path)


def lower_bounds(curves: Sequence[Curve], title: str) -> Figure:
    """Lower bound against training samples on a log axis, train dashed and test solid, as in Figure 2."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, max(len(curves), 1)))
        for curve, color in zip(curves, colors, strict=True):
            seen = np.asarray(curve.num_train_samples) > 0  # a log axis has no 0
            samples = np.asarray(curve.num_train_samples)[seen]
            marker = "o" if seen.sum() == 1 else None  # a line through one point shows nothing
            label = f"{curve.label} " if curve.label else ""
            test = np.asarray(curve.test)[seen]
            axes.plot(samples, test, color=color, label=f"{label}test ({_last(test)})", marker=marker)
            train = np.asarray(curve.train)[seen]
            axes.plot(samples, train, color=color, linestyle="--", linewidth=1, label=f"{label}train", marker=marker)
        axes.set_xscale("log")
        axes.set_xlabel("training samples evaluated")
        axes.set_ylabel("lower bound (nats per datapoint)")
        axes.set_title(title)
        axes.set_ylim(*_bound_limits(curves))
        axes.legend(loc="lower right", ncols=1 if len(curves) < 3 else 2)
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
    with matplotlib.rc_context(_STYLE):
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
        figure.legend(handles, labels, loc="outside lower center", ncols=max(1, int(width // _LEGEND_ENTRY)))
    return figure


def _colors(number: int) -> Sequence[Any]:
    """Contrasts where they go round, else as many as are needed along one scale."""
    if number <= len(_CONTRASTS):
        return _CONTRASTS[:number]
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, number)))


def _draw_panel(axes: Axes, panel: Panel, y_quantile: float) -> None:
    shown = []
    for curve, color in zip(panel.curves, _colors(len(panel.curves)), strict=True):
        seen = np.asarray(curve.num_train_samples) > 0  # a log axis has no 0
        samples = np.asarray(curve.num_train_samples)[seen]
        for name, line in (("test", "-"), ("train", "--")):
            values = np.atleast_2d(getattr(curve, name))[:, seen]
            mean, deviation = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else None
            marker = "o" if len(samples) == 1 else None  # a line of one point is none
            label = f"{curve.label} ({name})"
            axes.plot(samples, mean, line, color=color, linewidth=1.3, markersize=4, marker=marker, label=label)
            if deviation is not None:
                axes.fill_between(samples, mean - deviation, mean + deviation, color=color, alpha=0.2, linewidth=0)
            shown.append(mean)
    values = np.concatenate(shown) if shown else np.zeros(0)
    values = values[np.isfinite(values)]
    if len(values):
        low, high = np.percentile(values, y_quantile), values.max()
        axes.set_ylim(low - 0.05 * (high - low), high + 0.08 * (high - low) + 1e-6)
    axes.set_xscale("log")
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.title)


def reconstruction_and_kl(
    num_train_samples: np.ndarray, reconstruction: np.ndarray, kl: np.ndarray, title: str
) -> Figure:
    """The two terms of the test bound, apart, against training samples on a log axis."""
    seen = np.asarray(num_train_samples) > 0
    samples = np.asarray(num_train_samples)[seen]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        panels = figure.subplots(1, 2)
        names = (r"$E_q[\log p(x|z)]$", r"KL$(q(z|x)\,\|\,p(z))$")
        for axes, values, name in zip(panels, (reconstruction, kl), names, strict=True):
            values = np.asarray(values)[seen]
            axes.plot(samples, values, color="#31688e", marker="o" if len(samples) == 1 else None)
            axes.set_xscale("log")
            axes.set_xlabel("training samples evaluated")
            axes.set_ylabel("nats per datapoint")
            axes.set_title(f"{name}, test: {_last(values)}")
        figure.suptitle(title)
    return figure


def image_grid(images: np.ndarray, num_columns: int, title: str) -> Figure:
    """Images `[N, H, W]` of intensities in [0, 1], row by row."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _grid_figure(_tile(images, num_columns), title)
        axes.set_axis_off()
    return figure


def image_panels(panels: Sequence[tuple[str, np.ndarray]], title: str) -> Figure:
    """Square grids of images `[K * K, H, W]` side by side, each under its own title, as Figures 4 and 5."""
    canvases = [_tile(images, math.isqrt(len(images))) for _, images in panels]
    widths = [canvas.shape[1] / canvas.shape[0] for canvas in canvases]  # at the same height
    height = _PANELS_WIDTH / sum(widths)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_PANELS_WIDTH, height + 0.6), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
        for axes, (name, _), canvas in zip(grid.flat, panels, canvases, strict=True):
            axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(name)
            axes.set_axis_off()
        figure.suptitle(title)
    return figure


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, num_columns: int, title: str) -> Figure:
    """Rows of originals `[N, H, W]`, each above the row of their reconstructions."""
    rows = []
    for start in range(0, len(originals), num_columns):
        rows += [originals[start : start + num_columns], reconstructed[start : start + num_columns]]
    tiles = np.concatenate(rows)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _grid_figure(_tile(tiles, num_columns), title)
        height = originals.shape[1] + _GAP
        num_rows = len(tiles) // num_columns
        axes.set_yticks([(row + 0.5) * height for row in range(num_rows)], ["x", "mean of p(x|z)"] * (num_rows // 2))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def manifold(images: np.ndarray, title: str) -> Figure:
    """The learned manifold `[K, K, H, W]`: the decoder's means over a grid of z, as in Figure 4.

    Rows go down as the first latent dimension goes up, columns rightwards with the second.
    """
    rows, columns = images.shape[:2]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _grid_figure(_tile(images.reshape(rows * columns, *images.shape[2:]), columns), title)
        axes.set_axis_off()
    return figure


def latent_scatter(means: np.ndarray, labels: np.ndarray | None, title: str) -> Figure:
    """Posterior means `[N, 2]` in latent space, coloured by class `[N]` where there are classes."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 4.6), layout="constrained")
        axes = figure.subplots()
        size = float(np.clip(30_000 / len(means), 2, 18))
        if labels is None:
            axes.scatter(means[:, 0], means[:, 1], s=size, color="#31688e", alpha=0.7, linewidths=0)
        else:
            colors = matplotlib.colormaps["tab10"]
            # In the order of the data, not class by class: the last class drawn would cover the others.
            axes.scatter(means[:, 0], means[:, 1], s=size, c=labels % 10, cmap=colors, vmin=0, vmax=9, linewidths=0)
            for value in np.unique(labels):
                axes.scatter([], [], s=25, color=colors(int(value) % 10), label=str(value))
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1)
        axes.set_aspect("equal")
        axes.set_xlabel("$z_1$")
        axes.set_ylabel("$z_2$")
        axes.set_title(title)
    return figure


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
    with matplotlib.rc_context(_STYLE):
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
    with matplotlib.rc_context(_STYLE):
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
    with matplotlib.rc_context(_STYLE):
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


def _tile(images: np.ndarray, num_columns: int) -> np.ndarray:
    """`[N, H, W] -> one image`, white lines between; an incomplete last row is filled with white."""
    (count, height, width), gap = images.shape, _GAP
    num_rows = -(-count // num_columns)
    canvas = np.ones((num_rows * (height + gap) - gap, num_columns * (width + gap) - gap))
    for index, image in enumerate(np.clip(images, 0, 1)):
        top, left = (index // num_columns) * (height + gap), (index % num_columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _grid_figure(canvas: np.ndarray, title: str) -> tuple[Figure, Axes]:
    height, width = canvas.shape
    figure_width = 5.6
    figure = Figure(figsize=(figure_width, figure_width * height / width + 0.35), layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, width, height, 0))
    axes.set_title(title)
    return figure, axes
