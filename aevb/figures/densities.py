"""Densities p(y | x): maps of them, slices through them, and whether their intervals hold what they should."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from aevb.figures.style import PANELS_WIDTH, STYLE, literal, palette


def density_maps(
    densities: Mapping[str, np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    points: tuple[np.ndarray, np.ndarray],
    title: str,
) -> Figure:
    """Points of x and y, and maps of p(y | x) beside them, one panel each, all in the same colours.

    Args:
      densities: by name, `[X, Y]`, not logarithms.
      x: `[X]`, where they were computed.
      y: `[Y]`, likewise.
      points: x `[N]` and y `[N]` of data.
      title: of the figure.
    """
    colors = Normalize(0, max(np.percentile(density, 99.5) for density in densities.values()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANELS_WIDTH, 2.9), layout="constrained")
        panels = figure.subplots(1, 1 + len(densities), sharex=True, sharey=True)
        panels[0].plot(*points, "o", markersize=1.5, alpha=0.6, color="#31688e", linewidth=0)
        panels[0].set_title(f"{len(points[0]):,} test rows")
        panels[0].set_ylabel("y")
        for axes, (name, density) in zip(panels[1:], densities.items(), strict=True):
            axes.pcolormesh(x, y, density.T, norm=colors, cmap="viridis", rasterized=True)
            axes.set_title(literal(name))
            axes.grid(visible=False)
        figure.colorbar(ScalarMappable(colors, "viridis"), ax=panels[1:], label="p(y|x)", pad=0.01, extend="max")
        for axes in panels:
            axes.set_xlabel("x")
        panels[0].set_xlim(x.min(), x.max())
        panels[0].set_ylim(y.min(), y.max())
        figure.suptitle(title)
    return figure


def density_slices(
    draws: Mapping[str, np.ndarray], observed: np.ndarray, names: Sequence[str], x_label: str, title: str
) -> Figure:
    """Densities of y at a few x, one panel each, from draws: a line per model, dotted where y was observed.

    Args:
      draws: by model, `[P, S]` for P panels.
      observed: `[P]`.
      names: of the panels.
      x_label: of y.
      title: of the figure.
    """
    together = np.concatenate([each.ravel() for each in draws.values()])
    low, high = np.quantile(together, [0.001, 0.999])
    bins = np.linspace(low, high, 61)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANELS_WIDTH, 2.9), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for panel, (axes, name) in enumerate(zip(panels, names, strict=True)):
            for (model, of_model), color in zip(draws.items(), palette(len(draws)), strict=True):
                # Of all draws, so that those beyond the axis count.
                density = np.histogram(of_model[panel], bins)[0] / (of_model.shape[1] * np.diff(bins))
                axes.stairs(density, bins, color=color, linewidth=1.3, label=literal(model))
            axes.axvline(observed[panel], color="0.3", linestyle=":", linewidth=1.2, label="observed")
            axes.set_title(literal(name))
            axes.set_xlabel(x_label)
        panels[0].set_ylabel("density")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(draws) + 1)
        figure.suptitle(title)
    return figure


def calibration(levels: np.ndarray, shares: Mapping[str, np.ndarray], num_values: int, title: str) -> Figure:
    """Shares of observed values in central intervals, less the intervals' levels; the band is two standard errors.

    Args:
      levels: `[L]`.
      shares: by model, `[L]`.
      num_values: N, how many values the shares are of.
      title: of the figure.
    """
    error = 2 * np.sqrt(levels * (1 - levels) / num_values)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.fill_between(
            100 * levels, -100 * error, 100 * error, color="0.5", alpha=0.2, linewidth=0, label="by chance, 95 %"
        )
        axes.axhline(0, color="0.4", linewidth=1)
        for (name, share), color in zip(shares.items(), palette(len(shares)), strict=True):
            axes.plot(100 * levels, 100 * (share - levels), color=color, linewidth=1.3, label=literal(name))
        axes.set_xlabel("level of the central interval (%)")
        axes.set_ylabel("share of test values in it\nless the level (points)")
        axes.set_title(title)
        axes.legend(loc="best")
    return figure
