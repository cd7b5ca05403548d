"""What a bound is made of, and errors, as training goes on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from aevb.figures.curves import SAMPLES, last, log_axis
from aevb.figures.style import COLUMN, TEXT, Drawing, key, legend_below, line_key, looks, new_drawing, plot, styled

_ERRORS: Mapping[str, tuple[str, str]] = {"test": ("-", "test"), "valid": (":", "validation")}


@styled
def reconstruction_and_kl(
    num_train_samples: np.ndarray, reconstruction: np.ndarray, kl: np.ndarray, title: str
) -> Drawing:
    """Draw the two terms of the test bound, apart, against training samples on a log axis."""
    seen = np.asarray(num_train_samples) > 0
    samples = np.asarray(num_train_samples)[seen]
    figure = new_drawing(TEXT, 2.2, title)
    terms = {
        "reconstruction": (r"$E_q[\log p(x|z)]$", reconstruction),
        "KL divergence": (r"KL$(q(z|x)\,\|\,p(z))$", kl),
    }
    (look,) = looks(1)
    for axes, (panel, (name, values)) in zip(figure.subplots(1, 2), terms.items(), strict=True):
        values = np.asarray(values)[seen]
        axes.set_xscale("log")
        plot(axes, samples, values, look)
        figure.record({"x": samples, "y": values}, panel=panel, split="test")
        log_axis(axes)
        axes.set_xlabel(SAMPLES)
        axes.set_ylabel("nats per datapoint")
        axes.set_title(f"{name}, test: {last(values)}")
    return figure


@styled
def levels(
    num_train_samples: np.ndarray, kl: Mapping[str, np.ndarray], active: Mapping[str, np.ndarray], title: str
) -> Drawing:
    """Draw the KL divergence and the active units of each level against training samples on a log axis.

    Args:
      num_train_samples: `[T]`.
      kl: by level, `[T]`, nats per datapoint.
      active: by level, `[T]` counts; empty where they were not counted.
      title: of the figure.
    """
    seen = np.asarray(num_train_samples) > 0
    samples = np.asarray(num_train_samples)[seen]
    panels = [("KL divergence by level, test", "nats per datapoint", kl, "{:,.2f}")]
    if active:
        panels.append(("active units by level", "active units", active, "{:,.0f}"))
    figure = new_drawing(TEXT if active else COLUMN, 2.5, title)
    for axes, (name, label, by_level, written) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        axes.set_xscale("log")
        for (level, values), look in zip(by_level.items(), looks(len(by_level)), strict=True):
            values = np.asarray(values)[seen]
            end = written.format(values[-1]) if len(values) else "none"
            plot(axes, samples, values, look, f"{level} ({end})", look.line)
            figure.record({"x": samples, "y": values}, panel=name, curve=level)
        log_axis(axes)
        axes.set_ylim(0, max(axes.get_ylim()[1], 1 if by_level is active else 0))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=by_level is active))
        axes.set_xlabel(SAMPLES)
        axes.set_ylabel(label)
        axes.set_title(name)
        axes.legend(loc="best")
    return figure


@styled
def error_curves(curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], title: str) -> Drawing:
    """Draw the share of misclassified images against epochs, in %: of test images solid, of validation images dotted.

    Args:
      curves: a name, and rows with `epoch`, `valid_error` and `test_error`, shares from 0 to 1.
      title: of the figure.
    """
    figure = new_drawing(COLUMN, 2.4 + 0.16 * (1 + len(curves) // 3), title)
    axes, entries = figure.subplots(), []
    for (name, rows), look in zip(curves, looks(len(curves)), strict=True):
        epochs = np.array([row["epoch"] for row in rows])
        for split, (line, words) in _ERRORS.items():
            errors = np.array([100 * row[f"{split}_error"] for row in rows])
            plot(axes, epochs, errors, look, f"{name} {words}", line)
            figure.record({"x": epochs, "y": errors}, curve=name, split=words)
        entries.append(key(look, name))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("epochs")
    axes.set_ylabel("misclassified images (%)")
    legend_below(figure, [*entries, *(line_key(line, words) for line, words in _ERRORS.values())])
    return figure
