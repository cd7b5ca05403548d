"""Images, and the latent space."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aevb.figures.style import PANELS_WIDTH, STYLE

_GAP = 1  # pixels between the images of a grid, before enlargement
_WIDTH = 5.6  # inches, of a grid


def image_grid(images: np.ndarray, num_columns: int, title: str) -> Figure:
    """Images `[N, H, W]` or `[N, H, W, C]` of intensities in [0, 1], row by row."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid_figure(_tile(images, num_columns), title)
        axes.set_axis_off()
    return figure


def images_by_class(images: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """A row of images for each of K classes, `[K, n, H, W]` or `[K, n, H, W, C]`, with its name."""
    num_classes, num_columns, height = images.shape[:3]
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid_figure(_tile(images.reshape(-1, *images.shape[2:]), num_columns), title)
        _name_rows(axes, names[:num_classes], height)
    return figure


def image_panels(panels: Sequence[tuple[str, np.ndarray]], title: str) -> Figure:
    """Square grids of images `[K * K, H, W]` side by side, each under its own title, as Figures 4 and 5."""
    canvases = [_tile(images, math.isqrt(len(images))) for _, images in panels]
    widths = [canvas.shape[1] / canvas.shape[0] for canvas in canvases]  # at the same height
    height = PANELS_WIDTH / sum(widths)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANELS_WIDTH, height + 0.6), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
        for axes, (name, _), canvas in zip(grid.flat, panels, canvases, strict=True):
            axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(name)
            axes.set_axis_off()
        figure.suptitle(title)
    return figure


def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, num_columns: int, title: str) -> Figure:
    """Rows of originals `[N, H, W]` or `[N, H, W, C]`, each above the row of their reconstructions."""
    num_columns = min(num_columns, len(originals))
    rows = []
    for start in range(0, len(originals), num_columns):
        rows += [_filled_up(images[start : start + num_columns], num_columns) for images in (originals, reconstructed)]
    tiles = np.concatenate(rows)
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid_figure(_tile(tiles, num_columns), title)
        num_rows = len(tiles) // num_columns
        _name_rows(axes, ["x", "mean of p(x|z)"] * (num_rows // 2), originals.shape[1])
    return figure


def image_rows(blocks: Sequence[tuple[str, np.ndarray]], title: str) -> Figure:
    """Blocks of rows of images `[R, C, H, W]` or `[R, C, H, W, C']`, one under the other, each under its own title."""
    canvases = [_tile(images.reshape(-1, *images.shape[2:]), images.shape[1]) for _, images in blocks]
    heights = [_WIDTH * canvas.shape[0] / canvas.shape[1] for canvas in canvases]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.35 * len(blocks) + 0.35), layout="constrained")
        grid = figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, _), canvas in zip(grid, blocks, canvases, strict=True):
            axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(name)
            axes.set_axis_off()
        figure.suptitle(title)
    return figure


def manifold(images: np.ndarray, title: str) -> Figure:
    """The learned manifold `[K, K, H, W]` or `[K, K, H, W, C]`: the decoder's means over a grid of z, as in Figure 4.

    Rows go down as the first latent dimension goes up, columns rightwards with the second.
    """
    rows, columns = images.shape[:2]
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid_figure(_tile(images.reshape(rows * columns, *images.shape[2:]), columns), title)
        axes.set_axis_off()
    return figure


def latent_scatter(
    means: np.ndarray, labels: np.ndarray | None, title: str, label_names: Sequence[str] | None = None
) -> Figure:
    """Posterior means `[N, 2]` in latent space, coloured by class `[N]` where there are classes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 4.6), layout="constrained")
        axes = figure.subplots()
        size = float(np.clip(30_000 / len(means), 2, 18))
        if labels is None:
            axes.scatter(means[:, 0], means[:, 1], s=size, color="#31688e", alpha=0.7, linewidths=0)
        else:
            classes = np.unique(labels)
            count = 10 if classes.max() < 10 else 20  # beyond 20 classes, colours come again
            colors = matplotlib.colormaps[f"tab{count}"]
            # In the order of the data, not class by class: the last class drawn would cover the others.
            chosen = {"c": labels % count, "cmap": colors, "vmin": 0, "vmax": count - 1}
            axes.scatter(means[:, 0], means[:, 1], s=size, linewidths=0, **chosen)
            for value in classes[:count]:
                name = str(value) if label_names is None else label_names[value]
                axes.scatter([], [], s=25, color=colors(int(value) % count), label=name)
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.1)
        axes.set_aspect("equal")
        axes.set_xlabel("$z_1$")
        axes.set_ylabel("$z_2$")
        axes.set_title(title)
    return figure


def _name_rows(axes: Axes, names: Sequence[str], height: int) -> None:
    """Write a name beside each row of a grid of images of that height, in place of axes."""
    axes.set_yticks([(row + 0.5) * (height + _GAP) for row in range(len(names))], names)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _filled_up(images: np.ndarray, count: int) -> np.ndarray:
    """Images, and white ones after them up to `count`."""
    return np.concatenate([images, np.ones((count - len(images), *images.shape[1:]), images.dtype)])


def _tile(images: np.ndarray, num_columns: int) -> np.ndarray:
    """`[N, H, W] or [N, H, W, C] -> one image`, white lines between; an incomplete last row is filled with white."""
    images = _shown(images)
    (count, height, width, *channels), gap = images.shape, _GAP
    num_rows = -(-count // num_columns)
    canvas = np.ones((num_rows * (height + gap) - gap, num_columns * (width + gap) - gap, *channels))
    for index, image in enumerate(np.clip(images, 0, 1)):
        top, left = (index // num_columns) * (height + gap), (index % num_columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def _shown(images: np.ndarray) -> np.ndarray:
    """Colours as they are; of any other number of channels than three, their mean."""
    return images.mean(-1) if images.ndim == 4 and images.shape[-1] != 3 else images


def _grid_figure(canvas: np.ndarray, title: str) -> tuple[Figure, Axes]:
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(_WIDTH, _WIDTH * height / width + 0.35), layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=(0, width, height, 0))
    axes.set_title(title)
    return figure, axes
