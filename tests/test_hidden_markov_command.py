"""`experiments.hmm`: its table, its figures, and its answers to mistakes."""

import json
import sys
import time

import jax
import numpy as np
import pytest

from aevb import figures, hidden_markov
from aevb.data import lengths_of
from experiments.studies import hmm_sizes
from tests.hidden_markov import random_params
from tests.processes import assert_one_line_error, experiment, kill, start, wait_for
from tests.test_experiments import size_of_png

SMALL = ("--num_restarts=2", "--num_iterations=6", "--evaluate_every=2")


def own_sequences(path, emission: hidden_markov.Emission, family: str, num: int = 30):
    """Write a file of drawn sequences of different lengths."""
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), random_params(family))
    x = np.asarray(hidden_markov.sample(params, jax.random.key(0), emission, 12, num).x)
    lengths = np.random.RandomState(0).randint(4, 13, num)
    np.savez(path, values=x, lengths=lengths)
    return path


@pytest.mark.slow
def test_sizes_are_compared_and_an_interrupted_command_goes_on(tmp_path):
    path = own_sequences(tmp_path / "mine.npz", hidden_markov.gaussian(), "gaussian")
    arguments = (f"--data={path}", f"--workdir={tmp_path / 'run'}", "--num_states=2,3", *SMALL)
    done = experiment("hmm", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["emission"] == "gaussian"
    assert [row["num_states"] for row in results["rows"]] == [2, 3]
    assert results["num_sequences"] == {"train": 25, "valid": 2, "test": 3}
    assert results["command"].startswith("python -m experiments.hmm --data=")
    for row in results["rows"]:
        of_valid = row["valid_of_restarts"]
        assert row["restart"] == int(np.argmax(of_valid))
        assert row["test"] == row["test_of_restarts"][row["restart"]]
    data = hmm_sizes.load(str(path), True, None, None)
    size = hmm_sizes.read(tmp_path / "run", 3, hidden_markov.gaussian())
    assert size is not None
    x = data.splits["test"]
    log_p = hidden_markov.log_likelihood(size.params, x, hidden_markov.gaussian())
    assert size.row["test"] == pytest.approx(float(log_p.sum()) / lengths_of(x).sum(), rel=1e-6)
    for name in ("log_likelihood", "states_2", "states_3"):
        assert min(size_of_png(tmp_path / "run" / f"{name}.png")) > 200
    before = (tmp_path / "run" / "states_3.npz").stat().st_mtime_ns
    again = experiment("hmm", *arguments[:2], "--num_states=3,4", *SMALL)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "states_3.npz").stat().st_mtime_ns == before
    assert "4/" not in again.stdout.split("3 states  log p")[0]
    other = experiment("hmm", *arguments[:3], *SMALL, "--seed=1")
    assert_one_line_error(other, "holds results with seed 0, not 1")
    (tmp_path / "run" / "states_3.npz").write_bytes(b"nonsense")
    assert_one_line_error(experiment("hmm", *arguments), "is damaged")


@pytest.mark.slow
def test_a_killed_command_loses_at_most_one_size(tmp_path):
    path = own_sequences(tmp_path / "mine.npz", hidden_markov.gaussian(), "gaussian")
    command = ["-m", "experiments.hmm", f"--data={path}", "--num_states=2,5", *SMALL]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start([sys.executable, *command, f"--workdir={killed}"])
    wait_for(killed / "states_2.json", process)
    time.sleep(0.05)
    kill(process)
    first = (killed / "states_2.json").read_text()
    for folder in (killed, whole):
        done = experiment("hmm", *command[2:], f"--workdir={folder}")
        assert done.returncode == 0, done.stderr
    assert (killed / "states_2.json").read_text() == first
    rows = [json.loads((folder / "results.json").read_text())["rows"] for folder in (killed, whole)]
    without_seconds = [[{k: v for k, v in row.items() if k != "seconds"} for row in each] for each in rows]
    assert without_seconds[0] == without_seconds[1]


def test_states_are_drawn_in_the_order_in_which_they_follow():
    """For a cycle 0 -> 2 -> 1 -> 0 the transitions end up next to the diagonal."""
    transition = np.full((3, 3), 0.05) + 0.85 * np.eye(3)[[2, 0, 1]]
    logits = np.array([[4.0, -4, -4], [-4, 4, -4], [-4, -4, 4]])
    params = hidden_markov.Parameters(np.log(np.array([0.98, 0.01, 0.01])), np.log(transition), {"logits": logits})
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
    emission = hidden_markov.bernoulli()
    x = np.asarray(hidden_markov.sample(params, jax.random.key(1), emission, 40, 10).x)
    x = np.concatenate([np.zeros((10, 40, 1), np.float32), x], 2)  # a value that never varies is not drawn
    params = params._replace(emission={"logits": np.concatenate([np.full((3, 1), -9, np.float32), logits], 1)})
    size = hmm_sizes.Size(params, np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1), {})
    found, means, columns = hmm_sizes.ordered(size, emission, hmm_sizes.Data("cycle", {"train": x}))
    np.testing.assert_allclose(np.diag(found, 1), 0.9, rtol=1e-5)
    assert columns.tolist() == [1, 2, 3]
    assert means.shape == (3, 3)
    assert np.all(means.max(1) > 0.9)


def test_figures_of_sizes(tmp_path):
    curves = [
        figures.LearningCurve(k, {"train": [-2.0, -1.9], "valid": [-2.2, -2.1], "test": [-2.3, -2.2]}, 1,
                              np.linspace(-4, -1.9, 7), np.array([2, 4, 6]), np.array([-2.4, -2.1, -2.2]), 4)
        for k in (2, 10)
    ]  # fmt: skip
    figures.save(figures.log_likelihoods(curves, "title"), tmp_path / "curves.png")
    figures.save(figures.hidden_states(np.eye(4), np.ones((4, 3)), np.arange(5, 8), "title"), tmp_path / "states.png")
    assert all(min(size_of_png(tmp_path / f"{name}.png")) > 200 for name in ("curves", "states"))


def test_families_are_chosen_by_the_values():
    counts = np.array([[[0.0, 3.0], [1.0, np.nan]]], np.float32)
    of = lambda x: hmm_sizes.Data("mine", {"train": x, "test": x})
    assert hmm_sizes.suitable_emission(of(np.where(counts > 1, 1, counts))) == "bernoulli"
    assert hmm_sizes.suitable_emission(of(counts)) == "gaussian"
    assert hmm_sizes.make_emission("categorical", of(counts), 0.5) is hidden_markov.categorical(4, pseudo_count=0.5)
    assert hmm_sizes.make_emission("poisson", of(counts), 0.5) is hidden_markov.poisson(pseudo_count=0.5)


def test_mistakes_of_the_command_are_one_line(tmp_path):
    path = own_sequences(tmp_path / "mine.npz", hidden_markov.gaussian(), "gaussian")
    np.savez(tmp_path / "images.npz", images=np.tile(np.arange(16, dtype=np.uint8).reshape(4, 4), (20, 1, 1)))
    for flags, message in {
        (f"--data={path}", "--dataset=co2"): "give one of them",
        (f"--data={path}", "--num_states=3,3"): "--num_states names a size twice: 3,3",
        (f"--data={path}", "--emission=bernoulli"): "the train split of mine has values that no state can emit",
        (f"--data={path}", "--num_states=5000"): "5000 states need at least as many observed steps, but",
        (f"--data={tmp_path / 'images.npz'}",): "holds no sequences",
    }.items():
        assert_one_line_error(experiment("hmm", *flags, f"--workdir={tmp_path / 'run'}"), message)
    assert not (tmp_path / "run").exists()
