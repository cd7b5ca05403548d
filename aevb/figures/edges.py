"""Curves that leave their panel: which ones, where, and how far, written into the panel."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from aevb.figures.style import minus

_MOST_NAMED = 2  # curves that are named one by one; more are counted
_LITTLE = 0.05  # difference between values that are told as one
_LINE_HEIGHT = 0.14  # inches, of a note
_LETTER_WIDTH = 0.06  # inches
_FEWEST_LETTERS = 12  # per line


class Shown(NamedTuple):
    """A line of a panel.

    Attributes:
      name: of the curve.
      part: which of the curve's lines this is (test, train, ...); empty where it has one.
      color: of the mark at the edge.
      x: `[T]`, ascending.
      y: `[T]`.
    """

    name: str
    part: str
    color: Any
    x: np.ndarray
    y: np.ndarray


class _Departure(NamedTuple):
    kind: str  # a verb
    values: tuple[float, ...]
    x: float
    is_below: bool


def note_departures(axes: Axes, curves: Sequence[Shown], also: Sequence[str] = ()) -> list[str]:
    """Say in a panel which curves start, end or lie outside it, and mark where they cross its edge.

    Args:
      axes: with their limits set.
      curves: every line that was drawn.
      also: further notes, as of runs that diverged and have no curve.

    Returns:
      The notes, a line each.
    """
    low, high = axes.get_ylim()
    is_log = axes.get_xscale() == "log"
    found: list[tuple[Shown, _Departure]] = []
    for curve in curves:
        found += [(curve, each) for each in _departures(curve, low, high, is_log)]
    for curve, departure in found:
        marker, edge = ("v", low) if departure.is_below else ("^", high)
        options: Any = {"clip_on": False, "scalex": False, "scaley": False, "zorder": 5}
        axes.plot(departure.x, edge, marker, color=curve.color, markersize=5, **options)
    lines = _words(found, curves) + list(also)
    if lines:
        _write(axes, lines, curves)
    return lines


def _departures(curve: Shown, low: float, high: float, is_log: bool) -> list[_Departure]:
    seen = np.isfinite(curve.x) & np.isfinite(curve.y)
    x, y = np.asarray(curve.x, float)[seen], np.asarray(curve.y, float)[seen]
    if not len(y):
        return [_Departure("has no finite value", (), np.nan, True)] if len(curve.y) else []
    outside = (y < low) | (y > high)
    below = lambda value: bool(value < low)
    if outside.all():
        middle = x[len(x) // 2]
        side = "below" if y.max() < low else "above" if y.min() > high else "outside"
        return [_Departure(f"is {side} the panel", (y.min(), y.max()), middle, side != "above")]
    found = []
    inside = np.flatnonzero(~outside)
    first, last = inside[0], inside[-1]
    if first > 0:
        edge = low if below(y[first - 1]) else high
        found.append(_Departure("starts", (y[0],), _crossing(x, y, first - 1, edge, is_log), edge == low))
    if last < len(y) - 1:
        edge = low if below(y[last + 1]) else high
        found.append(_Departure("ends", (y[-1],), _crossing(x, y, last, edge, is_log), edge == low))
    between = np.arange(first, last + 1)[outside[first : last + 1]]
    for is_below, verb in ((True, "falls out"), (False, "rises out")):
        there = between[(y[between] < low) == is_below] if len(between) else between
        if len(there):
            extreme = there[np.argmin(y[there]) if is_below else np.argmax(y[there])]
            found.append(_Departure(verb, (float(y[extreme]),), float(x[extreme]), is_below))
    return found


def _crossing(x: np.ndarray, y: np.ndarray, index: int, edge: float, is_log: bool) -> float:
    """Return where the line from `index` to the next point crosses the edge."""
    left, right = (np.log(x[index]), np.log(x[index + 1])) if is_log else (x[index], x[index + 1])
    where = left + (edge - y[index]) / (y[index + 1] - y[index]) * (right - left)
    return float(np.exp(where) if is_log else where)


def _words(found: Sequence[tuple[Shown, _Departure]], curves: Sequence[Shown]) -> list[str]:
    """Return one note for each curve that leaves; where all or many leave the same way, one for all of them."""
    together, by_who = [], defaultdict(list)
    for kind in dict.fromkeys(departure.kind for _, departure in found):
        leaving = [(curve, departure) for curve, departure in found if departure.kind == kind]
        names = list(dict.fromkeys(curve.name for curve, _ in leaving))
        values = lambda some: [value for _, departure in some for value in departure.values]
        everyone = 1 < len(names) == len({curve.name for curve in curves})
        if everyone or len(names) > _MOST_NAMED:
            number = "both" if everyone and len(names) == 2 else "all" if everyone else f"{len(names)}"
            who = f"{number} curves"
            together.append(f"{who} {_plural(kind)} {_range(values(leaving))}".rstrip())
            continue
        for name in names:
            of_name = [pair for pair in leaving if pair[0].name == name]
            parts = list(dict.fromkeys(curve.part for curve, _ in of_name))
            everything = {curve.part for curve in curves if curve.name == name} == set(parts)
            who = (name or "the bound") if everything else f"{name} {' and '.join(parts)}".strip()
            is_plural = len(parts) > 1 and not everything
            by_who[who].append(f"{_plural(kind) if is_plural else kind} {_range(values(of_name))}".rstrip())
    return together + [f"{who} {', '.join(verbs)}" for who, verbs in by_who.items()]


def _plural(kind: str) -> str:
    verb, _, rest = kind.partition(" ")
    irregular = {"is": "are", "has": "have"}
    return f"{irregular.get(verb, verb.removesuffix('s'))} {rest}".rstrip()


def _range(values: Sequence[float]) -> str:
    """Return one value, or about which one where several differ by a little, or the range of several."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if _number(low) == _number(high):
        return f"at {_number(low)}"
    if high - low < _LITTLE * abs(high + low) / 2:
        return f"near {_number((low + high) / 2)}"
    return f"at {_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return minus(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}")


def _write(axes: Axes, lines: Sequence[str], curves: Sequence[Shown]) -> None:
    """Write lines where the fewest points of curves pass: broken rarely rather than often, in a corner if possible."""
    box = axes.get_position()
    figure: Any = axes.figure
    width, height = figure.get_size_inches() * (box.width, box.height)
    points = _points(axes, curves)
    best = None
    for letters in dict.fromkeys(
        max(_FEWEST_LETTERS, int(part * width / _LETTER_WIDTH)) for part in (1, 0.85, 0.7, 0.6, 0.5)
    ):
        wrapped = [line for note in lines for line in textwrap.wrap(note, letters, subsequent_indent="  ")]
        across = min(0.95, max(map(len, wrapped)) * _LETTER_WIDTH / width)
        up = min(0.95, (len(wrapped) + 0.5) * _LINE_HEIGHT / height)
        for place in _PLACES:
            covered = _covered(points, place, across, up)
            if best is None or covered < best[0]:
                best = covered, place, wrapped
    assert best is not None
    (x, y), text = best[1], "\n".join(best[2])
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        horizontalalignment=_ACROSS[x],
        verticalalignment=_UP.get(y, "center"),
        multialignment="left",
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0},
        zorder=6,
        in_layout=False,
    )


_ACROSS: Mapping[float, Any] = {0.98: "right", 0.02: "left", 0.5: "center"}
_UP: Mapping[float, Any] = {0.03: "bottom", 0.97: "top"}
_PLACES = [(x, y) for y in (0.03, 0.97, 0.25, 0.5, 0.75) for x in _ACROSS]


def _covered(points: np.ndarray, place: tuple[float, float], across: float, up: float) -> float:
    """Return how many points are under a text of that width and height whose anchor is at a place.

    It is infinite if the text does not fit into the panel there.
    """
    (x, y), align = place, {"right": -1.0, "left": 0.0, "center": -0.5}
    left = x + align[_ACROSS[x]] * across
    bottom = y + {"bottom": 0.0, "top": -1.0, "center": -0.5}[_UP.get(y, "center")] * up
    if bottom < 0 or bottom + up > 1:
        return np.inf
    inside = (points >= (left, bottom)) & (points <= (left + across, bottom + up))
    return float(inside.all(axis=1).sum())


def _points(axes: Axes, curves: Sequence[Shown]) -> np.ndarray:
    """Return points along all lines inside the panel, as shares of its width and height."""
    found = [np.zeros((0, 2))]
    for curve in curves:
        seen = np.isfinite(curve.x) & np.isfinite(curve.y)
        if axes.get_xscale() == "log":
            seen &= np.asarray(curve.x) > 0
        places = (axes.transScale + axes.transLimits).transform(np.column_stack([curve.x, curve.y])[seen])
        if len(places):
            along = np.linspace(0, len(places) - 1, 200)
            found.append(np.column_stack([np.interp(along, np.arange(len(places)), each) for each in places.T]))
    points = np.concatenate(found)
    return points[np.all((points >= 0) & (points <= 1), axis=1)]
