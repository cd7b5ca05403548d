"""Sweeps, as a person runs them: over processes, over shards, as one program."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from tests.processes import assert_one_line_error, experiment, metrics
from tests.test_experiments import size_of_png

EPOCH = 1700
SWEEP = (
    "--dataset=frey_face",
    "--latent_dims=2,3",
    "--learning_rates=0.01,100000",  # the second diverges: a Gaussian density has no upper bound
    f"--num_train_samples={2 * EPOCH}",
)


@pytest.fixture(scope="module")
def sources(real_data, data_dir) -> tuple[str, ...]:
    return f"--source_dir={real_data}", f"--data_dir={data_dir}"


@pytest.fixture(scope="module")
def swept(sources, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("sweep")
    done = experiment("sweep", *SWEEP, *sources, f"--workdir={workdir}", "--num_processes=2")
    assert done.returncode == 0, done.stderr
    return workdir


def table(workdir: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (workdir / "sweep.csv").open() as file:
        return {(row["latent"], row["step size"]): row for row in csv.DictReader(file)}


def run_folder(workdir: Path, latent: str) -> Path:
    return workdir / f"frey_face/train_all/latent_{latent},hidden_200/aevb/learning_rate_0.01,seed_0"


def test_the_table_has_every_run_and_says_which_diverged(swept):
    rows = table(swept)
    assert list(rows) == [("2", "0.01"), ("2", "100000.0"), ("3", "0.01"), ("3", "100000.0")]
    for (latent, rate), row in rows.items():
        assert row["state"] == ("finished" if rate == "0.01" else "diverged")
        assert bool(row["why"]) == (rate != "0.01")
        assert rate == "0.01" or re.search(
            r"NaN or infinite at step \d+, on a minibatch of 100 data|because of", row["why"]
        )
        if rate == "0.01":
            end = metrics(run_folder(swept, latent))[-1]
            assert float(row["test"]) == pytest.approx(float(end["test_elbo"]), abs=1e-4)
            assert row["samples"] == str(2 * EPOCH)
    assert size_of_png(swept / "sweep.png") > (300, 200)


def bounds(workdir: Path) -> dict[str, np.ndarray]:
    columns = ("epoch", "num_train_samples", "train_elbo", "test_elbo", "test_kl", "active_units")
    return {
        latent: np.array([[float(row[name]) for name in columns] for row in metrics(run_folder(workdir, latent))])
        for latent in ("2", "3")
    }


def assert_same_run(found: np.ndarray, expected: np.ndarray):
    """To rounding for an epoch. Adagrad's first step is a gradient's sign, so that rounding near 0 soon matters.

    The divergence is one of the bound's two terms, and rounds as they do; how many units pass a threshold is no matter
    of rounding once the runs have parted.
    """
    np.testing.assert_array_equal(found[:, :2], expected[:, :2])
    np.testing.assert_array_equal(found[:2, 5], expected[:2, 5])
    nats = slice(2, 5)
    np.testing.assert_allclose(found[:2, nats], expected[:2, nats], rtol=0, atol=1e-4 * np.abs(expected[0, 2]))
    np.testing.assert_allclose(found[2:, nats], expected[2:, nats], rtol=0.15)


@pytest.mark.slow
def test_shards_are_the_whole(swept, sources, tmp_path):
    for shard in ("0/2", "1/2"):
        arguments = (*SWEEP, *sources, f"--workdir={tmp_path}", f"--shard={shard}", "--num_processes=1")
        done = experiment("sweep", *arguments)
        assert done.returncode == 0, done.stderr
        assert f"shard {shard[0]} of 2 is done" in done.stdout
        assert not (tmp_path / "sweep.csv").exists()
    done = experiment("sweep", *SWEEP, *sources, f"--workdir={tmp_path}", "--num_processes=1")
    assert done.returncode == 0, done.stderr
    for latent, rows in bounds(tmp_path).items():
        assert_same_run(rows, bounds(swept)[latent])


def test_one_program_for_all_gives_the_same_runs(swept, sources, tmp_path):
    done = experiment("sweep", *SWEEP, *sources, f"--workdir={tmp_path}", "--together", "--num_processes=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" diverges: ") == 2
    for latent, rows in bounds(tmp_path).items():
        assert_same_run(rows, bounds(swept)[latent])
    assert [row["state"] for row in table(tmp_path).values()] == ["finished", "diverged"] * 2
    # As if each had been trained alone: --resume finds nothing to do, a longer budget goes on.
    before = (run_folder(tmp_path, "2") / "metrics.csv").read_text()
    longer = [flag for flag in SWEEP if "samples" not in flag and "rates" not in flag]
    longer += [f"--num_train_samples={3 * EPOCH}", "--learning_rates=0.01", "--notogether", "--num_processes=1"]
    done = experiment("sweep", *longer, *sources, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    after = (run_folder(tmp_path, "2") / "metrics.csv").read_text()
    assert after.startswith(before)
    assert [row["epoch"] for row in metrics(run_folder(tmp_path, "2"))][-2:] == ["2", "3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard=2/2"], "--shard takes i/n with i from 0 to n - 1, got 2/2"),
        (["--learning_rates=0.1,x"], "--learning_rates takes numbers separated by commas, got 0.1,x"),
        (["--learning_rates=0.1,-1"], "--learning_rates must be positive"),
        (["--latent_dims=0"], "--latent_dims must be positive"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path):
    assert_one_line_error(experiment("sweep", f"--workdir={tmp_path / 'sweep'}", *arguments), message)
