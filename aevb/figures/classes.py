"""Classifiers: which classes they take for which, and how far their probabilities can be trusted."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from aevb.classification import Reliability
from aevb.figures.style import STYLE, literal, palette


def confusion_matrices(counts: Mapping[str, np.ndarray], label_names: Sequence[str], title: str) -> Figure:
    """Confusion matrices side by side: a row for each true class, in percent of its datapoints.

    Args:
      counts: by model, `[C, C]`, how many of the true class (row) were given each class (column).
      label_names: C names.
      title: of the figure.
    """
    size, names = len(label_names), [literal(name) for name in label_names]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=((0.42 * size + 1.9) * len(counts) + 0.4, 0.42 * size + 1.9), layout="constrained")
        panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
        for axes, (name, of_model) in zip(panels, counts.items(), strict=True):
            shares = 100 * of_model / np.maximum(of_model.sum(axis=1, keepdims=True), 1)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
            for row, column in np.argwhere(of_model > 0):
                share = shares[row, column]
                text = f"{share:.0f}" if share >= 1 else "<1"
                axes.text(column, row, text, ha="center", va="center", color="white" if share > 55 else "0.1")
            axes.set_xticks(range(size), names, rotation=45 if max(map(len, names)) > 3 else 0)
            axes.set_yticks(range(size), names)
            axes.set_xlabel("class by Bayes' rule")
            axes.set_title(literal(name))
            axes.grid(visible=False)
        panels[0].set_ylabel("true class")
        figure.suptitle(f"{title}, % of each true class")
    return figure


def reliability_diagram(found: Mapping[str, Reliability], title: str) -> Figure:
    """The accuracy of classes against the probability that they were given, and how many were given it.

    A bar is the 95 % interval of a share of independent datapoints (Wilson 1927).

    Args:
      found: by model.
      title: of the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.0), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 100], [0, 100], color="0.5", linestyle=":", linewidth=1, label="calibrated")
        for index, ((name, of_model), color) in enumerate(zip(found.items(), palette(len(found)), strict=True)):
            label = literal(f"{name}, expected error {100 * of_model.expected_error:.1f} %")
            seen = of_model.counts > 0
            confidence, accuracy = of_model.confidence[seen], of_model.accuracy[seen]
            low, high = _interval(accuracy, of_model.counts[seen])
            sides = 100 * np.maximum([accuracy - low, high - accuracy], 0)
            above.errorbar(
                100 * confidence, 100 * accuracy, sides, fmt="o", color=color, markersize=5, elinewidth=1, label=label
            )
            widths = 100 * np.diff(of_model.edges) / (len(found) + 1)
            left = 100 * of_model.edges[:-1] + (index + 0.5) * widths
            below.bar(left, of_model.counts, widths, align="edge", color=color)
        above.set_ylabel("accuracy (%)")
        above.set_ylim(-3, 103)
        above.legend(loc="best")
        below.set_yscale("symlog", linthresh=1)
        below.set_ylabel("datapoints")
        below.set_xlabel("probability of the most probable class (%)")
        below.set_xlim(0, 102)
        figure.suptitle(title)
    return figure


def _interval(share: np.ndarray, count: np.ndarray, deviations: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's interval of shares of so many."""
    square = deviations**2 / count
    center = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return center - half, center + half
