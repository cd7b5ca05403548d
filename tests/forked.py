"""Run commands in forked children of one process that has imported everything, which saves 4 s per command.

    python -m tests.forked

reads one job per line from standard input, as JSON, and answers each with one line. The parent imports the experiments
and their late imports, but computes nothing: JAX has no devices yet, so that each child starts its own.
"""

import ctypes
import importlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import ROOT

_LATE = (  # late imports of commands, except blackjax, which computes something on import
    "matplotlib.pyplot", "orbax.checkpoint", "sklearn.datasets", "scipy.io", "PIL.Image", "tensorboardX",
    "aevb.compression", "aevb.figures", "experiments.runs.run", "experiments.runs.command",
    "experiments.runs.together", "experiments.reports.pictures", "experiments.config_flags",
)  # fmt: skip
_GRACE = 60.0  # seconds after a SIGINT
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Ended(NamedTuple):
    """The end of a command.

    Attributes:
      status: The status as in `subprocess`: minus the number of the signal that ended it, if any.
      output, errors: Standard output and error.
      seconds: CPU time.
      memory: Peak memory in bytes.
      was_interrupted: Whether it exceeded its time and was sent a SIGINT.
    """

    status: int
    output: str
    errors: str
    seconds: float
    memory: int
    was_interrupted: bool


class Forks:
    """The parent process; a context manager."""

    def __init__(self, seconds: float, memory: int, **environment: str):
        """Start the process. Commands get a SIGINT after some seconds and may allocate at most `memory` bytes."""
        self._limits = {"seconds": seconds, "memory": memory}
        self._environment = os.environ | environment

    def __enter__(self) -> "Forks":
        """Wait until everything is imported."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked"], cwd=ROOT, env=self._environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._read() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        """Let the parent end."""
        self._process.communicate()

    def run(self, module: str, arguments: Sequence[str], folder: Path, function: str = "") -> Ended:
        """Run `python -m MODULE ARGUMENTS` in a folder, or call a function of the module with the arguments."""
        return Ended(
            **self._ask(
                {
                    "module": module,
                    "arguments": list(arguments),
                    "function": function,
                    **self._limits,
                    "folder": str(folder),
                }
            )
        )

    def _ask(self, job: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _serve() -> dict[str, Any]:
    """Answer jobs in the parent; in a child, return its job."""
    _import_all()
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        printed = [os.memfd_create(name) for name in ("output", "errors")]
        child = os.fork()
        if not child:
            answers.close()
            _prepare(job, printed)
            return job
        found = _wait(child, job["seconds"])
        texts = []
        for number in printed:
            with os.fdopen(number, "rb") as file:
                file.seek(0)
                texts.append(file.read().decode(errors="backslashreplace"))
        print(json.dumps({**found, "output": texts[0], "errors": texts[1]}), file=answers, flush=True)
    sys.exit()


def _import_all() -> None:
    binaries = [f"experiments.{path.stem}" for path in (ROOT / "experiments").glob("*.py")]
    for name in (*sorted(binaries), *_LATE):
        try:
            importlib.import_module(name)
        except ImportError:  # part of an extra that is not installed
            continue
    from jax._src import xla_bridge

    assert not xla_bridge.backends_are_initialized(), "a fork would share the threads of JAX's devices"
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")


def _prepare(job: Mapping[str, Any], printed: Sequence[int]) -> None:
    """Set up this child like a process started by a shell: its folder, files, signals and limits."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    os.setsid()
    os.chdir(job["folder"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, to in enumerate((nothing, *printed)):
        os.dup2(to, number)
        os.close(to)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    warnings.filterwarnings("ignore", message=".*found in sys.modules after import", module="runpy|<frozen runpy>")


def _wait(child: int, seconds: float) -> dict[str, Any]:
    began, was_interrupted = time.monotonic(), False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        passed = time.monotonic() - began
        if passed > seconds and not was_interrupted:
            os.kill(child, signal.SIGINT)
            was_interrupted = True
        if passed > seconds + _GRACE:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,
        "was_interrupted": was_interrupted,
    }


if __name__ == "__main__":
    todo = _serve()
    sys.argv = ["-m", *todo["arguments"]]
    if todo["function"]:
        getattr(importlib.import_module(todo["module"]), todo["function"])(*todo["arguments"])
    else:
        runpy.run_module(todo["module"], run_name="__main__", alter_sys=True)
