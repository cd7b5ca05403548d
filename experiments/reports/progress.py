"""What a person sees while a run goes on, and TensorBoard."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from aevb.training import Evaluation
from aevb.training.history import ONLY_SOME_HAVE

_SECONDS_BETWEEN_LINES = 5.0


class Reporter(Protocol):
    """Told of every evaluation, and closed at the end."""

    def report(self, row: Evaluation) -> None: ...

    def close(self) -> None: ...


class ProgressBar:
    """For a terminal: a bar with rate, remaining time and both bounds."""

    def __init__(self, name: str, total_samples: int, done_samples: int):
        """A bar called `name` over `total_samples`, of which `done_samples` are done."""
        self._bar = tqdm(
            total=total_samples, initial=done_samples, desc=name, unit=" images", unit_scale=True, dynamic_ncols=True
        )

    def report(self, row: Evaluation) -> None:
        self._bar.set_postfix_str(_bounds(row), refresh=False)
        self._bar.update(row.num_train_samples - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class ProgressLines:
    """For a log file: a line now and then, the last one always."""

    def __init__(self, name: str, total_samples: int, done_samples: int):
        """Lines that begin with `name`, as for `ProgressBar`."""
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
            pace = f"  {done / elapsed:,.0f} images/s  {tqdm.format_interval(remaining)} left"
        print(f"{self._name}  {row.num_train_samples:,}/{self._total:,} samples  {_bounds(row)}{pace}", flush=True)

    def close(self) -> None:
        """Nothing is open."""


class TensorBoard:
    """Scalars against training samples, in event files."""

    def __init__(self, folder: Path, first_samples: int):
        """Event files in `folder`; whatever is there from `first_samples` on is replaced."""
        # Imported late: not needed to print help or an error.
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_samples)

    def report(self, row: Evaluation) -> None:
        if math.isnan(row.train_elbo):
            return
        names = ("train_elbo", "test_elbo", "test_reconstruction", "test_kl", "active_units")
        for name in (*names, *(name for name in ONLY_SOME_HAVE if math.isfinite(getattr(row, name)))):
            self._writer.add_scalar(name, getattr(row, name), row.num_train_samples)
        if len(row.test_kl_by_level) > 1:
            for name in ("test_kl_by_level", "active_units_by_level"):
                for level, value in getattr(row, name).items():
                    self._writer.add_scalar(f"{name}/{level}", value, row.num_train_samples)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def progress(name: str, total_samples: int, done_samples: int) -> Reporter:
    """A bar on a terminal, lines elsewhere."""
    kind = ProgressBar if sys.stderr.isatty() else ProgressLines
    return kind(name, total_samples, done_samples)


def _bounds(row: Evaluation) -> str:
    if math.isnan(row.train_elbo):
        return "no recognition model, no bound"
    valid = "" if math.isnan(row.valid_elbo) else f"valid {row.valid_elbo:.2f}  "
    tighter = {"L_K": row.test_iwae, "FIVO": row.test_fivo}
    weighted = "".join(f" ({name} {value:.2f})" for name, value in tighter.items() if not math.isnan(value))
    return f"train {row.train_elbo:.2f}  {valid}test {row.test_elbo:.2f}{weighted} nats{_levels(row)}"


def _levels(row: Evaluation) -> str:
    """Return the KL divergence and the active units of each level in words; of one level nothing."""
    if len(row.test_kl_by_level) < 2:
        return ""
    divergences = " ".join(f"{level} {kl:.2f}" for level, kl in row.test_kl_by_level.items())
    units = " ".join(f"{level} {count}" for level, count in row.active_units_by_level.items())
    return f"  KL {divergences}" + (f"  active {units}" if units else "")


def counting(name: str, total: int, unit: str) -> Callable[[int], None]:
    """Return what is told how many of `total` are done: a bar on a terminal, a line now and then elsewhere."""
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
