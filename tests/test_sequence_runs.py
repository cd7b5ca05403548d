"""Sequences in the experiments: `experiments.sequences` on a user's own data, killed, resumed, refused."""

import functools
import json
import sys
from pathlib import Path

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb.data import Dataset, Splits, load_own
from aevb.training import Evaluation
from experiments import conditions, config_files, configs, defaults
from experiments.optimizers import make_optimizer
from experiments.reports import midi
from experiments.reports.per_step import closing_figures, mean_lengths, per_step
from experiments.reports.progress import ProgressLines
from experiments.runs.program import programs_of
from tests.processes import assert_one_line_error, assert_same_run, experiment, kill, metrics, rows_written, run, start

NUM_SEQUENCES, LENGTH, NUM_VALUES = 50, 9, 2
NETWORKS = ("--latent_dim=2", "--emission_dim=6", "--transition_dim=6", "--rnn_dim=6")
TRAINING = (
    "--batch_size=10",
    "--num_epochs=40",
    "--eval_every=4",
    "--num_valid_images=5",
    "--kl_warm_up=5",
    "--length_buckets=2",
)


def write_sequences(path: Path) -> Path:
    """Write noisy waves of 3 to 9 steps with a few missing values."""
    rng = np.random.RandomState(0)
    phases = rng.rand(NUM_SEQUENCES, 1) * 6 + 0.7 * np.arange(LENGTH)
    values = np.stack([np.sin(phases), np.cos(phases)], axis=-1) + 0.1 * rng.randn(NUM_SEQUENCES, LENGTH, NUM_VALUES)
    values[rng.rand(*values.shape) < 0.05] = np.nan
    np.savez(path, values=values.astype(np.float32), lengths=rng.randint(3, LENGTH + 1, NUM_SEQUENCES))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_sequences(tmp_path_factory.mktemp("data") / "waves.npz")


def command(data: Path, workdir: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "experiments.sequences", f"--data={data}", f"--workdir={workdir}"),
        *(*NETWORKS, *TRAINING, *more),
    ]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = run(command(data, workdir))
    assert done.returncode == 0, done.stderr
    assert "likelihood gaussian, because not all values are 0 or 1" in done.stdout
    assert " sequences/s" in done.stdout
    assert "--methods=is,particle" in done.stdout
    return workdir


def test_a_run_on_own_sequences(data, finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["dataset"], summary["model"], summary["likelihood"]) == ("waves", "deep_markov", "gaussian")
    mean_length = np.mean(load_own(data).test.others["lengths"])
    assert summary["best_test_elbo_per_step"] == pytest.approx(summary["best_test_elbo"] / mean_length)
    assert summary["best_test_elbo"] > float(metrics(finished)[0]["test_elbo"])
    figures = ["bound_by_step", "lower_bounds", "reconstruction_and_kl", "reconstructions", "samples"]
    assert sorted(path.stem for path in (finished / "figures").glob("*.png")) == figures
    model, params = aevb.load_run(finished, "best")
    assert aevb.posterior.sample(params, jax.random.key(0), 3, model).shape == (3, LENGTH, NUM_VALUES)


def test_a_run_given_labels(data, tmp_path):
    """Errors, samples per class, the bound by step and nats per step are those of p(x | label)."""
    with np.load(data) as arrays:
        labels = (np.nan_to_num(arrays["values"][:, 0, 0]) > 0).astype(np.int64)
        np.savez(tmp_path / "labelled.npz", labels=labels, **arrays)
    workdir = tmp_path / "run"
    more = ("--model=conditional_deep_markov", "--condition=label", "--num_epochs=4")
    done = run(command(tmp_path / "labelled.npz", workdir, *more))
    assert done.returncode == 0, done.stderr
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["model"], summary["condition"]) == ("conditional_deep_markov", "label")
    assert 0 <= summary["test_error"] <= 1
    test = load_own(tmp_path / "labelled.npz").test
    model, params = aevb.load_run(workdir)
    found = closing_figures(params, test, model, "analytic", 0, "last", "label")
    by_hand = [
        aevb.elbo(params, jax.random.fold_in(jax.random.key(0), row), aevb.Given(x, label), model, num_samples=10)
        for row, (x, label) in enumerate(zip(test.sequences(), test.classes(), strict=True))
    ]
    assert found["elbo_over_steps"] == pytest.approx(float(np.sum(by_hand)) / found["num_steps"], rel=1e-4)
    figures = ["bound_by_step", "lower_bounds", "reconstruction_and_kl", "reconstructions", "samples"]
    assert set(figures) <= {path.stem for path in (workdir / "figures").iterdir()}


def test_killed_and_resumed(data, finished, tmp_path):
    """After SIGKILL in training, the run equals one that was not killed, bit for bit.

    Its learning rate decays over its length.
    """
    process = start(command(data, workdir := tmp_path / "killed", "--nodraw_pictures"))
    while rows_written(workdir) < 400 and process.poll() is None:
        pass
    kill(process)
    assert not (workdir / "summary.json").exists()
    done = run(command(data, workdir, "--nodraw_pictures", "--resume"))
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, finished)
    longer = run(command(data, workdir, "--num_epochs=50", "--resume"))
    assert_one_line_error(longer, "holds a run with another configuration (num_epochs is 40 there, 50 here)")


def test_estimates_of_log_p_per_step(data, finished, tmp_path):
    """The table and the file have nats over steps, and the mean over sequences, for every method."""
    done = experiment(
        *("marginal_likelihood", f"--run={finished}", "--methods=is,particle", "--num_datapoints=0"),
        *("--num_samples=50", "--num_particles=50", f"--output={tmp_path / 'found.json'}"),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    lengths = load_own(data).test.others["lengths"]
    assert found["lengths"] == lengths.tolist()
    assert f"the sum over sequences / their {lengths.sum()} steps" in done.stdout
    for name, row in found["estimates"].items():
        values = np.array(row["log_marginals"])
        assert row["per_step"] == pytest.approx(values.sum() / lengths.sum()), name
        assert row["mean_of_sequences"] == pytest.approx(np.mean(values / lengths)), name
        # Bounds are below log p by far more than the noise of either.
        assert row["per_step"] > found["elbo_per_step"] - 0.05, name
        assert f"{row['per_step']:.3f}" in done.stdout
    assert f"{found['elbo_per_step']:.3f}" in done.stdout


# Figures per step


def tiny_splits(dtype: type = np.float32) -> Splits:
    rng = np.random.RandomState(1)
    values, lengths = (rng.rand(12, 5, 3) > 0.5).astype(dtype), np.array([5, 2] * 6)
    parts = {"train": slice(0, 6), "valid": slice(6, 8), "test": slice(8, 12)}
    return Splits(
        *(
            Dataset("tiny", name, values[rows], None, 1, "none", main="values", others={"lengths": lengths[rows]})
            for name, rows in parts.items()
        )
    )


def test_bounds_per_step_are_sums_over_sequences_by_sums_of_lengths():
    lengths = mean_lengths(tiny_splits())
    assert lengths == {"train": 3.5, "valid": 3.5, "test": 3.5}
    row = Evaluation(1, 12, -42.0, -28.0, -21.0, 7.0, None, 1.0, valid_elbo=-14.0)
    expected = {"train_elbo_per_step": -12.0, "valid_elbo_per_step": -4.0, "test_elbo_per_step": -8.0}
    expected |= {"test_reconstruction_per_step": -6.0, "test_kl_per_step": 2.0}
    assert per_step(row, lengths) == pytest.approx(expected)
    assert per_step(row, {}) == {}


def test_closing_figures_against_sequence_by_sequence():
    """Both conventions are compared with the bound of each sequence alone, cut at its end."""
    test = tiny_splits().test
    model = aevb.models.deep_markov_vae((5, 3), 2, 4, 4, 4)
    params = model.init(jax.random.key(0))
    found = closing_figures(params, test, model, "analytic", seed=3, state="last")
    elbo, bounds = jax.jit(functools.partial(aevb.elbo, num_samples=10)), []
    for number, (values, length) in enumerate(zip(test.images, test.others["lengths"], strict=True)):
        cut = aevb.models.of_length(model, int(length))
        key = jax.random.fold_in(jax.random.key(3), number)
        bounds.append(float(elbo(params, key, values[:length].astype(np.float32), cut)))
    lengths = test.others["lengths"]
    assert (found["num_sequences"], found["num_steps"]) == (4, lengths.sum())
    # A shorter path may draw different noise: ten draws of an untrained model's bound agree to a few hundredths.
    assert found["elbo_over_steps"] == pytest.approx(sum(bounds) / lengths.sum(), abs=0.1)
    assert found["elbo_mean_of_sequences"] == pytest.approx(np.mean(bounds / lengths), abs=0.1)


def test_progress_says_nats_per_step(capsys):
    lines = ProgressLines("waves", 12, 0, {"train": 4.0, "test": 5.0})
    lines.report(Evaluation(1, 12, -34.0, -22.0, -16.5, 5.5, None, 1.0))
    assert "train -34.00  test -22.00 nats  per step train -8.500 test -4.400" in capsys.readouterr().out


# Invalid combinations


def test_families_and_data_that_do_not_go_together():
    train, config = tiny_splits().train, defaults.of("sequences")
    assert configs.with_data(config, train).model.arguments["data_shape"] == [5, 3]
    with pytest.raises(ValueError, match=r"tiny holds sequences, which need a model of them \(deep_markov"):
        configs.with_data(configs.change(config, model="mlp"), train)
    images = Dataset("faces", "train", np.zeros((4, 2, 2), np.uint8), None, 255, "none")
    with pytest.raises(ValueError, match="which faces does not hold"):
        conditions.shape_for("deep_markov", images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sequences"], "--data must name what to train on: a .npz file with values [N, T, D] and lengths [N]"),
        (["sequences", "--data={}", "--stream", "--length_buckets=2"], "add --length_buckets=1"),
        (["images", "--data={}"], "waves holds sequences, which need a model of them"),
    ],
)
def test_mistakes_are_one_line(data, tmp_path, arguments, message):
    done = experiment(*(each.format(data) for each in arguments), f"--workdir={tmp_path / 'run'}")
    assert_one_line_error(done, message)
    assert not (tmp_path / "run").exists()


# Learning rates


def test_a_cosine_falls_to_a_twentieth_and_stays():
    optimizer = make_optimizer("sgd", 0.1, "cosine", num_steps=10)
    state, rates = optimizer.init(0.0), []
    for _ in range(12):
        step, state = optimizer.update(1.0, state)
        rates.append(-float(step))
    expected = 0.1 * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * np.minimum(np.arange(12), 10) / 10)))
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    optimizer = make_optimizer("sgd", 1.0, clip_norm=1.0)
    gradients = {"a": np.float32(3.0), "b": np.float32(4.0)}
    step, _ = optimizer.update(gradients, optimizer.init(gradients))
    assert jax.tree.map(float, step) == pytest.approx({"a": -0.6, "b": -0.8})


def test_weight_decay_is_the_gradient_of_a_prior_and_is_not_clipped():
    params = {"a": np.float32(3.0), "b": np.float32(-4.0)}
    gradients = {"a": np.float32(30.0), "b": np.float32(40.0)}
    decay, num_datapoints = 0.01, 50
    optimizer = make_optimizer("sgd", 1.0, clip_norm=1.0, weight_decay=decay)
    step, _ = optimizer.update(gradients, optimizer.init(params), params)
    scale = (1 / (num_datapoints * decay)) ** 0.5
    log_prior = lambda value: dist.Normal(0, scale).log_prob(value) / num_datapoints
    expected = {"a": -0.6 + jax.grad(log_prior)(3.0), "b": -0.8 + jax.grad(log_prior)(-4.0)}
    assert jax.tree.map(float, step) == pytest.approx(jax.tree.map(float, expected))
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weight_decay must be non-negative and finite"):
            make_optimizer("sgd", 1.0, weight_decay=value)


def test_without_weight_decay_the_state_is_that_of_earlier_versions():
    structure = lambda **options: jax.tree.structure(make_optimizer("adam", 1e-3, **options).init(np.zeros(2)))
    assert structure(weight_decay=0.0) == structure()
    assert structure(clip_norm=1.0, weight_decay=0.0) == structure(clip_norm=1.0)


def test_what_trains_as_one_program():
    """Learning rates share a program under a cosine, which scales updates, but not if the schedule sets the rate."""
    config = defaults.of("sequences")
    rates = [configs.change(config, learning_rate=rate) for rate in (1e-3, 2e-3)]
    assert programs_of(rates) == [[0, 1]]
    assert programs_of([configs.change(each, schedule="burda") for each in rates]) == [[0], [1]]


def test_how_long_a_cosine_is_tells_runs_apart():
    config = defaults.of("sequences")
    longer = configs.change(config, num_epochs=config.training.num_epochs + 1)
    assert config_files.differences(config, longer) == ["num_epochs is 800 there, 801 here"]
    constant, longer = (configs.change(each, schedule="constant") for each in (config, longer))
    assert config_files.differences(constant, longer) == []


# MIDI


def test_what_a_midi_file_holds(tmp_path):
    mido = pytest.importorskip("mido")
    roll = (np.random.RandomState(0).rand(12, 5) > 0.5).astype(np.float32)
    roll[-1] = np.nan  # silence
    midi.write_all(tmp_path, {"sample": roll}, 60)
    file = mido.MidiFile(tmp_path / "sample.mid")
    found, tick, sounding = np.zeros((12, 5)), 0, set()
    for message in file.tracks[0]:
        end = tick + message.time
        for step in range(tick // file.ticks_per_beat, end // file.ticks_per_beat):
            found[step, sorted(sounding)] = 1
        tick = end
        if message.type == "note_on":
            sounding.add(message.note - 60)
        elif message.type == "note_off":
            sounding.remove(message.note - 60)
    np.testing.assert_array_equal(found, np.nan_to_num(roll))


def test_without_mido_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mido", None)
    midi.write_all(tmp_path / "midi", {"sample": np.zeros((2, 88))}, 21)
    assert capsys.readouterr().out == (
        "no MIDI files of the samples: they need mido (pip install mido, or aevb[midi])\n"
    )
    assert not (tmp_path / "midi").exists()
