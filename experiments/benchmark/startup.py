"""Seconds from the start of a process to its first training step, with and without cached programs."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.benchmark.settings import Settings, Spread
from experiments.benchmark.worker import WorkerError

_MODULE = "experiments.benchmark.first_step"
_ROOT = Path(__file__).resolve().parents[2]


def measure(settings: Settings) -> dict[str, Any]:
    """Run and print the measurements, and return the contents of startup.json; the data must have been prepared."""
    seconds: dict[str, dict[str, list[float]]] = {"cold": {}, "warm": {}}
    for _ in range(settings.repeats):
        with tempfile.TemporaryDirectory() as compiled_programs:
            for kind in seconds:
                for mark, value in _marks(settings, compiled_programs).items():
                    seconds[kind].setdefault(mark, []).append(value)
    print("\nseconds from the start of the process, median and range:")
    for kind, marks in seconds.items():
        cells = [
            f"{mark} {Spread.of(values).median:.2f} ({min(values):.2f} to {max(values):.2f})"
            for mark, values in marks.items()
        ]
        print(f"  {kind} compilation cache: {', '.join(cells)}")
    return {
        kind: {mark: {**Spread.of(values)._asdict(), "turns": values} for mark, values in marks.items()}
        for kind, marks in seconds.items()
    }


def _marks(settings: Settings, compiled_programs: str) -> dict[str, float]:
    """Run one process, and return the marks that it prints with the seconds from before its start to reading each."""
    workload = settings.workload
    flags = {name: getattr(workload, name) for name in ("dataset", "data_dir", "source_dir", "num_images")}
    flags |= {name: getattr(workload, name) for name in ("latent_dim", "hidden_dim", "batch_size")}
    arguments = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": compiled_programs}
    start, marks = time.perf_counter(), {}
    with subprocess.Popen(
        [sys.executable, "-m", _MODULE, *arguments], cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            marks[line.strip()] = time.perf_counter() - start
    if process.returncode != 0:
        raise WorkerError(f"{_MODULE} ended with exit status {process.returncode}")
    return marks
