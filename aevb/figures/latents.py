"""Two-dimensional latent spaces: what the decoder makes of them, and where datapoints are in them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from aevb.figures.images import centers, show, tile
from aevb.figures.style import COLUMN, FIRST, TEXT, Drawing, minus, new_drawing, styled, wrapped

_MASSES = (1 - np.exp(-0.5), 1 - np.exp(-2.0), 1 - np.exp(-4.5))  # of a Gaussian within 1, 2 and 3 deviations
_DASHES: tuple[Any, ...] = ("-", "--", ":")
_MOST_VECTORS = 2000  # points; more are an image inside vector formats
_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
# Ten colours that colour-blind readers tell apart (Petroff, 2021); with seven markers, 70 classes differ.
_CLASSES = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)


class Density(NamedTuple):
    """A density over a plane.

    Attributes:
      z1: `[A]`, ascending and evenly spaced.
      z2: `[B]`, likewise.
      values: `[A, B]`.
    """

    z1: np.ndarray
    z2: np.ndarray
    values: np.ndarray


@styled
def manifold(images: np.ndarray, title: str, coordinates: np.ndarray | None = None) -> Drawing:
    """Draw the learned manifold: the decoder's means over a grid of z, z1 to the right and z2 upwards, as in Figure 4.

    Args:
      images: `[K, K, H, W]` or `[K, K, H, W, C]`, by z1, then by z2.
      title: of the figure.
      coordinates: `[K]`, the values of z1 and of z2, ascending. Without them the axes have no numbers.
    """
    canvas = _canvas(images)
    width = COLUMN if canvas.shape[1] <= 2 * COLUMN * 100 else TEXT
    figure = new_drawing(width, (width - 0.45) * canvas.shape[0] / canvas.shape[1] + 0.4, title)
    _draw_manifold(figure, figure.subplots(), images, canvas, coordinates)
    return figure


@styled
def manifolds(panels: Sequence[tuple[str, np.ndarray, np.ndarray | None]], title: str) -> Drawing:
    """Draw learned manifolds side by side, as Figure 4.

    Args:
      panels: a title, and `images` and `coordinates` as for `manifold`, each.
      title: of the figure.
    """
    canvases = [_canvas(images) for _, images, _ in panels]
    widths = [canvas.shape[1] / canvas.shape[0] for canvas in canvases]  # at the same height
    figure = new_drawing(TEXT, (TEXT - 0.5 * len(panels)) / sum(widths) + 0.6, title)
    grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for axes, (name, images, coordinates), canvas in zip(grid, panels, canvases, strict=True):
        _draw_manifold(figure, axes, images, canvas, coordinates, name)
        axes.set_title(wrapped(name, 0.9 * TEXT / len(panels)))
    return figure


@styled
def latent_scatter(
    means: np.ndarray,
    labels: np.ndarray | None,
    title: str,
    label_names: Sequence[str] | None = None,
    prior: Density | None = None,
) -> Drawing:
    """Draw posterior means in latent space with the prior's contours, so that a collapsed posterior looks collapsed.

    Both axes have the same scale. Classes have colours and markers, and their names stand at their medians.

    Args:
      means: `[N, 2]`.
      labels: classes, `[N]`, or `None`.
      title: of the figure.
      label_names: of the classes.
      prior: its density, drawn as regions of the highest density that hold as much as a Gaussian's 1, 2 and 3
        standard deviations. By default N(0, I).
    """
    figure = new_drawing(COLUMN, 2.5, title)
    axes = figure.subplots()
    size = float(np.clip(20_000 / len(means), 2.5, 14))
    entries: list[Any] = []
    names: dict[Any, str] = {}
    columns = {"z1": means[:, 0], "z2": means[:, 1]}
    if labels is None:
        axes.scatter(means[:, 0], means[:, 1], s=size, color=FIRST, alpha=0.7, linewidths=0, rasterized=_many(means))
        figure.record(columns)
    else:
        classes = np.unique(labels)
        names = {value: str(value if label_names is None else label_names[value]) for value in classes}
        _scatter(axes, means, labels, size)
        options: Any = {"linestyle": "none", "markersize": 4}
        for value in classes[:_MOST_NAMED]:
            entries.append(Line2D([], [], marker=_marker(value), color=_color(value), label=names[value], **options))
        figure.record(columns | {"class": np.array([names[value] for value in labels])})
    words = _draw_prior(axes, prior)
    entries += [Line2D([], [], color="0.1", linewidth=0.9, linestyle=line, label=word) for line, word in words]
    axes.set_aspect("equal", adjustable="datalim")
    _write_names(axes, means, labels, names)
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
    figure.legend(handles=entries, loc="outside right center", handletextpad=0.4, handlelength=1.6)
    return figure


_MOST_NAMED = 20  # classes in a legend


def _canvas(images: np.ndarray) -> np.ndarray:
    """Return a grid with z1 to the right and z2 upwards."""
    rows = np.swapaxes(images, 0, 1)[::-1]
    return tile(rows.reshape(-1, *images.shape[2:]), images.shape[0])


def _draw_manifold(
    figure: Drawing, axes: Axes, images: np.ndarray, canvas: np.ndarray, coordinates: np.ndarray | None, panel: str = ""
) -> None:
    show(axes, canvas)
    (across, up), (height, width) = images.shape[:2], images.shape[2:4]
    chosen_x, chosen_y = (_ticks(size) for size in (across, up))
    x, y = np.array(centers(across, width)), np.array(centers(up, height))[::-1]
    if coordinates is None:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        words = [minus(f"{value:.1f}") for value in coordinates]
        axes.set_xticks(x[chosen_x], [words[index] for index in chosen_x])
        axes.set_yticks(y[chosen_y], [words[index] for index in chosen_y])
        where = {"z1": np.asarray(coordinates)[:, None], "z2": np.asarray(coordinates)[None, :]}
        place = {"row": up - np.arange(up)[None, :], "column": 1 + np.arange(across)[:, None]}
        figure.record(place | where, **({"panel": panel} if panel else {}))
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _ticks(size: int) -> np.ndarray:
    """Return the positions of four or five ticks, the same from both ends."""
    return np.unique(np.linspace(0, size - 1, 4 + size % 2).round().astype(int))


def _color(label: int) -> str:
    return _CLASSES[int(label) % len(_CLASSES)]


def _marker(label: int) -> str:
    return _MARKERS[int(label) % len(_MARKERS)]


def _many(means: np.ndarray) -> bool:
    return len(means) > _MOST_VECTORS


def _scatter(axes: Axes, means: np.ndarray, labels: np.ndarray, size: float) -> None:
    """Draw points in the order of the data: class by class, the last one would cover the others."""
    drawn: PathCollection = axes.scatter(
        means[:, 0], means[:, 1], s=size, c=[_color(label) for label in labels], linewidths=0, rasterized=_many(means)
    )
    styles = {label: MarkerStyle(_marker(label)) for label in np.unique(labels)}
    paths = {label: style.get_path().transformed(style.get_transform()) for label, style in styles.items()}
    drawn.set_paths([paths[label] for label in labels])


def _write_names(axes: Axes, means: np.ndarray, labels: np.ndarray | None, names: dict[Any, str]) -> None:
    """Write the name of each class at its median, unless another name is there already or names would cover all."""
    reach, taken = 0.06 * float(np.ptp(axes.get_xlim())), np.zeros((0, 2))
    if np.ptp(means, axis=0).max() < 4 * reach:
        return
    for value, name in list(names.items())[:_MOST_NAMED]:
        place = np.median(means[labels == value], axis=0)
        if len(taken) and np.hypot(*(taken - place).T).min() < reach * max(1, 0.5 * len(name)):
            continue
        taken = np.concatenate([taken, place[None]])
        text = axes.text(
            float(place[0]), float(place[1]), name, ha="center", va="center", fontweight="bold", color="0.05", zorder=7
        )
        text.set_path_effects([withStroke(linewidth=1.8, foreground="white")])


def _draw_prior(axes: Axes, prior: Density | None) -> list[tuple[Any, str]]:
    """Draw three contours, keep them in the panel, and return their line styles and what they are."""
    if prior is None:
        for radius, line in enumerate(_DASHES, 1):
            axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor="0.1", linewidth=0.9, linestyle=line, zorder=4))
        axes.update_datalim([(-3.1, -3.1), (3.1, 3.1)])
        axes.autoscale_view()
        return [(line, f"prior, {radius} sd") for radius, line in enumerate(_DASHES, 1)]
    heights = np.sort(prior.values.ravel())[::-1]
    masses = np.cumsum(heights) / heights.sum()
    thresholds = [heights[min(int(np.searchsorted(masses, mass)), len(heights) - 1)] for mass in _MASSES]
    rising = dict(zip(thresholds[::-1], _DASHES[::-1], strict=True))  # of a flat density two may be the same
    axes.contour(prior.z1, prior.z2, prior.values.T, levels=list(rising), colors="0.1", linewidths=0.9,
                 linestyles=list(rising.values()), zorder=4)  # fmt: skip
    return [(line, f"prior, {100 * mass:.0f} %") for line, mass in zip(_DASHES, _MASSES, strict=True)]
