"""The table and the figure of in-painted and denoised images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aevb import figures
from experiments.reports.figure_files import save_figure
from experiments.reports.tables import print_table

MAX_R_HAT = 1.1
"""Above this, chains disagree."""

_COLUMNS = {  # heading: (field of the row, format)
    "log p by pixel": ("log_likelihood", ".2f"),
    "RMSE": ("rmse", ".4f"),
    "R-hat": ("median_r_hat", ".3f"),
    "max R-hat": ("max_r_hat", ".3f"),
    "accept": ("acceptance", ".2f"),
    "seconds": ("seconds", ".1f"),
}
_HIDDEN = 0.5  # the grey of hidden pixels


def draw(path: Path, images: Mapping[str, np.ndarray], methods: Mapping[str, str], num_shown: int, title: str) -> None:
    """Draw rows of images: what was seen, the truth, the means of each method, and two draws of the first method.

    Args:
      path: of the PNG file.
      images: `[N, H, W]` or `[N, H, W, C]`: "seen", with NaN where hidden, "truth", and for each method
        "METHOD_mean" and "METHOD_draws" `[N, R, ...]`.
      methods: the words that stand for each method.
      num_shown: the largest number of columns.
      title: of the figure.
    """
    hidden = np.isnan(images["seen"])
    rows = {"seen": np.where(hidden, _HIDDEN, images["seen"]), "truth": images["truth"]}
    for name, words in methods.items():
        rows[words] = images[f"{name}_mean"]
    name, words = next(iter(methods.items()))
    draws = images[f"{name}_draws"]
    rows |= {f"{words}: draw {number + 1}": draws[:, number] for number in range(min(2, draws.shape[1]))}
    stacked = np.clip(np.stack([each[:num_shown] for each in rows.values()]), 0, 1)
    save_figure(figures.images_by_class(stacked, list(rows), figures.literal(title)), path)


def print_rows(rows: Sequence[Mapping[str, Any]], joint: Mapping[str, Any] | None, what: str) -> None:
    """Print one row per method, and log p(hidden | seen) of all hidden values together where it was estimated.

    Args:
      rows: means over images, one row per method.
      joint: the estimate for all hidden values together.
      what: the hidden values in words.
    """
    print(f"log p of {what} given what is seen, each pixel by itself, nats per image; R-hat is the median over images")
    print_table([{"method": row["method"]} | _cells(row) for row in rows])
    for row in rows:
        if row["num_above_r_hat_limit"]:
            print(
                f"warning: {row['method']}: chains disagree (R-hat above {MAX_R_HAT}) on "
                f"{row['num_above_r_hat_limit']} images: raise --num_warmup and --num_transitions"
            )
    if joint:
        print(
            f"log p of {what} given what is seen, all together, by two marginal likelihoods ({joint['estimator']}): "
            f"{joint['log_predictive']:.2f} nats per image, Monte Carlo error {joint['monte_carlo_error']:.2f}"
        )


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: _cell(row[field], form) for name, (field, form) in _COLUMNS.items()}


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)
