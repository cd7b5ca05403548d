"""Models given a label: the bound, the learned prior, invalid labels, and runs of the binaries."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb import Given, Stream, posterior
from aevb.data import Dataset, DatasetError
from aevb.models import conditional_vae
from experiments import configs, defaults
from experiments.runs.folder import RunFolder
from experiments.runs.run import Options, Run, train_all
from tests.comparisons import assert_same_history, assert_trees_close
from tests.oracles import kl_normal
from tests.processes import (
    assert_one_line_error,
    assert_same_run,
    experiment,
    lives,
    metrics,
    read_csv,
    rows_written,
    run,
)
from tests.runs import tiny_config, tiny_splits, train_into
from tests.test_distributed import bounds, together

KEY = jax.random.key(0)
SIZE, WIDTH, NUM_CLASSES = 20, 5, 3
XS = np.random.RandomState(0).rand(SIZE, WIDTH).astype(np.float32)
LABELS = np.arange(SIZE) % NUM_CLASSES
MODEL = conditional_vae((WIDTH,), 2, num_classes=NUM_CLASSES, hidden_dim=4)
PARAMS = MODEL.init(KEY)


def network(params: dict, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and variance that a tanh network with one hidden layer outputs, in float64."""
    first, second = (jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[f"Dense_{i}"]) for i in (0, 1))
    outputs = np.tanh(inputs @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]
    mean, log_variance = np.split(outputs, 2)
    return mean, np.exp(log_variance)


@pytest.mark.parametrize("learned_prior", [False, True])
def test_the_kl_is_to_the_prior_of_the_label(learned_prior):
    model = conditional_vae((WIDTH,), 2, num_classes=NUM_CLASSES, hidden_dim=4, learned_prior=learned_prior)
    params = jax.tree.map(lambda leaf: leaf + 0.3, model.init(KEY))  # biases too
    for label in range(NUM_CLASSES):
        one_hot = np.eye(NUM_CLASSES)[label]
        mean, variance = network(params["encoder"], np.concatenate([XS[0], one_hot]))
        prior = (np.zeros(2), np.ones(2))
        if learned_prior:
            prior = network(params["decoder"]["prior"], one_hot)
        expected = kl_normal(mean, np.diag(variance), prior[0], np.diag(prior[1]))
        terms = aevb.elbo_terms(params, KEY, Given(XS[0], label), model)
        assert float(terms.kl) == pytest.approx(expected, rel=1e-4)


NOT_LABELS = {
    "below": (
        LABELS - 1,
        ValueError,
        "a condition of data is refused: the condition must be a label from 0 to 2",
    ),
    "above": (
        LABELS + 1,
        ValueError,
        "a condition of data is refused: the condition must be a label from 0 to 2",
    ),
    "floats": (LABELS.astype(np.float32), TypeError, "must be a label, an integer, got"),
    "booleans": (LABELS > 1, TypeError, "must be a label, an integer, got"),
    "too few": (LABELS[:5], ValueError, "must have the same number of rows: value has 20, condition has 5"),
    "a column": (LABELS[:, None], ValueError, "must be one label, an integer, got an array of shape (1,)"),
    "one-hot": (np.eye(3, dtype=int)[LABELS], ValueError, "jnp.argmax converts a one-hot vector to a label"),
}


@pytest.mark.parametrize("kind", NOT_LABELS)
def test_what_is_no_label_is_refused_before_training(kind):
    labels, error, words = NOT_LABELS[kind]
    with pytest.raises(error) as caught:
        aevb.fit(Given(XS, labels), MODEL, key=KEY, num_epochs=1, batch_size=10)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(error):
        aevb.evaluate(PARAMS, KEY, Given(XS, labels), MODEL)


def test_a_label_out_of_range_is_refused_wherever_it_comes_in():
    good, bad, words = Given(XS, LABELS), Given(XS, np.where(np.arange(SIZE) == 19, 7, 0)), "from 0 to 2, got 7"
    settings = {"key": KEY, "num_epochs": 1, "batch_size": 10}
    entries = {
        "test_data": lambda: aevb.fit(good, MODEL, test_data=bad, **settings),
        "valid_data": lambda: aevb.fit(good, MODEL, valid_data=bad, **settings),
        "data": lambda: aevb.fit(Stream(bad, block_size=10), MODEL, **settings),  # in its second block
        "xs": lambda: posterior.encode(PARAMS, bad, MODEL),
    }
    for name, call in entries.items():
        with pytest.raises(ValueError, match=f"a condition of {name} is refused: .*{words}"):
            call()
    with pytest.raises(ValueError, match=words):
        posterior.sample(PARAMS, KEY, 2, MODEL, condition=7)
    with pytest.raises(ValueError, match=words):
        aevb.elbo(PARAMS, KEY, Given(XS[0], 7), MODEL)
    assert np.isnan(jax.jit(aevb.elbo)(PARAMS, KEY, Given(XS[0], 7), MODEL))  # traced values are unknown
    on_array = conditional_vae((WIDTH,), 2, condition_shape=(3,))
    with pytest.raises(ValueError, match=r"the condition has shape \(4,\), but must have \(3,\)"):
        aevb.elbo(on_array.init(KEY), KEY, Given(XS[0], jnp.ones(4)), on_array)


def test_samples_of_two_classes_share_their_noise():
    """With the prior N(0, I), the samples are decoded from the same z under each label."""
    z = jnp.stack([MODEL.prior(PARAMS, 0).sample(k) for k in _sample_keys(4)])
    for label in range(NUM_CLASSES):
        expected = jax.vmap(lambda z, label=label: MODEL.decode(PARAMS, z, label).mean)(z)
        np.testing.assert_allclose(posterior.sample(PARAMS, KEY, 4, MODEL, condition=label), expected, rtol=1e-5)


def _sample_keys(count: int) -> list[jax.Array]:
    return [jax.random.split(jax.random.fold_in(KEY, position))[0] for position in range(count)]


# Data sets


def labelled(labels: np.ndarray | None) -> Dataset:
    images = np.random.RandomState(0).randint(0, 256, (SIZE, 2, 3)).astype(np.uint8)
    return Dataset("tiny", "train", images, labels, 255, "none")


def test_a_data_set_given_its_labels():
    data = labelled(LABELS)
    for flat in (True, False):
        found = data.datapoints(flat, "label")
        np.testing.assert_array_equal(found.value, data.pixels(flat))
        np.testing.assert_array_equal(found.condition, LABELS)
        lazy = data.datapoints(flat, "label", lazy=True)
        np.testing.assert_array_equal(lazy.value[3:7], found.value[3:7])
        stream = data.stream(flat, "label")
        assert len(stream) == SIZE
        read = stream.intensities(stream.read(np.array([4, 2])), "grey")
        np.testing.assert_array_equal(read.value, found.value[[4, 2]])
        np.testing.assert_array_equal(read.condition, LABELS[[4, 2]])
    np.testing.assert_array_equal(data.datapoints(), data.pixels())
    assert data.num_classes == data.subset(1).num_classes == NUM_CLASSES
    assert [part.num_classes for part in data.split_off(1)] == [NUM_CLASSES] * 2


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "the train images of tiny have no labels to condition on"),
        (LABELS - 1, "must be classes, integers [N] from 0"),
        (LABELS / 2, "must be classes, integers [N] from 0"),
        (np.eye(NUM_CLASSES, dtype=int)[LABELS], "must be classes, integers [N] from 0"),
    ],
)
def test_labels_that_are_no_classes(labels, words):
    for make in (labelled(labels).datapoints, labelled(labels).stream):
        with pytest.raises(DatasetError) as caught:
            make(condition="label")
        assert words in str(caught.value)


def test_a_stream_of_a_given_is_of_arrays_of_one_length():
    with pytest.raises(ValueError, match=r"same number of rows, got \[5, 20\]"):
        Stream(Given(XS, LABELS[:5]))
    with pytest.raises(TypeError, match="needs NumPy arrays"):
        Stream(Given(XS, LABELS.tolist()))


# Runs


def test_the_configuration_of_a_conditional_run():
    config = defaults.of("digits", condition="label", weight_init="normal_0.1")
    assert config.model.name == "conditional"
    assert config.model.arguments["weight_init"] == "normal_0.1"
    assert configs.change(config, condition="none").model.name == "mlp"
    assert configs.with_data(config, labelled(LABELS)).model.arguments["num_classes"] == NUM_CLASSES
    assert not {"num_classes", "condition_shape"} & {field.flag for field in configs.fields_of(config)}
    with pytest.raises(ValueError, match="--model=conditional models data given their labels: add --condition=label"):
        configs.check(defaults.of("digits", model="conditional"))
    with pytest.raises(ValueError, match=r"needs a model given a label \(conditional.*\), not --model=mlp"):
        configs.check(defaults.of("digits", model="mlp", condition="label"))


@pytest.mark.slow
def test_streamed_equals_resident_to_twelve_digits(x64, tmp_path):
    splits = tiny_splits()
    found = {}
    for how in ("resident", "streamed"):
        config = tiny_config(splits, condition="label")
        history = train_into(tmp_path / how, config, splits, stream=how == "streamed")
        summary = json.loads((tmp_path / how / "summary.json").read_text())
        found[how] = history, aevb.load_run(tmp_path / how)[1], summary["test_error"]
    assert_same_history(found["streamed"][0], found["resident"][0], rtol=1e-12)
    assert_trees_close(found["streamed"][1], found["resident"][1], rtol=1e-12)
    assert found["streamed"][2] == found["resident"][2]


@pytest.mark.parametrize("algorithm", ["aevb", pytest.param("monte_carlo_em", marks=pytest.mark.slow)])
def test_a_member_of_a_population_is_what_it_is_alone(x64, tmp_path, algorithm):
    splits = tiny_splits()
    found = {f"{seed}": tiny_config(splits, condition="label", seed=seed, algorithm=algorithm) for seed in (0, 1)}
    runs = [Run(config, tmp_path / "together" / name, name) for name, config in found.items()]
    train_all(runs, splits, Options(keep_all_checkpoints=True, draw_pictures=False, together=True))
    for name, config in found.items():
        train_into(tmp_path / "alone" / name, config, splits)
        one, other = (RunFolder(tmp_path / how / name, config) for how in ("together", "alone"))
        assert_same_history(one.read_metrics(), other.read_metrics(), rtol=1e-9)
        assert_trees_close(aevb.load_run(one.path)[1], aevb.load_run(other.path)[1], rtol=1e-9)


SMALL = ("--condition=label", "--num_epochs=4", "--eval_every=2", "--hidden_dim=16", "--latent_dim=2")


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("conditional") / "run"
    done = experiment("digits", *SMALL, f"--data_dir={data_dir}", f"--workdir={workdir}", "--num_valid_images=100")
    assert done.returncode == 0, done.stderr
    assert " error " in done.stdout
    return workdir


def test_a_run_reports_its_error_and_draws_samples_by_class(finished, data_dir):
    names = ["latent_space", "lower_bounds", "reconstruction_and_kl", "reconstructions", "samples_by_class"]
    assert sorted(path.stem for path in (finished / "figures").glob("*.png")) == names
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["condition"] == "label"
    model, params = aevb.load_run(finished)
    test = aevb.data.load("digits", "test", data_dir)
    found = aevb.classify(params, KEY, test.pixels(), model, 10, estimator=aevb.Estimator(10))
    assert summary["test_error"] == pytest.approx(np.mean(found.labels != test.labels), abs=0.03)
    assert 0 < summary["valid_error"] < 0.9  # of guesses
    bound = aevb.evaluate(params, KEY, test.datapoints(condition="label"), model, aevb.Estimator(10))
    assert bound.elbo == pytest.approx(float(metrics(finished)[-1]["test_elbo"]), abs=0.1)


def test_the_marginal_likelihood_of_a_conditional_run(finished, data_dir, tmp_path):
    output = tmp_path / "estimates.json"
    options = ("--methods=is", "--num_samples=50", "--num_datapoints=7", f"--output={output}")
    done = experiment("marginal_likelihood", f"--run={finished}", f"--data_dir={data_dir}", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["elbo"] - 1 < result["estimates"]["is"]["mean"] < result["elbo"] + 20


def test_images_without_labels_are_refused_in_one_line(tmp_path):
    np.save(tmp_path / "images.npy", np.arange(360, dtype=np.float32).reshape(30, 3, 4) / 360)
    arguments = (f"--data={tmp_path / 'images.npy'}", "--condition=label", f"--workdir={tmp_path / 'run'}")
    assert_one_line_error(experiment("images", *arguments), "the train images of images have no labels")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_own_images_and_a_sweep(tmp_path):
    images, labels = np.random.RandomState(0).randint(0, 256, (60, 3, 4, 3)).astype(np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "own.npz", images=images, labels=np.array(["a", "b", "c"])[labels])
    sweep = (f"--data={tmp_path / 'own.npz'}", "--condition=label", "--sweep=learned_prior=True,False")
    more = ("--num_epochs=2", "--hidden_dim=4", "--latent_dim=2", "--batch_size=20", "--num_processes=1")
    done = experiment("sweep", *sweep, *more, f"--workdir={tmp_path / 'sweep'}", "--draw_pictures")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in read_csv(tmp_path / "sweep" / "sweep.csv")] == ["finished"] * 2
    assert len(list((tmp_path / "sweep").rglob("samples_by_class.png"))) == 2


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(data_dir, tmp_path):
    command = [sys.executable, "-m", "experiments.digits", f"--data_dir={data_dir}", *SMALL, "--learned_prior"]
    command += ["--num_epochs=200", "--eval_every=1", "--resume"]
    whole = run([*command, f"--workdir={tmp_path / 'whole'}"])
    assert whole.returncode == 0, whole.stderr
    workdir = tmp_path / "run"
    for _ in lives([*command, f"--workdir={workdir}"], 3, lambda: rows_written(workdir)):
        assert not (workdir / "summary.json").exists()
    last = run([*command, f"--workdir={workdir}"])
    assert (last.returncode, last.stderr) == (0, "")
    assert_same_run(workdir, tmp_path / "whole")
    errors = [
        json.loads((folder / "summary.json").read_text())["test_error"] for folder in (workdir, tmp_path / "whole")
    ]
    assert errors[0] == errors[1]


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(data_dir, tmp_path):
    few = ("--condition=label", f"--data_dir={data_dir}", "--num_train_images=200", "--optimizer=sgd")
    few = (*few, "--learning_rate=0.1", "--latent_dim=2", "--num_epochs=4", "--eval_every=2", "--hidden_dim=20")
    alone = experiment("digits", *few, f"--workdir={tmp_path / 'one'}")
    assert alone.returncode == 0, alone.stderr
    writer, other = together(*few, f"--workdir={tmp_path / 'two'}")
    assert (writer.returncode, other.returncode) == (0, 0), writer.stderr + other.stderr
    np.testing.assert_allclose(bounds(tmp_path / "two"), bounds(tmp_path / "one"), rtol=1e-5, atol=1e-5)
    assert "samples_by_class.png" in {path.name for path in (tmp_path / "two" / "figures").iterdir()}
