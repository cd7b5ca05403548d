"""Real processes: the binaries as users run them, observed from outside, and killed."""

import contextlib
import csv
import glob
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

import aevb
from tests.conftest import ROOT


def run(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def run_in(folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess:
    """Run a command as `run` does, with `folder` as its current directory."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False
    )


def start(arguments: Sequence[str], **environment: str) -> subprocess.Popen:
    """Start a process in its own group, so that `kill` also ends its children."""
    return subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip


def experiment(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return run([sys.executable, "-m", f"experiments.{name}", *arguments], **environment)


def assert_one_line_error(done: subprocess.CompletedProcess, message: str) -> None:
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Two processes that train one run together


def start_processes(command: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Start an experiment, given by its name and flags, as two processes on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name, *arguments = command
    shared = ["--distributed", "--process_count=2", f"--coordinator=127.0.0.1:{port}"]
    whole = [sys.executable, "-m", f"experiments.{name}", *arguments, *shared]
    return [start([*whole, f"--process_index={index}"], JAX_PLATFORMS="cpu") for index in range(2)]


def ends_of(processes: Sequence[subprocess.Popen[str]]) -> list[subprocess.CompletedProcess[str]]:
    try:
        outputs = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


def run_together(command: Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
    return ends_of(start_processes(command))


# Killed at random moments


def kill(process: subprocess.Popen) -> None:
    """Send SIGKILL to the process and its children, and wait until all have closed their pipes."""
    with contextlib.suppress(ProcessLookupError):  # ended by itself, which is reported below
        os.killpg(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors


def lives(
    arguments: Sequence[str], num_kills: int, progress: Callable[[], int], pause: float = 0.8, **environment: str
) -> Iterator[None]:
    """Start a command `num_kills` times and kill it each time, at moments drawn with a fixed seed; yield after each.

    One life in four is cut short anywhere, including loading and compiling; the others after some progress.

    Args:
      arguments: The command.
      num_kills: The number of lives.
      progress: Returns a number that rises with progress.
      pause: Longest time in seconds from progress to the kill; less than the remaining work takes.
      environment: Environment variables of the command, in addition to this process's.
    """
    rng = random.Random(0)
    for life in range(num_kills):
        before = progress()
        process = start(arguments, **environment)
        try:
            if life % 4 == 3:
                time.sleep(rng.uniform(0, 8))
            while life % 4 != 3 and progress() <= before and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, pause))
        finally:
            kill(process)
        yield


def rows_written(workdir: Path) -> int:
    """Return the size in bytes of the metrics of all runs in and under `workdir`."""
    # pathlib fails if folders appear and vanish in the meantime.
    return sum(os.stat(path).st_size for path in glob.glob(f"{workdir}/**/metrics.csv", recursive=True))


# Run folders


def metrics(workdir: Path) -> list[dict[str, str]]:
    return read_csv(workdir / "metrics.csv")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def without_seconds(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows without the columns that differ between equal runs: seconds, and checksums that cover them."""
    return [{name: value for name, value in row.items() if name not in ("seconds", "sha256")} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    """Require the same metrics except for the seconds, and the same parameters, bit for bit."""
    assert without_seconds(metrics(one)) == without_seconds(metrics(other))
    assert json.loads((one / "summary.json").read_text())["num_epochs"] == int(metrics(one)[-1]["epoch"])
    (_, first), (_, second) = aevb.load_run(one), aevb.load_run(other)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), first, second))
