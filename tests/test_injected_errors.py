"""An input or output error at any call of a run gives at most one line, and the resumed run ends with the same bits.

The calls on files of a run's folder (three epochs, four checkpoints) are made to fail in turn by `tests.faults`: open,
read, write, fsync, rename, stat, mkdir, unlink and others.
"""

import errno
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults import build, runs
from tests.processes import assert_same_run
from tests.processes import run as run_command

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]
_CLEAR = ("RunError", "OSError", "PermissionError", "")  # an error of one line, or no error
_MOST = 3000  # calls of a run


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("faults"))


def _try(library: Path, folder: Path, how: str, code: str, lasts: str, numbers: Sequence[int]) -> None:
    wrong, ends, calls = [], Counter(), 0
    for found in runs(library, folder, how, code, lasts, numbers):
        if "calls" in found:
            calls = found["calls"]
            continue
        kind = found["error"].partition(":")[0]
        ends[kind or "went on"] += 1
        ends["resumed"] += found["same"]
        is_clear = kind in _CLEAR and "\n" not in found["error"] and "Traceback" not in found["said"]
        refused = found["resumed"].startswith("RunError: ") and "\n" not in found["resumed"]
        if not is_clear or not (found["same"] or refused):
            wrong.append(found)
    print(f"\n{how}, {code} {lasts}: {calls} calls, {dict(ends)}")
    assert calls > 300
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(("how", "code"), [("resident", "EIO"), ("stream", "ENOSPC")])
def test_a_few_calls_that_fail(library, tmp_path, how, code):
    _try(library, tmp_path, how, code, "once", range(11, _MOST, 401 if code == "EIO" else 97))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["resident", "stream"])
@pytest.mark.parametrize("code", ["EIO", "ENOSPC"])
def test_every_call_that_fails(library, tmp_path, how, code):
    _try(library, tmp_path, how, code, "once", range(1, _MOST))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["resident", "stream"])
@pytest.mark.parametrize("code", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_from_a_call_on(library, tmp_path, how, code):
    _try(library, tmp_path, how, code, "forever", range(7, _MOST, 31))


@pytest.mark.slow
@pytest.mark.parametrize(("code", "at"), [("EIO", 60), ("EIO", 400), ("ENOSPC", 20), ("ENOSPC", 200)])
def test_a_command(library, tmp_path, code, at):
    command = [sys.executable, "-m", "experiments.digits", "--latent_dim=2", "--hidden_dim=4", "--num_epochs=3",
               "--num_train_images=100", "--eval_every=1", "--nodraw_pictures"]  # fmt: skip
    run, other = tmp_path / "run", tmp_path / "other"
    number = str(getattr(errno, code))
    faults = {"LD_PRELOAD": str(library), "FAULTS_UNDER": str(run), "FAULTS_AT": str(at), "FAULTS_ERROR": number}

    def start(folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_command([*command, f"--workdir={folder}", *more], **environment)

    failed = start(run, **faults)
    assert failed.returncode in (0, 2), failed.stderr
    lines = failed.stderr.splitlines()
    assert len(lines) == (failed.returncode == 2), failed.stderr
    assert all(line.startswith("error: ") for line in lines)
    assert start(run, "--resume").returncode == start(other).returncode == 0
    assert_same_run(run, other)
