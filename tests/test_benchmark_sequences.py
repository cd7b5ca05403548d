"""The sequence benchmark: all contenders do the same computation, and its command runs as users run it."""

import importlib.util
import json
import os

import numpy as np
import pytest

from experiments.benchmark.sequence_contenders import OURS, PEERS, build
from experiments.benchmark.sequence_workload import RANDOM, SequenceWorkload
from tests.processes import assert_one_line_error, experiment

SIZES = {"latent_dim": 4, "emission_dim": 8, "transition_dim": 6, "rnn_dim": 8, "batch_size": 8}
TINY = (f"--dataset={RANDOM}", "--num_sequences=16", *(f"--{name}={size}" for name, size in SIZES.items()))


@pytest.mark.slow
def test_all_losses_are_of_the_same_bound():
    """Steps too small to move a weight: every epoch draws the loss of the same parameters anew."""
    still = SequenceWorkload(RANDOM, num_sequences=16, learning_rate=1e-12, **SIZES)
    has_pyro = importlib.util.find_spec("pyro") is not None
    means, errors = {}, {}
    for name in (OURS, *(name for name in PEERS if name == "numpyro_svi" or (has_pyro and name == "pyro_svi"))):
        train = build(name, still)
        losses = np.array([train(1) for _ in range(10)])
        means[name], errors[name] = losses.mean(), losses.std() / 10**0.5
    for name in means:
        assert means[name] == pytest.approx(means[OURS], abs=5 * (errors[name] ** 2 + errors[OURS] ** 2) ** 0.5)
        assert errors[name] < 0.005 * means[OURS]


@pytest.mark.slow
def test_contenders_take_turns(tmp_path):
    done = experiment("benchmark.sequences", *TINY, "--repeats=2", "--peers=numpyro_svi", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "sequences.json").read_text())
    assert (results["latent_dim"], results["shape"][0]) == (4, 16)
    rows = results["contenders"]
    assert set(rows) == {OURS, "without_buckets", "numpyro_svi"}
    ours, theirs = (rows[name]["turns_seconds_per_epoch"] for name in (OURS, "numpyro_svi"))
    assert rows["numpyro_svi"]["over_ours"]["median"] == pytest.approx(np.median(np.divide(theirs, ours)))
    assert all(name in done.stdout for name in rows)
    again = experiment("benchmark.sequences", *TINY, f"--workdir={tmp_path}")
    assert_one_line_error(again, "holds sequences.json already: choose another --workdir")


def test_what_was_asked_for_must_be_there(tmp_path):
    (tmp_path / "pyro.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    out = f"--workdir={tmp_path / 'out'}"
    done = experiment("benchmark.sequences", *TINY, "--peers=pyro_svi", out, PYTHONPATH=path)
    assert_one_line_error(done, "pyro_svi: ImportError: not here; install it with: pip install pyro-ppl")
    assert not (tmp_path / "out").exists()
    assert_one_line_error(
        experiment("benchmark.sequences", *TINY, "--batch_size=17", out),
        "--batch_size must be at most the 16 sequences",
    )
