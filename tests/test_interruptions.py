"""Ctrl-C at any moment, and lost standard output, in real processes."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.processes import metrics, start, wait_for

COMMAND = (
    sys.executable, "-m", "experiments.digits",
    "--latent_dim=2", "--hidden_dim=20", "--num_epochs=6", "--eval_every=2", "--nodraw_pictures",
)  # fmt: skip


@contextlib.contextmanager
def started(folder: Path, signal_action: str = "SIG_DFL") -> Iterator[subprocess.Popen]:
    """Start a long run, independently of how the tests' own process handles Ctrl-C, and end it in any case."""
    first = f"import os, signal, sys; signal.signal(signal.SIGINT, signal.{signal_action}); "
    first += "os.execv(sys.argv[1], sys.argv[1:])"
    epochs = 100_000 if signal_action == "SIG_DFL" else 6
    process = start([sys.executable, "-c", first, *COMMAND, f"--num_epochs={epochs}", f"--workdir={folder}"])
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("library", ["_multiarray_umath", "libjax_common", "_sparsetools"])
def test_control_c_while_importing_is_one_line(library, tmp_path):
    """The signal comes as soon as NumPy, JAX or SciPy, in the order of their imports, is loaded."""
    with started(tmp_path / "run") as process:
        while library not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("error: interrupted")
    assert len(errors.splitlines()) == 1


def test_control_c_while_training_says_how_to_go_on(tmp_path):
    with started(tmp_path / "run") as process:
        wait_for(tmp_path / "run" / "metrics.csv", process)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == (
        "error: interrupted; the same command with --resume resumes from the last checkpoint"
    )
    assert "Traceback" not in errors


@pytest.mark.parametrize("stdout", ["| true", ">&-", ">/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_lost_terminal_ends_no_run(stdout, tmp_path):
    text = f"{' '.join(COMMAND)} --workdir={tmp_path / 'run'}"
    command = f"set -o pipefail; {text} {stdout}" if stdout.startswith("|") else f"{text} {stdout}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr
    assert [row["epoch"] for row in metrics(tmp_path / "run")] == ["0", "2", "4", "6"]


def test_help_into_a_closed_pipe_is_silent():
    command = f"set -o pipefail; {sys.executable} -m experiments.digits --helpfull | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_a_process_started_in_the_background_ignores_control_c_as_its_shell_says(tmp_path):
    """As with `nohup` and shells without job control, the signal is ignored from the start and stays ignored."""
    with started(tmp_path / "run", "SIG_IGN") as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 0
