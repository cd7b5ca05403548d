"""Every family of models by its command, in real processes: killed, streamed, distributed, in a population.

`test_every_model.py` tests models through the library in this process.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import (
    assert_same_run,
    experiment,
    lives,
    metrics,
    rows_written,
    run,
    run_together,
)

FAMILIES = {
    "mlp": ("--latent_dim=3", "--hidden_dim=16"),
    "mlp, weighted bound": (
        *("--latent_dim=3", "--hidden_dim=16", "--bound=iwae", "--num_samples=3", "--kl_warm_up=1"),
        *("--gradient=doubly_reparameterized", "--output_bias=data_mean"),
    ),
    "convolutional": ("--model=convolutional", "--latent_dim=3", "--num_channels=4", "--hidden_dim=16"),
    "hierarchical": ("--model=hierarchical", "--latent_dim=4-2", "--hidden_dim=16", "--num_hidden_layers=1"),
    "ladder": (
        *("--model=hierarchical", "--inference=ladder", "--latent_dim=4-2", "--hidden_dim=16"),
        "--num_hidden_layers=1",
    ),
    "conditional": ("--condition=label", "--latent_dim=3", "--hidden_dim=16"),
    "conditional, learned prior": ("--condition=label", "--learned_prior", "--latent_dim=3", "--hidden_dim=16"),
    "deep markov": (
        *("--model=deep_markov", "--latent_dim=3", "--emission_dim=8", "--transition_dim=8", "--rnn_dim=8"),
        *("--schedule=cosine", "--clip_norm=100", "--kl_warm_up=10", "--nomap_prior", "--likelihood=bernoulli"),
    ),
    "linear gaussian": ("--model=linear_gaussian", "--latent_dim=3", "--nomap_prior", "--schedule=constant"),
}
OF_SEQUENCES = ("deep markov", "linear gaussian")

NUM_KILLS = 3
TRAINING = ("--num_train_images=300", "--batch_size=20", "--optimizer=adam", "--learning_rate=1e-3", "--seed=3")

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("family", FAMILIES)]


def write_sequences(path: Path) -> Path:
    """Write binary sequences of 2 to 6 steps whose values rarely change."""
    rng = np.random.RandomState(0)
    values = np.cumsum(rng.rand(360, 6, 5) < 0.2, axis=1) % 2
    np.savez(path, values=values.astype(np.uint8), lengths=rng.randint(2, 7, 360))
    return path


@pytest.fixture
def data(family, tmp_path) -> str:
    """Return the flag that gives a sweep its data."""
    return f"--data={write_sequences(tmp_path / 'bits.npz')}" if family in OF_SEQUENCES else "--dataset=digits"


@pytest.fixture
def command(family, data, data_dir) -> list[str]:
    name = ["sequences", data] if family in OF_SEQUENCES else ["digits"]
    return [*name, *FAMILIES[family], *TRAINING, f"--data_dir={data_dir}", "--nodraw_pictures"]


def trained(folder: Path, command: list[str], *more: str) -> Path:
    done = experiment(*command, f"--workdir={folder}", *more)
    assert done.returncode == 0, done.stderr
    return folder


def assert_close(found: dict[str, str], expected: dict[str, str]) -> None:
    """Require the same row of metrics except for seconds and rounding; values missing in one are missing in both."""
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"seconds", "sha256"}:
        values = (float(row[name] or "nan") for row in (found, expected))
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_killed_streamed_and_whole_runs_are_the_same(family, command, tmp_path):
    """Parameters and every row of metrics are equal, bit for bit."""
    # The small network's 200 epochs would be over before the last kill.
    length = (f"--num_epochs={800 if family.startswith('mlp') else 200}", "--eval_every=10")
    whole = trained(tmp_path / "whole", command, *length)
    killed = tmp_path / "killed"
    again = [
        sys.executable,
        "-m",
        f"experiments.{command[0]}",
        *command[1:],
        *length,
        "--resume",
        f"--workdir={killed}",
    ]
    for _ in lives(again, NUM_KILLS, lambda: rows_written(killed), pause=0.3):
        assert not (killed / "summary.json").exists()
    done = run(again)
    assert done.returncode == 0, done.stderr
    assert_same_run(killed, whole)
    bounds = [float(row["test_elbo"]) for row in metrics(whole)]
    # Check that there is progress to lose; starting from the mean of the data leaves less to learn.
    assert bounds[-1] > bounds[0] + (0.2 if "--output_bias=data_mean" in command else 2)
    assert_same_run(trained(tmp_path / "streamed", command, *length, "--stream"), whole)


def test_two_processes_give_the_result_of_one(command, tmp_path):
    """A few steps of plain gradient descent pass on the rounding of two programs without amplifying it."""
    few = ("--optimizer=sgd", "--learning_rate=0.05", "--num_epochs=2")
    alone = trained(tmp_path / "alone", command, *few)
    two = tmp_path / "two"
    ends = run_together([*command, *few, f"--workdir={two}"])
    assert [end.returncode for end in ends] == [0, 0], ends[0].stderr + ends[1].stderr
    for one, other in zip(metrics(alone), metrics(two), strict=True):
        assert_close(other, one)


def test_members_of_one_program_are_the_runs_that_they_are_alone(command, data, tmp_path):
    """A sweep over two learning rates, with its members side by side, against a separate run of each."""
    left_out = ("latent_dim", "learning_rate", "--data=")
    few = [argument for argument in command[1:] if not any(each in argument for each in left_out)]
    size = next(argument for argument in command if "latent_dim" in argument)
    rates = ("0.05", "0.1")
    done = experiment(
        "sweep", data, size, "--sweep=learning_rate=" + ",".join(rates), *few, "--optimizer=sgd",
        "--num_epochs=2", "--together", f"--workdir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rate in rates:
        (member,) = (path.parent for path in (tmp_path / "sweep").rglob(f"*learning_rate_{rate}*/metrics.csv"))
        alone = trained(
            tmp_path / rate, command, "--optimizer=sgd", f"--learning_rate={rate}", "--num_epochs=2", "--eval_every=2"
        )
        assert_close(metrics(member)[-1], metrics(alone)[-1])
