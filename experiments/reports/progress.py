"""What a person sees during a run: a progress bar or lines, and TensorBoard."""

import math
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from aevb.training import Evaluation
from aevb.training.history import ONLY_SOME_HAVE
from experiments.reports.event_files import EventFile
from experiments.reports.per_step import per_step

NO_LENGTHS: Mapping[str, float] = types.MappingProxyType({})
_SECONDS_BETWEEN_LINES = 5.0


class Reporter(Protocol):
    """Receives every evaluation, and is closed at the end."""

    def report(self, row: Evaluation) -> None: ...

    def close(self) -> None: ...


class ProgressBar:
    """A bar with the rate, the remaining time and both bounds, for a terminal."""

    def __init__(self, name: str, total_samples: int, done_samples: int, lengths: Mapping[str, float] = NO_LENGTHS):
        """Show a bar.

        Args:
          name: written before it.
          total_samples: training samples at its end.
          done_samples: training samples at its beginning.
          lengths: `mean_lengths` of the splits, where data are sequences.
        """
        self._lengths, unit = lengths, f" {_unit(lengths)}"
        self._bar = tqdm(
            total=total_samples, initial=done_samples, desc=name, unit=unit, unit_scale=True, dynamic_ncols=True
        )

    def report(self, row: Evaluation) -> None:
        self._bar.set_postfix_str(_bounds(row, self._lengths), refresh=False)
        self._bar.update(row.num_train_samples - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class ProgressLines:
    """A line every few seconds and one at the end, for a log file."""

    def __init__(self, name: str, total_samples: int, done_samples: int, lengths: Mapping[str, float] = NO_LENGTHS):
        """Take the arguments of `ProgressBar`; lines begin with `name`."""
        self._lengths = lengths
        self._name, self._total, self._first = name, total_samples, done_samples
        self._start, self._last_line = time.monotonic(), float("-inf")

    def report(self, row: Evaluation) -> None:
        now = time.monotonic()
        if now - self._last_line < _SECONDS_BETWEEN_LINES and row.num_train_samples < self._total:
            return
        self._last_line = now
        done, elapsed = row.num_train_samples - self._first, now - self._start
        pace = ""
        if done > 0 and elapsed > 0:
            remaining = (self._total - row.num_train_samples) * elapsed / done
            pace = f"  {done / elapsed:,.0f} {_unit(self._lengths)}/s  {tqdm.format_interval(remaining)} left"
        bounds = _bounds(row, self._lengths)
        print(f"{self._name}  {row.num_train_samples:,}/{self._total:,} samples  {bounds}{pace}", flush=True)

    def close(self) -> None:
        """Do nothing."""


class TensorBoard:
    """Event files of scalars against training samples."""

    def __init__(self, folder: Path, first_samples: int, lengths: Mapping[str, float] = NO_LENGTHS):
        """Open an event file in `folder`, which replaces what earlier ones have from `first_samples` on.

        Args:
          folder: of the run.
          first_samples: training samples seen so far.
          lengths: `mean_lengths` of the splits, where data are sequences.
        """
        self._lengths = lengths
        self._events = EventFile(folder, first_samples)

    def report(self, row: Evaluation) -> None:
        if math.isnan(row.train_elbo):
            return
        names = ("train_elbo", "test_elbo", "test_reconstruction", "test_kl")
        values = {name: getattr(row, name) for name in (*names, *ONLY_SOME_HAVE)}
        values = {name: value for name, value in values.items() if name in names or math.isfinite(value)}
        if row.active_units is not None:
            values["active_units"] = row.active_units
        for name, value in (values | per_step(row, self._lengths)).items():
            self._events.add_scalar(name, value, row.num_train_samples)
        if len(row.test_kl_by_level) > 1:
            for name in ("test_kl_by_level", "active_units_by_level"):
                for level, value in getattr(row, name).items():
                    self._events.add_scalar(f"{name}/{level}", value, row.num_train_samples)
        self._events.flush()

    def close(self) -> None:
        self._events.close()


def write_images(folder: Path, figures: Path, num_train_samples: int) -> None:
    """Write the figures of a run into an event file, so that TensorBoard shows them under IMAGES.

    Args:
      folder: of the run.
      figures: the folder of its PNG files.
      num_train_samples: after which they were drawn.
    """
    events = EventFile(folder, suffix=".images")
    try:
        for path in sorted(figures.glob("*.png")):
            events.add_png(f"figures/{path.stem}", path.read_bytes(), num_train_samples)
        events.flush()
    finally:
        events.close()


def progress(name: str, total_samples: int, done_samples: int, lengths: Mapping[str, float] = NO_LENGTHS) -> Reporter:
    """Return a bar on a terminal, lines elsewhere."""
    kind = ProgressBar if sys.stderr.isatty() else ProgressLines
    return kind(name, total_samples, done_samples, lengths)


def _unit(lengths: Mapping[str, float]) -> str:
    return "sequences" if lengths else "images"


def _bounds(row: Evaluation, lengths: Mapping[str, float]) -> str:
    if math.isnan(row.train_elbo):
        return "no recognition model, no bound"
    valid = "" if math.isnan(row.valid_elbo) else f"valid {row.valid_elbo:.2f}  "
    tighter = {"L_K": row.test_iwae, "FIVO": row.test_fivo}
    weighted = "".join(f" ({name} {value:.2f})" for name, value in tighter.items() if not math.isnan(value))
    more = _by_step(row, lengths) + _levels(row)
    return f"train {row.train_elbo:.2f}  {valid}test {row.test_elbo:.2f}{weighted} nats{more}"


def _by_step(row: Evaluation, lengths: Mapping[str, float]) -> str:
    """Return the bounds per step in words, nothing where data are not sequences."""
    found = per_step(row, lengths)
    words = [f"{split} {found[f'{split}_elbo_per_step']:.3f}" for split in lengths if f"{split}_elbo_per_step" in found]
    return f"  per step {' '.join(words)}" if words else ""


def _levels(row: Evaluation) -> str:
    """Return the KL divergence and the active units of each level in words, nothing where there is one level."""
    if len(row.test_kl_by_level) < 2:
        return ""
    divergences = " ".join(f"{level} {kl:.2f}" for level, kl in row.test_kl_by_level.items())
    units = " ".join(f"{level} {count}" for level, count in row.active_units_by_level.items())
    return f"  KL {divergences}" + (f"  active {units}" if units else "")


def counting(name: str, total: int, unit: str) -> Callable[[int], None]:
    """Return a function that shows how many of `total` are done, as a bar or, without a terminal, as lines."""
    if sys.stderr.isatty():
        bar = tqdm(total=total, desc=name, unit=unit, dynamic_ncols=True)

        def advance(done: int) -> None:
            bar.update(done - bar.n)
            if done == total:
                bar.close()

        return advance
    start = last = time.monotonic()

    def line(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or done == total:
            last = now
            remaining = tqdm.format_interval((total - done) * (now - start) / done)
            print(f"{name}  {done:,}/{total:,}{unit}  {remaining} left", flush=True)

    return line
