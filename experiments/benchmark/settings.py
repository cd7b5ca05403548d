"""The settings of all suites, and starting workers from them."""

import contextlib
import dataclasses
import functools
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from experiments.benchmark.contenders import OURS, build
from experiments.benchmark.worker import Worker
from experiments.benchmark.workload import Workload
from experiments.launch import XLA_FLAG


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that all suites share.

    Attributes:
      workload: the workload of the contenders.
      repeats: the number of turns per contender.
      num_epochs: the number of epochs per turn.
    """

    workload: Workload
    repeats: int
    num_epochs: int


class Spread(NamedTuple):
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def start_worker(
    name: str,
    workload: Workload,
    contender: str = OURS,
    make: Callable[[Workload], Callable[[int], Any]] | None = None,
    cores: Sequence[int] | None = None,
) -> Worker:
    """Start a worker of a contender, or of `make`.

    This project's workers have the XLA flag of its commands, set by `launch`; its peers have XLA's defaults.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    if contender != OURS:
        flags = [flag for flag in flags if flag != XLA_FLAG]
    return Worker(name, make or functools.partial(build, contender), workload, " ".join(flags), cores)


@contextlib.contextmanager
def closing_all(workers: Sequence[Worker]) -> Iterator[None]:
    """End the workers when the block ends, at once if it fails."""
    try:
        yield
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    finally:
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.end()
