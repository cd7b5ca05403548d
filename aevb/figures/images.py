"""Grids of images."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from aevb.figures.style import COLUMN, STYLE, TEXT, Drawing, new_drawing, styled, wrapped

_GAP = 1  # pixels between the images of a grid, before enlargement
_DOTS = STYLE["savefig.dpi"]  # per inch of the PNG


@styled
def image_grid(images: np.ndarray, num_columns: int, title: str) -> Drawing:
    """Draw images `[N, H, W]` or `[N, H, W, C]` of intensities in [0, 1], row by row."""
    figure, axes = _grid_figure(tile(images, num_columns), title)
    axes.set_axis_off()
    _record(figure, len(images), num_columns)
    return figure


@styled
def images_by_class(images: np.ndarray, names: Sequence[str], title: str) -> Drawing:
    """Draw a row of images for each of K classes, `[K, n, H, W]` or `[K, n, H, W, C]`, with its name."""
    num_classes, num_columns, height = images.shape[:3]
    canvas = tile(images.reshape(-1, *images.shape[2:]), num_columns)
    figure, axes = _grid_figure(canvas, title, max(map(len, names), default=0))
    _name_rows(axes, names[:num_classes], height)
    _record(figure, num_classes * num_columns, num_columns, names)
    return figure


@styled
def image_panels(panels: Sequence[tuple[str, np.ndarray]], title: str) -> Drawing:
    """Draw square grids of images `[K * K, H, W]` side by side, each under its own title, as Figure 5."""
    canvases = [tile(images, math.isqrt(len(images))) for _, images in panels]
    widths = [canvas.shape[1] / canvas.shape[0] for canvas in canvases]  # at the same height
    lines = max((wrapped(name, 0.9 * TEXT / len(panels)).count("\n") + 1 for name, _ in panels), default=1)
    figure = new_drawing(TEXT, TEXT / sum(widths) + 0.16 * lines, title)
    grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
    for axes, (name, images), canvas in zip(grid.flat, panels, canvases, strict=True):
        show(axes, canvas)
        axes.set_title(wrapped(name, 0.9 * TEXT / len(panels)))
        axes.set_axis_off()
        _record(figure, len(images), math.isqrt(len(images)), panel=name)
    return figure


@styled
def reconstructions(originals: np.ndarray, reconstructed: np.ndarray, num_columns: int, title: str) -> Drawing:
    """Draw rows of originals `[N, H, W]` or `[N, H, W, C]`, each above the row of their reconstructions."""
    num_columns = min(num_columns, len(originals))
    rows = []
    for start in range(0, len(originals), num_columns):
        rows += [_filled_up(images[start : start + num_columns], num_columns) for images in (originals, reconstructed)]
    tiles = np.concatenate(rows)
    names = ["x", "mean of p(x|z)"] * (len(tiles) // num_columns // 2)
    figure, axes = _grid_figure(tile(tiles, num_columns), title, len(names[1]))
    _name_rows(axes, names, originals.shape[1])
    _record(figure, len(tiles), num_columns, names)
    return figure


@styled
def image_rows(blocks: Sequence[tuple[str, np.ndarray]], title: str) -> Drawing:
    """Draw blocks of rows of images `[R, C, H, W]` or `[R, C, H, W, C']` one under the other, each under its title."""
    canvases = [tile(images.reshape(-1, *images.shape[2:]), images.shape[1]) for _, images in blocks]
    width = max(_width(canvas) for canvas in canvases)
    heights = [width * canvas.shape[0] / canvas.shape[1] for canvas in canvases]
    titles = [wrapped(name, width) for name, _ in blocks]
    lines = sum(name.count("\n") + 1 for name in titles)
    figure = new_drawing(width, sum(heights) + 0.15 * lines + 0.08 * len(blocks), title)
    grid = figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name, (panel, images), canvas in zip(grid, titles, blocks, canvases, strict=True):
        show(axes, canvas)
        axes.set_title(name)
        axes.set_axis_off()
        _record(figure, images.shape[0] * images.shape[1], images.shape[1], panel=panel)
    return figure


def show(axes: Axes, canvas: np.ndarray) -> None:
    """Show an image `[H, W]` or `[H, W, C]` of intensities, one unit per pixel from the upper left corner."""
    height, width = canvas.shape[:2]
    room = axes.get_window_extent().width / axes.figure.dpi * _DOTS
    # Enlarged pixels keep their colours; of reduced ones, "nearest" would drop whole lines.
    interpolation = "nearest" if width <= room else "auto"
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation=interpolation, extent=(0, width, height, 0))
    axes.grid(visible=False)


def tile(images: np.ndarray, num_columns: int) -> np.ndarray:
    """`[N, H, W] or [N, H, W, C] -> one image`, white lines between; an incomplete last row is filled with white."""
    images = _shown(images)
    (count, height, width, *channels), gap = images.shape, _GAP
    num_rows = -(-count // num_columns)
    canvas = np.ones((num_rows * (height + gap) - gap, num_columns * (width + gap) - gap, *channels))
    for index, image in enumerate(np.clip(images, 0, 1)):
        top, left = (index // num_columns) * (height + gap), (index % num_columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def centers(number: int, size: int) -> list[float]:
    """Return where the middles of so many images of that height or width are in a grid."""
    return [index * (size + _GAP) + size / 2 for index in range(number)]


def _record(
    figure: Drawing, number: int, num_columns: int, row_names: Sequence[str] | None = None, panel: str = ""
) -> None:
    """Record the place of each image, from 1, and the name of its row."""
    for index in range(number):
        row, column = divmod(index, num_columns)
        where = {"row": row + 1, "column": column + 1}
        names = {"panel": panel} if panel else {}
        figure.data.append(names | where | ({"name": row_names[row]} if row_names else {}))


def _name_rows(axes: Axes, names: Sequence[str], height: int) -> None:
    """Write a name beside each row of a grid of images of that height, in place of axes."""
    axes.set_yticks(centers(len(names), height), names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _filled_up(images: np.ndarray, count: int) -> np.ndarray:
    """Images, and white ones after them up to `count`."""
    return np.concatenate([images, np.ones((count - len(images), *images.shape[1:]), images.dtype)])


def _shown(images: np.ndarray) -> np.ndarray:
    """Colours as they are; of any other number of channels than three, their mean."""
    return images.mean(-1) if images.ndim == 4 and images.shape[-1] != 3 else images


def _width(canvas: np.ndarray) -> float:
    return COLUMN if canvas.shape[1] <= COLUMN * _DOTS else TEXT


def _grid_figure(canvas: np.ndarray, title: str, letters: int = 0) -> tuple[Drawing, Axes]:
    """Return a figure of one grid with room for that many letters beside it."""
    width, beside = _width(canvas), 0.066 * letters
    if beside > 0.35 * width:
        width = TEXT
    inside = width - beside - 0.15
    figure = new_drawing(width, inside * canvas.shape[0] / canvas.shape[1] + 0.06, title)
    axes = figure.subplots()
    show(axes, canvas)
    return figure, axes
