"""Validation in the binaries: which checkpoint is kept, when a run stops, and its messages."""

import json
import shutil
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import aevb
from aevb.checkpoints import Checkpoints, RunError
from aevb.data import load
from aevb.data.binarization import binarize_once
from aevb.manifests import MANIFEST_FILE
from tests.processes import assert_one_line_error, experiment, metrics, start, wait_for, without_seconds
from tests.test_reliability import save

# A hundred digits are memorized: the bound on others rises and then falls.
OVERFITS = (
    *("--latent_dim=10", "--hidden_dim=100", "--num_train_images=100", "--num_valid_images=300", "--batch_size=20"),
    *("--optimizer=rmsprop", "--learning_rate=0.01", "--nomap_prior", "--binarization=threshold"),
    *("--num_epochs=400", "--eval_every=10", "--patience=4"),
)


@pytest.fixture(scope="module")
def stopped(data_dir, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("validation") / "run"
    done = experiment("digits", f"--data_dir={data_dir}", *OVERFITS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "best by validation after" in done.stdout
    assert "stopped early at" in done.stdout
    return workdir


def test_a_run_stops_early_and_keeps_its_best(stopped):
    rows = metrics(stopped)
    bounds = [float(row["valid_elbo"]) for row in rows]
    best = int(np.argmax(bounds))
    assert best == len(rows) - 1 - 4
    assert int(rows[-1]["epoch"]) < 400
    summary = json.loads((stopped / "summary.json").read_text())
    assert summary["stopped_early"]
    assert summary["best_epoch"] == int(rows[best]["epoch"])
    assert summary["best_valid_bound"] == bounds[best]
    assert summary["best_test_elbo"] == float(rows[best]["test_elbo"])
    assert summary["num_epochs"] == int(rows[-1]["epoch"])
    step = 5 * summary["best_epoch"]
    assert sorted(int(path.name) for path in (stopped / "checkpoints").iterdir())[0] == step


def test_the_best_is_loaded_by_that_name(stopped, data_dir):
    summary = json.loads((stopped / "summary.json").read_text())
    model, best = aevb.load_run(stopped, "best")
    _, at_step = aevb.load_run(stopped, 5 * summary["best_epoch"])
    _, last = aevb.load_run(stopped)
    bias = lambda params: params["decoder"]["Dense_0"]["bias"]
    np.testing.assert_array_equal(bias(best), bias(at_step))
    assert np.any(bias(best) != bias(last))
    # The held-out images are those of the seed, and their bound is the recorded one.
    _, valid = load("digits", "train", data_dir).split_off(300)
    xs = binarize_once(valid.pixels(), "threshold")
    bound = aevb.evaluate(best, jax.random.key(5), xs, model, aevb.Estimator(num_samples=50)).elbo
    # The noise of one draw is a tenth of a nat here, and the highest of a dozen bounds was chosen. For training images,
    # the bound is 2 nats higher.
    assert bound == pytest.approx(summary["best_valid_bound"], abs=0.5)
    assert bound < summary["train_elbo"] - 1
    with pytest.raises(ValueError, match='which must be "best", "last" or the step of a checkpoint'):
        aevb.load_run(stopped, "bets")  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match="which="):
        aevb.load_run(stopped, step=5 * summary["best_epoch"])


def test_a_stopped_run_is_finished_until_more_patience_is_asked_for(stopped, data_dir, tmp_path):
    stopped = shutil.copytree(stopped, tmp_path / "run")
    again = experiment("digits", f"--data_dir={data_dir}", *OVERFITS, f"--workdir={stopped}", "--resume")
    assert again.returncode == 0, again.stderr
    assert "samples  train" not in again.stdout
    rows = metrics(stopped)
    patient = ("--patience=6", f"--workdir={stopped}", "--resume")
    longer = experiment("digits", f"--data_dir={data_dir}", *OVERFITS, *patient)
    assert longer.returncode == 0, longer.stderr
    found = metrics(stopped)
    assert len(found) >= len(rows) + 2
    assert found[: len(rows)] == rows
    best = int(np.argmax([float(row["valid_elbo"]) for row in found]))
    assert best == len(found) - 1 - 6


@pytest.mark.slow
def test_killed_it_stops_where_it_would_have(data_dir, tmp_path):
    arguments = ["digits", f"--data_dir={data_dir}", *OVERFITS, f"--workdir={tmp_path / 'run'}"]
    process = start([sys.executable, "-m", "experiments.digits", *arguments[1:]])
    wait_for(tmp_path / "run" / "checkpoints" / "100", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = experiment(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    whole = experiment(*arguments[:-1], f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    one, other = (without_seconds(metrics(tmp_path / name)) for name in ("run", "whole"))
    assert one == other


def test_checkpoints_know_their_validation_bound_and_no_test_bound(stopped):
    """This prevents choosing by test images."""
    manifests = {
        int(path.parent.name): json.loads(path.read_text()) for path in stopped.glob(f"checkpoints/*/{MANIFEST_FILE}")
    }
    rows = {5 * int(row["epoch"]): row for row in metrics(stopped)}
    for step, manifest in manifests.items():
        assert manifest["valid_bound"] == float(rows[step]["valid_elbo"])
        assert "test_elbo" not in manifest


def test_marginal_likelihoods_are_of_the_images_kept_aside(stopped, data_dir):
    few = ("--methods=is", "--num_samples=20", "--num_datapoints=10", f"--data_dir={data_dir}", f"--run={stopped}")
    done = experiment("marginal_likelihood", *few, "--split=valid", "--checkpoint=best")
    assert done.returncode == 0, done.stderr
    assert_one_line_error(
        experiment("marginal_likelihood", *few, "--checkpoint=bets"), "--checkpoint takes latest, best or a step"
    )


def test_without_validation_there_is_no_best(data_dir, tmp_path):
    arguments = (f"--data_dir={data_dir}", "--latent_dim=2", "--num_epochs=2", f"--workdir={tmp_path / 'run'}")
    assert_one_line_error(experiment("digits", *arguments, "--patience=2"), "hold some out with --num_valid_images")
    assert_one_line_error(experiment("digits", *arguments, "--num_valid_images=1437"), "leave none to train on")
    assert not (tmp_path / "run").exists()
    assert experiment("digits", *arguments, "--hidden_dim=10").returncode == 0
    with pytest.raises(RunError, match="no best checkpoint: the run had no validation data"):
        aevb.load_run(tmp_path / "run", "best")
    assert "valid_elbo" not in metrics(tmp_path / "run")[0]


def test_the_best_of_an_older_version_is_kept(tmp_path):
    """It was chosen by the test bound, which is no longer used, but it may be the only one left."""
    save(tmp_path, 10, 20)
    for step in (10, 20):
        path = tmp_path / str(step) / MANIFEST_FILE
        manifest = json.loads(path.read_text())
        manifest["test_elbo"] = manifest.pop("valid_bound")
        path.write_text(json.dumps(manifest))
    save(tmp_path, 30, 40, 50, 60, bounds=dict.fromkeys((30, 40, 50, 60), float("nan")))
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps() == [10, 20, 40, 50, 60]
    assert checkpoints.best_step() is None
    checkpoints.close()
