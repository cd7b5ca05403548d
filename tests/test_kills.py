"""SIGKILL at random moments to commands beyond single runs on one device: sweeps, figures, eight devices.

`test_reliability.py` kills single runs, `test_streaming.py` streams.
"""

import sys
from pathlib import Path

import pytest

from tests.processes import assert_one_line_error, assert_same_run, lives, read_csv, rows_written, run, without_seconds

NUM_KILLS = 5
EPOCH = 1700  # for Frey Face


@pytest.fixture(scope="module")
def sources(real_data, data_dir) -> tuple[str, ...]:
    return f"--source_dir={real_data}", f"--data_dir={data_dir}"


def run_folders(workdir: Path) -> list[Path]:
    return sorted(path.parent.relative_to(workdir) for path in workdir.rglob("metrics.csv"))


def assert_killed_and_whole_are_the_same(command: list[str], folder: Path, table: str, num_runs: int) -> None:
    """Kill a command and its children repeatedly, let it end, and compare all its runs and its table."""
    whole, killed = folder / "whole", folder / "killed"
    done = run([*command, f"--workdir={whole}"])
    assert done.returncode == 0, done.stderr
    unfinished = 0
    for _ in lives([*command, f"--workdir={killed}"], NUM_KILLS, lambda: rows_written(killed)):
        assert not (killed / table).exists()
        unfinished += any(not (killed / path / "summary.json").exists() for path in run_folders(killed))
    assert unfinished >= NUM_KILLS - 1  # not only between runs
    done = run([*command, f"--workdir={killed}"])
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert len(run_folders(whole)) == num_runs
    assert run_folders(killed) == run_folders(whole)
    for path in run_folders(whole):
        assert_same_run(killed / path, whole / path)
    assert without_seconds(read_csv(killed / table)) == without_seconds(read_csv(whole / table))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--num_processes=2", "--together"])
def test_a_sweep(sources, tmp_path, how):
    """It runs in child processes, and as one program, where a kill between two members' records leaves one ahead."""
    command = [
        *(sys.executable, "-m", "experiments.sweep", "--dataset=frey_face", "--latent_dims=2,3"),
        *("--learning_rates=0.01,0.02", f"--num_train_samples={100 * EPOCH}", how, *sources),
    ]
    assert_killed_and_whole_are_the_same(command, tmp_path, "sweep.csv", 4)


@pytest.mark.slow
def test_a_figure(sources, tmp_path):
    """The figure includes trials of learning rates, the best of which continues."""
    command = [
        *(sys.executable, "-m", "experiments.figure2", "--latent_dim_mnist=", "--latent_dim_frey_face=2"),
        *("--step_sizes=0.01,0.02", f"--num_trial_samples={20 * EPOCH}", f"--num_train_samples={60 * EPOCH}", *sources),
    ]
    assert_killed_and_whole_are_the_same(command, tmp_path, "figure2.csv", 4)


EIGHT_DEVICES = """
import runpy
import jax
from aevb import sharding

jax.set_mesh(sharding.make_mesh())
runpy.run_module("experiments.digits", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_run_on_eight_devices(data_dir, tmp_path):
    devices = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    program = [sys.executable, "-c", EIGHT_DEVICES, f"--data_dir={data_dir}", "--latent_dim=2", "--hidden_dim=8"]
    undivided = run([*program, f"--workdir={tmp_path / 'none'}", "--batch_size=100"], **devices)
    assert_one_line_error(undivided, "batch_size must be divisible by 8, the number of devices per minibatch, got 100")
    program += ["--batch_size=96", "--num_epochs=100", "--eval_every=1", "--resume"]
    whole = run([*program, f"--workdir={tmp_path / 'whole'}"], **devices)
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    for _ in lives([*program, f"--workdir={killed}"], NUM_KILLS, lambda: rows_written(killed), **devices):
        assert not (killed / "summary.json").exists()
    done = run([*program, f"--workdir={killed}"], **devices)
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_run(killed, tmp_path / "whole")
