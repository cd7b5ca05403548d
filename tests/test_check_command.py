"""`python -m experiments.check` as users run it."""

import shutil
import sys

import pytest

from experiments.runs.folder import RunFolder
from tests.processes import assert_one_line_error, assert_same_run, experiment, kill, start, wait_for
from tests.test_check import CONFIG, change, change_digit, damage_checkpoint


@pytest.mark.slow
def test_the_command(data_dir, tmp_path):
    """Real processes check its exit statuses, its table, a folder of runs, and the lock."""
    flags = (
        "--latent_dim=2",
        "--hidden_dim=20",
        "--num_epochs=2",
        "--eval_every=2",
        "--nodraw_pictures",
        f"--data_dir={data_dir}",
    )
    for seed in (0, 1):
        done = experiment("digits", *flags, f"--seed={seed}", f"--workdir={tmp_path / 'runs' / str(seed)}")
        assert done.returncode == 0, done.stderr
    check = lambda *more: experiment("check", f"--run={tmp_path / 'runs'}", f"--data_dir={data_dir}", *more)
    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()[1:4]] == [
        ["run", "what", "state", "why"],
        ["0", "config.json", "ok"],
        ["0", "checkpoints/0", "ok"],
    ]
    change_digit(tmp_path / "runs" / "1", 2)
    done = check()
    assert (done.returncode, done.stderr) == (1, "")
    assert "1    metrics.csv     damaged  row 2: its checksum does not match\n" in done.stdout
    folder = RunFolder(tmp_path / "runs" / "0", CONFIG)
    folder.lock()
    assert_one_line_error(check(), "another process is writing to it")
    folder.unlock()
    for status in ((0, "1: metrics.csv: rows kept: 1, evaluated again from their checkpoints: 1,"), (0, "")):
        done = check("--repair")
        assert (done.returncode, done.stderr) == (status[0], "")
        assert status[1] in done.stdout
    for bad in ("--run=", f"--run={tmp_path / 'none'}", f"--run={tmp_path / 'runs' / '0' / 'checkpoints' / '0'}"):
        done = experiment("check", bad)
        assert done.returncode == 2
        assert_one_line_error(done, "--run")


@pytest.mark.slow
def test_a_repair_ended_by_sigkill_is_run_again(data_dir, tmp_path):
    """Killed once each of the things that it moves aside has been moved, and repaired again: the run as it was."""
    flags = ("--latent_dim=2", "--hidden_dim=20", "--num_epochs=4", "--eval_every=2", "--nodraw_pictures")
    done = experiment("digits", *flags, f"--data_dir={data_dir}", f"--workdir={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path / "whole", damaged)
    steps = sorted(int(path.name) for path in (damaged / "checkpoints").iterdir())
    damage_checkpoint(damaged, steps[1])
    change_digit(damaged, 3)
    change(damaged / "summary.json", '"num_parameters": ', '"num_parameters": 1')
    for number, moved in enumerate((f"checkpoints/{steps[1]}", "metrics.csv", "summary.json")):
        run = shutil.copytree(damaged, tmp_path / str(number))
        command = [sys.executable, "-m", "experiments.check", f"--run={run}", f"--data_dir={data_dir}", "--repair"]
        process = start(command)
        wait_for(run / "damaged" / moved, process)
        kill(process)
        done = experiment("check", *command[3:])
        assert (done.returncode, done.stderr) == (0, "")
        assert_same_run(run, tmp_path / "whole")
        assert experiment("check", f"--run={run}").returncode == 0
