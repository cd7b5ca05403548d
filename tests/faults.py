"""Fail the n-th input or output call on files of a run, by a library preloaded into Python (`faults.c`).

    LD_PRELOAD=faults.so python -m tests.faults FOLDER resident EIO once 1 2 3

trains a short run once undisturbed, and once per number with that call failing, all in one process. Each run is then
resumed. It prints the number of calls, and one line of JSON per fault.
"""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

SOURCE = Path(__file__).with_suffix(".c")
_FOR_EVER = 2**31 - 1


def build(folder: Path) -> Path:
    """Compile the library."""
    library = folder / "faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def runs(library: Path, folder: Path, how: str, code: str, lasts: str, numbers: Sequence[int]) -> Iterator[dict]:
    """Yield the number of calls first, and then the end of the run for each fault, all in another process."""
    command = [sys.executable, "-m", "tests.faults", str(folder), how, code, lasts, *map(str, numbers)]
    environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    # A streamed run compiles its step anew each time: 10 seconds per fault without a cache, 2 with one.
    environment["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    assert process.returncode == 0


class _Faults:
    def __init__(self, under: Path, code: str):
        """Of calls on files under a folder."""
        self._library, self._under, self._code = ctypes.CDLL(None), os.fsencode(under), getattr(errno, code)
        self._library.failed_call.restype = ctypes.c_char_p

    def inject(self, first: int, last: int) -> None:
        """Make the calls with these numbers fail from now on; 0 stands for none."""
        self._library.inject(self._under, first, last, self._code)

    def stop(self) -> tuple[int, str]:
        """Return the number of calls and the first that failed, and stop failing calls."""
        found = self._library.calls(), self._library.failed_call().decode()
        self.inject(0, 0)
        return found


def _main(folder: Path, how: str, code: str, lasts: str, *numbers: str) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    from aevb.quiet import keep_quiet
    from experiments.runs.run import Options, Run, train
    from tests.runs import end_of, tiny_config, tiny_splits

    keep_quiet()
    splits = tiny_splits()
    config = tiny_config(splits, num_epochs=3)
    options = Options(draw_pictures=False, stream=how == "stream")
    answers, to = os.fdopen(os.dup(1), "w"), folder / "run"
    printed = os.open(folder / "printed", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)

    def attempt() -> str:
        """Train; return the error that a command would print in one line, or `None`."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                train(Run(config, to, "run"), splits, options)
        except Exception as error:  # the test decides which errors are acceptable
            return f"{type(error).__name__}: {error}"
        return ""

    faults = _Faults(to, code)
    attempt()
    expected = end_of(to)
    shutil.rmtree(to)
    faults.inject(0, 0)
    attempt()
    count, _ = faults.stop()
    print(json.dumps({"calls": count}), file=answers, flush=True)
    for number in map(int, numbers):
        if number > count:
            break
        shutil.rmtree(to, ignore_errors=True)
        os.ftruncate(printed, 0)
        faults.inject(number, number if lasts == "once" else _FOR_EVER)
        error = attempt()
        _, call = faults.stop()
        after = attempt()
        same = not after and end_of(to) == expected
        os.lseek(printed, 0, os.SEEK_SET)
        said = os.read(printed, 10**6).decode(errors="replace")
        found: dict[str, Any] = {
            "number": number,
            "call": call,
            "error": error,
            "resumed": after,
            "same": same,
            "said": said,
        }
        print(json.dumps(found), file=answers, flush=True)
        del error, after


if __name__ == "__main__":
    _main(Path(sys.argv[1]), *sys.argv[2:])
