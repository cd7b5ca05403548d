"""Hidden Markov models: what they learned, and how far EM came."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

from aevb.figures.edges import Shown, note_departures
from aevb.figures.style import TEXT, Drawing, key, legend_below, line_key, looks, new_drawing, plot, styled


class LearningCurve(NamedTuple):
    """What EM reached with one number of states, in nats per time step.

    Attributes:
      num_states: K.
      ends: log p by the name of a split, one for each restart, at the iteration that was chosen.
      best: the restart that was chosen.
      train: of that restart after 0, 1, ... steps of EM, `[I]`.
      evaluated: steps of EM before each evaluation, `[E]`.
      valid: of that restart at each evaluation, `[E]`.
      iterations: steps of EM that were chosen.
    """

    num_states: int
    ends: Mapping[str, Sequence[float]]
    best: int
    train: np.ndarray
    evaluated: np.ndarray
    valid: np.ndarray
    iterations: int


_WORDS = {"valid": "validation"}


@styled
def log_likelihoods(curves: Sequence[LearningCurve], title: str) -> Drawing:
    """Draw log p by number of states, every restart a point, and by steps of EM of the restarts that were chosen."""
    curves = sorted(curves, key=lambda curve: curve.num_states)
    figure = new_drawing(TEXT, 2.9, title)
    by_size, by_step = figure.subplots(1, 2)
    sizes = np.array([curve.num_states for curve in curves])
    for name, look in zip(curves[0].ends, looks(len(curves[0].ends)), strict=True):
        chosen = np.array([curve.ends[name][curve.best] for curve in curves])
        words = _WORDS.get(name, name)
        plot(by_size, sizes, chosen, look, words, look.line)
        figure.record({"x": sizes, "y": chosen}, panel="states", curve=words, restart="chosen")
        for curve in curves:
            values = np.array(curve.ends[name])
            by_size.plot([curve.num_states] * len(values), values, look.marker, color=look.color, alpha=0.3)
            columns = {"restart": np.arange(len(values)), "x": curve.num_states, "y": values}
            figure.record(columns, panel="states", curve=words)
    by_size.set_xscale("log")
    by_size.set_xticks(sizes, [f"{size:,}" for size in sizes])
    by_size.minorticks_off()
    by_size.set_xlabel("states (faint: all restarts)")
    by_size.set_ylabel("log p (nats per time step)")
    by_size.legend()
    limits, shown, entries = [], [], []
    for curve, look in zip(curves, looks(len(curves)), strict=True):
        label, steps = f"{curve.num_states:,} states", np.arange(len(curve.train))
        plot(by_step, steps, curve.train, look, f"{label}, train", "--")
        plot(by_step, curve.evaluated, curve.valid, look, f"{label}, validation")
        chosen = np.asarray(curve.evaluated) == curve.iterations
        ring = {"color": look.color, "markersize": 7, "markerfacecolor": "none", "linestyle": "none"}
        by_step.plot(np.asarray(curve.evaluated)[chosen], curve.valid[chosen], marker="o", **ring)
        for split, x, y in (("train", steps, curve.train), ("validation", curve.evaluated, curve.valid)):
            figure.record({"x": x, "y": y}, panel="steps of EM", curve=label, split=split)
            shown.append(Shown(label, split, look.color, np.asarray(x), np.asarray(y)))
        limits += [*curve.valid, *curve.train[3:]]
        entries.append(key(look, label))
    if limits:
        low, high = min(limits), max(limits)
        by_step.set_ylim(low - 0.05 * (high - low) - 1e-6, high + 0.05 * (high - low) + 1e-6)
    by_step.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_step.set_xlabel("steps of EM")
    by_step.set_ylabel("log p (nats per time step)")
    note_departures(by_step, shown)
    legend_below(figure, [*entries, line_key("-", "validation (ring: chosen)"), line_key("--", "train")])
    return figure


@styled
def hidden_states(transition: np.ndarray, means: np.ndarray, values: np.ndarray | None, title: str) -> Drawing:
    """Draw the transition probabilities of states, and the mean of what each of them emits.

    Args:
      transition: `[K, K]`, from rows to columns.
      means: `[K, D]`.
      values: what number each of the D values of a step has, `[D]`, consecutive; by default from 0.
      title: of the figure.
    """
    num_states, first = len(transition), 0 if values is None else int(values[0])
    figure = new_drawing(TEXT, 3.0, title)
    left, right = figure.subplots(1, 2)
    norm = PowerNorm(0.5, 0, max(float(transition.max()), 1e-9))
    shown = left.imshow(transition, cmap="viridis", norm=norm, interpolation="nearest", aspect="equal")
    figure.colorbar(shown, ax=left, label="probability", shrink=0.8)
    left.set_xlabel("to state")
    left.set_ylabel("from state")
    left.set_title("transitions")
    extent = (first - 0.5, first + means.shape[1] - 0.5, num_states - 0.5, -0.5)
    image = right.imshow(means, cmap="viridis", interpolation="nearest", aspect="auto", extent=extent)
    figure.colorbar(image, ax=right, label="mean", shrink=0.8)
    right.set_xlabel("value of a step")
    right.set_ylabel("state")
    right.set_title("mean of what each state emits")
    for axes in (left, right):
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    states = np.arange(num_states)
    columns = {"from_state": states[:, None], "to_state": states[None, :], "probability": transition}
    figure.record(columns, panel="transitions")
    numbers = first + np.arange(means.shape[1])
    figure.record({"from_state": states[:, None], "value": numbers[None, :], "mean": means}, panel="emissions")
    return figure
