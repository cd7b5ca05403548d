"""Densities p(y | x): maps of them, slices through them, and whether their intervals hold what they should."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

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


@styled
def density_maps(
    densities: Mapping[str, np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    points: tuple[np.ndarray, np.ndarray],
    title: str,
) -> Drawing:
    """Draw points of x and y, and maps of p(y | x) beside them, one panel each, all in the same colours.

    Args:
      densities: by name, `[X, Y]`, not logarithms.
      x: `[X]`, where they were computed.
      y: `[Y]`, likewise.
      points: x `[N]` and y `[N]` of data.
      title: of the figure.
    """
    colors = Normalize(0, max(np.percentile(density, 99.5) for density in densities.values()))
    number = 1 + len(densities)
    columns = min(number, 2 if number == 4 else MOST_COLUMNS)
    figure = new_drawing(TEXT, 2.1 * -(-number // columns) + 0.2, title)
    panels = panel_grid(figure, number, columns, sharex=True, sharey=True)
    panels[0].plot(*points, "o", markersize=1.5, alpha=0.6, color=FIRST, linewidth=0)
    panels[0].set_title(f"{len(points[0]):,} test rows")
    figure.record({"x": points[0], "y": points[1]}, panel="test rows")
    for axes, (name, density) in zip(panels[1:], densities.items(), strict=True):
        axes.pcolormesh(x, y, density.T, norm=colors, cmap="viridis", rasterized=True)
        axes.set_title(wrapped(literal(name), 0.9 * TEXT / columns))
        axes.grid(visible=False)
        figure.record({"x": x[:, None], "y": y[None, :], "density": density}, panel=name)
    figure.colorbar(ScalarMappable(colors, "viridis"), ax=panels, label="p(y|x)", pad=0.01, extend="max")
    for index, axes in enumerate(panels):
        if index + columns >= number:  # the lowest of its column
            axes.set_xlabel("x")
            axes.tick_params(labelbottom=True)
        if index % columns == 0:
            axes.set_ylabel("y")
    panels[0].set_xlim(x.min(), x.max())
    panels[0].set_ylim(y.min(), y.max())
    return figure


@styled
def density_slices(
    draws: Mapping[str, np.ndarray], observed: np.ndarray, names: Sequence[str], x_label: str, title: str
) -> Drawing:
    """Draw densities of y at a few x, one panel each, from draws: a line per model, and where y was observed.

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
    figure = new_drawing(TEXT, 2.4 * -(-len(names) // MOST_COLUMNS) + 0.2, title)
    panels = panel_grid(figure, len(names), MOST_COLUMNS, sharey=True)
    for panel, (axes, name) in enumerate(zip(panels, names, strict=True)):
        for (model, of_model), look in zip(draws.items(), looks(len(draws)), strict=True):
            # Of all draws, so that those beyond the axis count.
            density = np.histogram(of_model[panel], bins)[0] / (of_model.shape[1] * np.diff(bins))
            axes.stairs(density, bins, color=look.color, linestyle=look.line, linewidth=1.2, label=literal(model))
            figure.record({"x": (bins[1:] + bins[:-1]) / 2, "y": density}, panel=name, curve=model)
        axes.axvline(observed[panel], color="0.3", linestyle=":", linewidth=1.2, label="observed")
        figure.record({"x": observed[panel]}, panel=name, curve="observed")
        axes.set_title(wrapped(literal(name), 0.9 * TEXT / MOST_COLUMNS))
        axes.set_xlabel(x_label)
        if panel % MOST_COLUMNS == 0:
            axes.set_ylabel("density")
    legend_below(figure, panels[0].get_legend_handles_labels()[0])
    return figure


@styled
def calibration(levels: np.ndarray, shares: Mapping[str, np.ndarray], num_values: int, title: str) -> Drawing:
    """Draw shares of observed values in central intervals, less the intervals' levels, with two standard errors.

    Args:
      levels: `[L]`.
      shares: by model, `[L]`.
      num_values: N, how many values the shares are of.
      title: of the figure.
    """
    error = 2 * np.sqrt(levels * (1 - levels) / num_values)
    figure = new_drawing(COLUMN, 2.4 + 0.16 * len(shares), title)
    axes = figure.subplots()
    axes.fill_between(
        100 * levels, -100 * error, 100 * error, color="0.5", alpha=0.2, linewidth=0, label="by chance, 95 %"
    )
    axes.axhline(0, color="0.4", linewidth=1)
    figure.record({"x": 100 * levels, "y": 100 * error}, curve="two standard errors")
    for (name, share), look in zip(shares.items(), looks(len(shares)), strict=True):
        plot(axes, 100 * levels, 100 * (share - levels), look, literal(name), look.line)
        figure.record({"x": 100 * levels, "y": 100 * (share - levels)}, curve=name)
    axes.set_xlabel("level of the central interval (%)")
    axes.set_ylabel("share of test values in it\nless the level (points)")
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure
