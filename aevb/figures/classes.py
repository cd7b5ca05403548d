"""Classifiers: which classes they confuse, and how far their probabilities can be trusted."""

from collections.abc import Mapping, Sequence

import numpy as np

from aevb.classification import Reliability
from aevb.figures.style import (
    COLUMN,
    TEXT,
    Drawing,
    legend_below,
    literal,
    looks,
    new_drawing,
    panel_grid,
    styled,
    wrapped,
)

_CELL = 0.2  # inches that a number needs


@styled
def confusion_matrices(counts: Mapping[str, np.ndarray], label_names: Sequence[str], title: str) -> Drawing:
    """Draw confusion matrices: one row for each true class, in percent of its datapoints.

    Numbers are left out where there are too many classes for them.

    Args:
      counts: by model, `[C, C]`, how many of the true class (row) were given each class (column).
      label_names: C names.
      title: of the figure.
    """
    size, names = len(label_names), [literal(name) for name in label_names]
    columns = 1 if len(counts) == 1 else 2
    rows, longest = -(-len(counts) // columns), max(map(len, names))
    width = COLUMN if len(counts) == 1 and size <= 10 else TEXT
    beside = 0.5 + 0.06 * longest
    side = (width - beside) / columns - 0.1  # of a matrix
    below = 0.6 + (0.045 * longest if longest > 3 else 0)
    figure = new_drawing(width, rows * (side + below), f"{title}, % of each true class")
    panels = panel_grid(figure, len(counts), columns, sharey=True)
    for number, (axes, (name, of_model)) in enumerate(zip(panels, counts.items(), strict=True)):
        shares = 100 * of_model / np.maximum(of_model.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for row, column in np.argwhere(of_model > 0) if side / size >= _CELL else ():
            share = shares[row, column]
            text = f"{share:.0f}" if share >= 1 else "<1"
            axes.text(column, row, text, ha="center", va="center", color="white" if share > 55 else "0.1")
        axes.set_xticks(range(size), names, rotation=45 if longest > 3 else 0, ha="right" if longest > 3 else "center")
        axes.set_yticks(range(size), names)
        axes.set_xlabel("predicted class")
        axes.set_title(wrapped(literal(name), side))
        axes.grid(visible=False)
        if number % columns == 0:
            axes.set_ylabel("true class")
        for row, true_name in enumerate(label_names):
            columns_of_row = {"predicted": np.array(label_names), "datapoints": of_model[row], "percent": shares[row]}
            figure.record(columns_of_row, panel=name, true=true_name)
    return figure


@styled
def reliability_diagram(found: Mapping[str, Reliability], title: str) -> Drawing:
    """Draw the accuracy of classes against the probability that they were given, and how many were given it.

    A bar is the 95 % interval of a share of independent datapoints (Wilson 1927).

    Args:
      found: by model.
      title: of the figure.
    """
    figure = new_drawing(COLUMN, 3.4 + 0.16 * len(found), title)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 100], [0, 100], color="0.5", linestyle=":", linewidth=1, label="calibrated")
    for index, ((name, of_model), look) in enumerate(zip(found.items(), looks(len(found)), strict=True)):
        label = literal(f"{name}, expected error {100 * of_model.expected_error:.1f} %")
        seen = of_model.counts > 0
        confidence, accuracy = of_model.confidence[seen], of_model.accuracy[seen]
        low, high = _interval(accuracy, of_model.counts[seen])
        sides = 100 * np.maximum([accuracy - low, high - accuracy], 0)
        above.errorbar(100 * confidence, 100 * accuracy, sides, fmt=look.marker, color=look.color, elinewidth=1,
                       markersize=4, label=label)  # fmt: skip
        widths = 100 * np.diff(of_model.edges) / (len(found) + 1)
        left = 100 * of_model.edges[:-1] + (index + 0.5) * widths
        below.bar(left, of_model.counts, widths, align="edge", color=look.color, hatch=_HATCHES[index % len(_HATCHES)],
                  edgecolor="white", linewidth=0)  # fmt: skip
        columns = {"x": 100 * confidence, "y": 100 * accuracy, "low": 100 * low, "high": 100 * high}
        figure.record(columns | {"datapoints": of_model.counts[seen]}, curve=name)
    above.set_ylabel("accuracy (%)")
    above.set_ylim(-3, 103)
    below.set_yscale("symlog", linthresh=1)
    below.set_ylabel("datapoints")
    below.set_xlabel("probability of the predicted class (%)")
    below.set_xlim(0, 102)
    legend_below(figure, above.get_legend_handles_labels()[0])
    return figure


_HATCHES = ("", "////", "....", "xxxx")


def _interval(share: np.ndarray, count: np.ndarray, deviations: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's interval of shares of so many."""
    square = deviations**2 / count
    center = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return center - half, center + half
