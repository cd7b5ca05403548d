"""The binaries as users run them: real processes, observed from outside."""

import json
import re
import struct
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb.checkpoints import RunError
from aevb.training import Evaluation
from experiments.configs import Config
from experiments.runs.folder import RunFolder
from tests.processes import assert_one_line_error, experiment, metrics, without_seconds

SMALL = ("--num_epochs=4", "--eval_every=2", "--hidden_dim=16")
SUMMARY = {
    *("dataset", "binarization", "latent_dim", "seed", "num_train_samples", "train_elbo", "test_elbo"),
    *("test_reconstruction", "test_kl", "train_seconds", "images_per_second", "jax_version", "device"),
}


def digits(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess:
    return experiment("digits", f"--data_dir={data_dir}", *SMALL, *arguments)


def size_of_png(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "digits"
    done = digits(data_dir, f"--workdir={workdir}", "--latent_dim=2")
    assert done.returncode == 0, done.stderr
    assert str(workdir) in done.stdout
    return workdir


def test_a_run_folder_holds_everything(finished):
    rows = metrics(finished)
    assert list(rows[0]) == [
        *("epoch", "num_train_samples", "train_elbo", "test_elbo", "test_reconstruction", "test_kl", "active_units"),
        *("seconds", "sha256"),
    ]
    assert [row["epoch"] for row in rows] == ["0", "2", "4"]
    assert [row["num_train_samples"] for row in rows] == ["0", "2800", "5600"]
    assert float(rows[-1]["test_elbo"]) > float(rows[0]["test_elbo"])
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) >= SUMMARY
    assert summary["test_elbo"] == float(rows[-1]["test_elbo"])
    assert summary["binarization"] == "grey"
    assert any(finished.glob("events.out.tfevents.*"))
    assert json.loads((finished / "config.json").read_text())["training"]["seed"] == 0
    names = ["latent_space", "lower_bounds", "manifold", "reconstruction_and_kl", "reconstructions", "samples"]
    assert sorted(path.stem for path in (finished / "figures").glob("*.png")) == names
    for path in (finished / "figures").glob("*.png"):
        width, height = size_of_png(path)
        assert width > 400
        assert height > 200


def test_load_run_gives_back_the_trained_model(finished, data_dir):
    model, params = aevb.load_run(finished)
    test = aevb.data.load("digits", "test", data_dir).pixels()
    bound = aevb.evaluate(params, jax.random.key(0), test, model, aevb.Estimator(10))
    assert bound.elbo == pytest.approx(float(metrics(finished)[-1]["test_elbo"]), abs=0.1)
    assert np.isfinite(aevb.elbo(params, jax.random.key(0), jnp.asarray(test[0]), model))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "is not a run folder"),
        ("{", "cannot be read"),
        ('{"format_version": 99}', "written in format 99"),
        ('{"format_version": 1}', "describes no model"),
        ('{"format_version": 1, "model": {"data_shape": [4], "latent_dim": 2}}', "has no checkpoints yet"),
    ],
)
def test_load_run_says_what_is_wrong(tmp_path, contents, message):
    if contents is not None:
        (tmp_path / "config.json").write_text(contents)
    with pytest.raises(RunError, match=message):
        aevb.load_run(tmp_path)


def test_an_existing_run_is_never_overwritten(finished, data_dir):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    again = digits(data_dir, f"--workdir={finished}", "--latent_dim=2")
    assert_one_line_error(again, "holds a finished run of this configuration: pass --resume")
    other = digits(data_dir, f"--workdir={finished}", "--latent_dim=2", "--seed=1", "--resume")
    assert_one_line_error(other, "holds a run with another configuration (seed is 0 there, 1 here)")
    resumed = digits(data_dir, f"--workdir={finished}", "--latent_dim=2", "--resume")
    assert resumed.returncode == 0
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_run_cut_in_two_equals_a_whole_one(finished, data_dir, tmp_path):
    workdir = tmp_path / "cut"
    first = digits(data_dir, f"--workdir={workdir}", "--latent_dim=2", "--num_epochs=2", "--resume")
    assert first.returncode == 0, first.stderr
    # A row written after the last checkpoint, as a kill between the two leaves it.
    RunFolder(workdir, Config()).append_metrics(Evaluation(4, 5600, -1.0, -1.0, -1.0, 1.0, 2, 9.0))
    second = digits(data_dir, f"--workdir={workdir}", "--latent_dim=2", "--resume")
    assert second.returncode == 0, second.stderr
    assert without_seconds(metrics(workdir)) == without_seconds(metrics(finished))
    (_, cut), (_, whole) = aevb.load_run(workdir), aevb.load_run(finished)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), cut, whole))


def test_several_latent_sizes_and_one_figure(data_dir, tmp_path):
    done = digits(data_dir, f"--workdir={tmp_path}", "--latent_dim=3,5", "--binarization=stochastic")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "lower_bounds.png").exists()
    for latent_dim in (3, 5):
        assert json.loads((tmp_path / f"latent_{latent_dim}" / "summary.json").read_text())["latent_dim"] == latent_dim
        assert not (tmp_path / f"latent_{latent_dim}" / "figures" / "manifold.png").exists()
    assert "stochastic" in done.stdout


@pytest.mark.parametrize(
    ("posterior", "algorithm"),
    [("full_covariance", "aevb"), pytest.param("flow", "wake_sleep", marks=pytest.mark.slow)],
)
def test_other_posteriors_need_the_sampled_kl(data_dir, tmp_path, posterior, algorithm):
    arguments = (
        *(f"--workdir={tmp_path / 'run'}", "--latent_dim=2"),
        *(f"--posterior={posterior}", f"--algorithm={algorithm}"),
    )
    assert_one_line_error(digits(data_dir, *arguments), 'use kl="sampled"')
    assert not (tmp_path / "run").exists()
    done = digits(data_dir, *arguments, "--kl=sampled")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "figures" / "latent_space.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latent_dims=3"], "Unknown command line flag 'latent_dims'"),
        (["--latent_dim=0"], "latent_dim must be at least 1, got 0"),
        (["--latent_dim=two"], "--latent_dim takes integers separated by commas"),
        (["--latent_dim=3,3"], "--latent_dim names a value twice: 3,3"),
        (["--learning_rate=-0.1"], "learning_rate must be positive and finite, got -0.1"),
        (["--learning_rate=nan"], "learning_rate must be positive and finite, got nan"),
        (["--batch_size=2000"], "batch_size must be between 1 and the size of the data set, 1437, got 2000"),
        (["--num_samples=0"], "num_samples must be at least 1, got 0"),
        (["--optimizer=lion"], "<adagrad|adam|rmsprop|sgd>"),
        (["--compute_dtype=int7"], "int7"),
        (["--split_rule=odd"], "split_rule of digits must be one of ('random',), got 'odd'"),
        (["twenty"], "unexpected argument 'twenty'"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(data_dir, tmp_path, arguments, message):
    workdir = tmp_path / "run"
    done = experiment("digits", f"--data_dir={data_dir}", f"--workdir={workdir}", *arguments)
    assert_one_line_error(done, message)
    assert not workdir.exists()


def test_no_network_and_no_source_dir_names_three_ways_on(tmp_path):
    """A proxy that nobody listens at simulates a missing network."""
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    done = experiment("mnist", f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}", **nowhere)
    assert_one_line_error(done, "three alternatives")
    for way in ("network", "--source_dir", "experiments.digits"):
        assert way in done.stderr
    assert not (tmp_path / "run").exists()


def test_divergence_stops_and_keeps_the_last_good_state(data_dir, tmp_path):
    """Gaussian log-variances of pixels that are always black decrease without bound."""
    workdir = tmp_path / "run"
    done = experiment(
        "digits", f"--data_dir={data_dir}", f"--workdir={workdir}", "--latent_dim=2", "--likelihood=gaussian",
        "--optimizer=sgd", "--learning_rate=1", "--num_epochs=50", "--eval_every=1",
    )  # fmt: skip
    assert_one_line_error(done, "became NaN or infinite at step ")
    assert re.search(r"step \d+, on a minibatch of 100 datapoints: \d+, .*; the last good state is in", done.stderr)
    assert (workdir / "diverged.txt").read_text().strip() in done.stderr
    assert not (workdir / "summary.json").exists()
    _, params = aevb.load_run(workdir)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(params))


def test_help_lists_the_flags():
    done = experiment("mnist", "--help")
    assert "python -m experiments.mnist --latent_dim=20" in done.stdout
    for flag in (
        *("latent_dim", "hidden_dim", "likelihood", "posterior", "optimizer", "learning_rate", "batch_size", "seed"),
        *("num_samples", "num_epochs", "binarization", "kl", "data_dir", "source_dir", "workdir", "eval_every"),
        "resume",
    ):
        assert f"--{flag}" in done.stdout or f"--[no]{flag}" in done.stdout


@pytest.mark.parametrize(("name", "least"), [("mnist", -190.0), ("frey_face", 250.0)])
def test_real_data_from_one_command(real_data, data_dir, tmp_path, name, least):
    """The first steps on real data with the paper's defaults, against a bound that a broken implementation misses."""
    num_epochs = {"mnist": 1, "frey_face": 25}[name]
    done = experiment(
        name, f"--data_dir={data_dir}", f"--source_dir={real_data / name}", f"--workdir={tmp_path / 'run'}",
        "--latent_dim=2", f"--num_epochs={num_epochs}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_elbo"] > least
    assert summary["test_kl"] > 1


def test_marginal_likelihood_of_a_run(finished, data_dir, tmp_path):
    output = tmp_path / "estimates.json"
    arguments = (f"--run={finished}", f"--data_dir={data_dir}", f"--output={output}", "--num_datapoints=7")
    small = ("--num_samples=50", "--num_hmc_samples=10", "--num_chains=2")
    done = experiment("marginal_likelihood", *arguments, *small, "--methods=is,hmc")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert len(set(result["indices"])) == 7
    assert result["indices"] != list(range(7))
    assert result["binarization"] == "grey"
    assert list(result["estimates"]) == ["is", "hmc"]
    for row in result["estimates"].values():
        assert row["mean"] == pytest.approx(np.mean(row["log_marginals"]), abs=1e-3)
        assert result["elbo"] - 1 < row["mean"] < result["elbo"] + 20
        assert f"{row['mean']:.3f}" in done.stdout
    again = experiment("marginal_likelihood", *arguments)
    assert_one_line_error(again, "exists already")
    assert json.loads(output.read_text()) == result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--run must name a run folder"),
        (("--run=nowhere",), "nowhere is not a run folder"),
        (("--run=nowhere", "--methods=is,hcm"), "got 'hcm'"),
        (("--run=nowhere", "--checkpoint=first"), "--checkpoint takes latest, best or a step, got 'first'"),
    ],
)
def test_marginal_likelihood_says_what_is_wrong(arguments, message):
    assert_one_line_error(experiment("marginal_likelihood", *arguments), message)


def test_marginal_likelihood_looks_for_its_checkpoint_and_datapoints(finished, data_dir):
    arguments = (f"--run={finished}", f"--data_dir={data_dir}")
    assert_one_line_error(experiment("marginal_likelihood", *arguments, "--checkpoint=3"), "no checkpoint 3 in")
    many = experiment("marginal_likelihood", *arguments, "--num_datapoints=100000")
    assert_one_line_error(many, "--num_datapoints=100000 is more than the")


def test_burda_schedule():
    """The learning rate is 10^-3 x 10^(-i/7) for 3^i epochs, observed by gradient descent on a slope of 1."""
    from experiments.optimizers import make_optimizer

    optimizer = make_optimizer("sgd", 1e-3, "burda", steps_per_epoch=2)
    update = jax.jit(optimizer.update)
    state, rates = optimizer.init(jnp.zeros(())), []
    for _ in range(2 * (1 + 3 + 9 + 1)):
        step, state = update(jnp.ones(()), state)
        rates.append(-float(step))
    expected = np.repeat(1e-3 * 10 ** (-np.arange(4) / 7), 2 * np.array([1, 3, 9, 1]))
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="epsilon is for adaptive optimizers, not sgd"):
        make_optimizer("sgd", 1e-3, epsilon=1e-4)
