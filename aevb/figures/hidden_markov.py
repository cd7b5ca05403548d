"""Hidden Markov models: what they learned, and how far they came."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aevb.figures.style import CONTRASTS, PANELS_WIDTH, STYLE, palette


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


def log_likelihoods(curves: Sequence[LearningCurve], title: str) -> Figure:
    """Draw log p by number of states, every restart a point, and by steps of EM of the restarts that were chosen."""
    curves = sorted(curves, key=lambda curve: curve.num_states)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANELS_WIDTH, 3.8), layout="constrained")
        by_size, by_step = figure.subplots(1, 2)
        sizes = [curve.num_states for curve in curves]
        for name, color in zip(curves[0].ends, CONTRASTS, strict=False):
            by_size.plot(sizes, [curve.ends[name][curve.best] for curve in curves], "-o", color=color, label=name)
            for curve in curves:
                values = curve.ends[name]
                by_size.plot([curve.num_states] * len(values), values, "o", color=color, alpha=0.3, markersize=3)
        by_size.set_xscale("log")
        by_size.set_xticks(sizes, [f"{size:,}" for size in sizes])
        by_size.minorticks_off()
        by_size.set_xlabel("states (faint: other restarts)")
        by_size.set_ylabel("log p (nats per time step)")
        by_size.legend()
        shown = []
        for curve, color in zip(curves, palette(len(curves)), strict=True):
            by_step.plot(curve.train, "--", color=color, linewidth=1.0)
            by_step.plot(curve.evaluated, curve.valid, color=color, label=f"{curve.num_states:,} states")
            chosen = np.asarray(curve.evaluated) == curve.iterations
            by_step.plot(curve.iterations, curve.valid[chosen], "o", color=color, markerfacecolor="none")
            shown += [*curve.valid, *curve.train[3:]]
        if shown:
            low, high = min(shown), max(shown)
            by_step.set_ylim(low - 0.05 * (high - low) - 1e-6, high + 0.05 * (high - low) + 1e-6)
        by_step.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_step.set_xlabel("steps of EM (valid; train dashed; ring: chosen)")
        by_step.legend()
        figure.suptitle(title)
    return figure


def hidden_states(transition: np.ndarray, means: np.ndarray, values: np.ndarray | None, title: str) -> Figure:
    """Draw the transition probabilities of states, and the mean of what each of them emits.

    Args:
      transition: `[K, K]`, from rows to columns.
      means: `[K, D]`.
      values: what number each of the D values of a step has, `[D]`, consecutive; by default from 0.
      title: of the figure.
    """
    num_states, first = len(transition), 0 if values is None else int(values[0])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PANELS_WIDTH, 5.0), layout="constrained")
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
        right.set_xlabel("number of the value, of those of a step")
        right.set_ylabel("state")
        right.set_title("mean of what each state emits")
        for axes in (left, right):
            axes.grid(visible=False)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.suptitle(title)
    return figure
