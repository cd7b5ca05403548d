"""How figures look, and how they are written."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

STYLE: Any = {
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
CONTRASTS = ("#c0392b", "#2c7fb8", "#2ca25f", "#8856a7")
PANELS_WIDTH = 11.0  # inches
LEGEND_ENTRY = 1.75  # inches


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    with warnings.catch_warnings(), matplotlib.rc_context(STYLE):
        # A name may have letters that the font has not: they become boxes, and the figure is drawn.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(partial, format="png", bbox_inches="tight", pad_inches=0.06)
    os.replace(partial, path)


def literal(text: str) -> str:
    """Return the words of people or files as matplotlib draws them as they are, without reading mathematics in them."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # which would keep it out of a legend


def palette(number: int) -> Sequence[Any]:
    """Contrasts where they go round, else as many as are needed along one scale."""
    if number <= len(CONTRASTS):
        return CONTRASTS[:number]
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, number)))
