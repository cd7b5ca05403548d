"""The benchmark: all contenders do the same computation, and its suites run as users run them."""

import importlib.util
import json
import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb import figures
from experiments.benchmark.contenders import OURS, PEERS, build
from experiments.benchmark.workload import (
    Workload,
    flops_per_image,
    initial_parameters,
    pixels,
)
from tests.processes import assert_one_line_error, experiment
from tests.test_experiments import size_of_png

TINY = ("--dataset=digits", "--num_images=100", "--hidden_dim=16", "--latent_dim=3", "--batch_size=50")
ALL = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name.startswith("pytorch") and importlib.util.find_spec("torch") is None,
            reason='PyTorch is not installed: pip install -e ".[benchmark]"',
        ),
    )
    for name in (OURS, *PEERS)
]


@pytest.fixture
def workload(data_dir) -> Workload:
    return Workload("digits", str(data_dir), num_images=200, latent_dim=3, hidden_dim=16, batch_size=50)


def bounds_by_numpy(workload: Workload, num_draws: int) -> np.ndarray:
    """Return the negative ELBO of the whole data at the initial parameters in double precision, `[num_draws]`."""
    x = pixels(workload).astype(np.float64)
    parts = initial_parameters(workload, x.shape[1])

    def mlp(part: str, inputs: np.ndarray) -> np.ndarray:
        (first, first_bias), (second, second_bias) = parts[part]
        return np.tanh(inputs @ first + first_bias) @ second + second_bias

    mean, log_variance = np.split(mlp("encoder", x), 2, axis=1)
    kl = 0.5 * np.sum(mean**2 + np.exp(log_variance) - 1 - log_variance, axis=1)
    noise = np.random.default_rng(1).standard_normal((num_draws, *mean.shape))
    logits = mlp("decoder", mean + np.exp(0.5 * log_variance) * noise)
    reconstruction = np.sum(x * logits - np.logaddexp(0, logits), axis=2)
    return np.mean(kl - reconstruction, axis=1)


@pytest.mark.parametrize("name", ALL)
def test_the_loss_is_the_negative_bound(name, workload):
    # Steps too small to move a weight: every epoch draws the loss of the same parameters anew.
    still = Workload(**{**vars(workload), "learning_rate": 1e-12, "initial_deviation": 0.5})
    train = build(name, still)
    losses, expected = np.array([train(1) for _ in range(100)]), bounds_by_numpy(still, 200)
    standard_error = math.sqrt(losses.var() / len(losses) + expected.var() / len(expected))
    assert losses.mean() == pytest.approx(expected.mean(), abs=4.5 * standard_error)
    assert standard_error < 0.005 * expected.mean()


@pytest.mark.parametrize("name", ALL[1:])
def test_training_goes_as_ours_does(name, workload):
    ours, theirs = ([train(1), train(1), train(8)] for train in (build(OURS, workload), build(name, workload)))
    assert theirs[0] < 64 * math.log(2)
    # About twice the observed effect of other shuffles and noise. The loss falls fastest in the second epoch.
    for theirs_then, ours_then, tolerance in zip(theirs, ours, (0.01, 0.06, 0.03), strict=True):
        assert theirs_then == pytest.approx(ours_then, rel=tolerance)
    assert theirs[2] < 0.8 * theirs[0]


@pytest.mark.parametrize(("latent_dim", "hidden_dim", "batch_size"), [(20, 500, 100), (2, 30, 10)])
def test_flops_are_those_that_xla_counts(data_dir, latent_dim, hidden_dim, batch_size):
    workload = Workload("digits", str(data_dir), latent_dim=latent_dim, hidden_dim=hidden_dim, batch_size=batch_size)
    model = aevb.mlp_vae((784,), latent_dim, hidden_dim)
    params = jax.eval_shape(model.init, jax.random.key(0))
    gradient = jax.jit(jax.grad(aevb.make_loss(model, batch_size)))
    xs = jax.ShapeDtypeStruct((batch_size, 784), jnp.float32)
    compiled = gradient.lower(params, jax.eval_shape(jax.random.key, 0), xs).compile()
    counted = (compiled.cost_analysis() or {})["flops"]
    products = batch_size * flops_per_image(workload, 784)
    # The rest are activations and densities.
    assert products < counted < 1.1 * products


def test_what_was_asked_for_must_be_there(data_dir, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('not here')")
    done = experiment(
        "benchmark", f"--data_dir={data_dir}", *TINY, "--peers=pytorch_dataloader", f"--workdir={tmp_path / 'out'}",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )  # fmt: skip
    assert_one_line_error(done, "pytorch_dataloader: ImportError: not here; the peers' libraries: pip install -e \".[")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def measured(data_dir, tmp_path_factory) -> tuple[Path, str]:
    """Run the quick suite on tiny data; return the folder and the output."""
    workdir = tmp_path_factory.mktemp("benchmark") / "run"
    arguments = (f"--data_dir={data_dir}", *TINY, "--repeats=2", "--peers=flax_per_step", f"--workdir={workdir}")
    done = experiment("benchmark", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return workdir, done.stdout


@pytest.mark.slow
def test_the_quick_suite_compares_turn_by_turn(measured):
    workdir, printed = measured
    results = json.loads((workdir / "peers.json").read_text())
    assert set(results) >= {
        *("dataset", "batch_size", "hidden_dim", "latent_dim", "package_versions", "cores", "flops_per_image"),
        *("matrix_multiply_peak", "contenders", "ours_over", "seconds", "repeats"),
    }
    assert (results["dataset"], results["num_images"], results["binarization"]) == ("digits", 100, "grey")
    ours, theirs = (results["contenders"][name]["turns_images_per_second"] for name in (OURS, "flax_per_step"))
    ratio = results["ours_over"]["flax_per_step"]
    assert ratio["turns"] == pytest.approx(np.divide(ours, theirs))
    assert (ratio["low"], ratio["high"]) == (min(ratio["turns"]), max(ratio["turns"]))
    assert set(results["contenders"]) >= {OURS, "flax_per_step", "stochastic_binarization"}
    for name, row in results["contenders"].items():
        assert row["images_per_second"]["median"] == pytest.approx(np.median(row["turns_images_per_second"]))
        assert 0 < row["utilisation"] < 1
        # JAX alone takes 100 MiB.
        assert 2**27 < row["peak_memory_bytes"] < 2**33
        assert name in printed
    assert results["matrix_multiply_peak"] == max(
        rate["median"] for rate in results["matrix_multiply_flops_per_second"].values()
    )
    assert "stochastic_binarization costs" in printed
    width, height = size_of_png(workdir / "peers.png")
    assert width > 800
    assert height > 200


@pytest.mark.slow
def test_nothing_is_overwritten(measured):
    workdir, _ = measured
    before = (workdir / "peers.json").read_bytes()
    again = experiment("benchmark", *TINY, f"--workdir={workdir}")
    assert_one_line_error(again, "holds peers.json already: choose another --workdir, or remove that folder")
    assert (workdir / "peers.json").read_bytes() == before


@pytest.mark.slow
def test_scaling_and_startup(data_dir, tmp_path):
    done = experiment(
        "benchmark", f"--data_dir={data_dir}", *TINY, "--suite=scaling,startup", "--repeats=1", "--batch_sizes=5,50",
        "--hidden_dims=", "--latent_dims=", "--members=2", "--run_images=1000,100", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scaling = json.loads((tmp_path / "scaling.json").read_text())
    assert {axis: [row["value"] for row in rows] for axis, rows in scaling["axes"].items()} == {
        "batch_size": [5, 50],
        "num_members": [2],
    }
    runs = scaling["run_images"]
    assert [row["value"] for row in runs["rows"]] == [100, 1000]
    costs = [row["microseconds_per_image"] for row in runs["rows"]]
    assert runs["cost_spread"] == pytest.approx(max(costs) / min(costs) - 1)
    assert 0 <= runs["memory_growth_bytes"] < 2**28
    size_of_png(tmp_path / "scaling.png")
    startup = json.loads((tmp_path / "startup.json").read_text())
    for kind in ("cold", "warm"):
        marks = startup[kind]
        assert list(marks) == ["imported", "data loaded", "first bounds", "first step"]
        seconds = [mark["median"] for mark in marks.values()]
        assert seconds[0] > 0
        assert seconds == sorted(seconds)


def test_the_figures_show_every_number():
    rates, ratios = np.arange(1.0, 7.0).reshape(3, 2), np.array([[np.nan] * 2, [2.0, 3.0], [0.5, 0.7]])
    figure = figures.turns(rates, ratios, ["a", "b", "c"], ("rate", "ratio"), "title")
    for axes, values in zip(figure.axes, (rates, ratios), strict=True):
        shown = [line.get_xdata() for line in axes.get_lines() if line.get_marker() == "o"]
        np.testing.assert_array_equal(np.concatenate(shown), values.ravel())
    panel = ("size", np.array([1, 10]), np.array([[3.0, 4.0], [2.0, 3.0], [5.0, 6.0]]))
    (axes,) = figures.costs([panel], "cost", "title").axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_xydata(), [[1, 3], [10, 4]])


def test_a_curve_of_one_evaluation_is_a_point():
    """A line through one point is invisible, and the evaluation before training is not on a logarithmic axis."""
    curves = [figures.Curve("", np.array(looks), *[np.full(len(looks), -9.0)] * 2) for looks in ([0, 10], [0, 10, 20])]
    (axes,) = figures.bound_panels([figures.Panel("", curves)], num_columns=1).axes
    shown = [len(line.get_xdata()) for line in axes.get_lines()]
    assert shown == [1, 1, 2, 2]
    assert all(line.get_marker() != "None" for line in axes.get_lines())
