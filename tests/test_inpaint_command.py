"""`python -m experiments.inpaint` as a real process, on a run of tiny digits, and the meaning of its flags."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import configs, defaults
from experiments.runs.splits import load_splits
from experiments.studies.hidden_pixels import channel, hidden_pixels, through
from tests.processes import assert_one_line_error, experiment
from tests.runs import train_into

FEW = (
    "--num_images=3", "--num_samples=4", "--num_chains=2", "--num_warmup=3", "--num_transitions=4", "--num_steps=3",
    "--num_importance_samples=20", "--num_shown=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "digits", data_dir, binarization="stochastic")


def trained(folder: Path, data_dir: Path, **values: str) -> Path:
    """Return the folder of a run of one epoch on scikit-learn's digits."""
    small = {"latent_dim": 2, "hidden_dim": [6], "num_epochs": 1, "optimizer": "adam"}
    config = defaults.of("digits", **small | values)
    splits = load_splits(config, str(data_dir))
    train_into(folder, configs.with_data(config, splits.train), splits)
    return folder


@pytest.mark.parametrize(
    ("methods", "estimator"),
    [
        (("encoder", "zeros"), "is"),
        pytest.param(("hmc", "refined", "encoder", "zeros"), "mixture", marks=pytest.mark.slow),
    ],
)
def test_hidden_halves(run, data_dir, tmp_path, methods, estimator):
    """It writes a table, a CSV file, a figure and the images; a second call is refused."""
    folder = tmp_path / "inpainted"
    arguments = (
        f"--run={run}", "--mask=lower", f"--methods={','.join(methods)}", f"--estimator={estimator}",
        f"--data_dir={data_dir}", f"--workdir={folder}", *FEW,
    )  # fmt: skip
    done = experiment("inpaint", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "results.json").read_text())
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == list(methods)
    for row, result in zip(rows, results["rows"], strict=True):
        assert float(row["log_likelihood"]) == pytest.approx(result["log_likelihood"])
        assert -40 < result["log_likelihood"] < -5  # 32 pixels, each worth at most log 2 if nothing is known
        assert 0 < result["rmse"] < 0.8
        assert f"{result['rmse']:.4f}" in done.stdout
        assert (result["median_r_hat"] is None) == (row["method"] != "hmc")
    assert f"{results['log_predictive']['log_predictive']:.2f} nats per image" in done.stdout
    assert -40 < results["log_predictive"]["log_predictive"] < -5
    assert (folder / "inpaint.png").stat().st_size > 5e3
    images = np.load(folder / "images.npz")
    hidden = np.isnan(images["seen"])
    assert images["truth"].shape == (3, 8, 8)
    assert np.all(hidden == (np.arange(8) >= 4)[:, None])
    for name in methods:
        assert images[f"{name}_draws"].shape == (3, 4, 8, 8)
        np.testing.assert_array_equal(images[f"{name}_mean"][~hidden], images["truth"][~hidden])
    assert_one_line_error(experiment("inpaint", *arguments), "holds results already")


@pytest.mark.slow
def test_noise(run, data_dir):
    arguments = (f"--run={run}", "--noise=flips:0.1", "--estimator=none", f"--data_dir={data_dir}", *FEW)
    done = experiment("inpaint", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((run / "inpaint,mask-none,noise-flips-0.1" / "results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["hmc", "refined", "encoder"]
    assert results["log_predictive"] is None


@pytest.mark.slow
def test_mistakes_are_one_line(run, data_dir, tmp_path):
    grey = trained(tmp_path / "grey", data_dir, binarization="grey")
    np.save(tmp_path / "mask.npy", np.ones((3, 3)))
    np.save(tmp_path / "nothing.npy", np.zeros((8, 8)))
    before = sorted(run.rglob("*"))
    for flags, message in (
        (("--mask=lower",), "--run must name a run folder"),
        ((f"--run={run}",), "nothing is hidden: give --mask or --noise"),
        ((f"--run={tmp_path}", "--mask=lower"), "is not a run folder"),
        ((f"--run={run}", "--mask=upper"), "--mask takes none, lower, random, block or a .npy file, got 'upper'"),
        ((f"--run={run}", f"--mask={tmp_path / 'no.npy'}"), "cannot be read: No such file"),
        ((f"--run={run}", f"--mask={tmp_path / 'mask.npy'}"), "has shape (3, 3), but the images have shape (8, 8)"),
        ((f"--run={run}", f"--mask={tmp_path / 'nothing.npy'}"), "hides nothing"),
        (
            (f"--run={run}", "--noise=rain"),
            "--noise takes flips:PROBABILITY or gaussian:STANDARD_DEVIATION, got 'rain'",
        ),
        ((f"--run={run}", "--noise=flips:2"), "above 0 and below 1, got 2"),
        ((f"--run={run}", "--mask=lower", "--num_samples=5"), "must be a multiple of --num_chains=2"),
        (
            (f"--run={run}", "--mask=lower", "--methods=gibbs"),
            "--methods takes one or more of hmc,refined,encoder,zeros",
        ),
        ((f"--run={run}", "--mask=lower", "--num_images=9999"), "is more than the"),
        ((f"--run={grey}", "--noise=gaussian:0.5"), "a Bernoulli likelihood of grey pixels does not define"),
    ):
        assert_one_line_error(experiment("inpaint", *FEW, f"--data_dir={data_dir}", *flags), message)
    assert sorted(run.rglob("*")) == before


# Masks and noise


def test_masks(tmp_path):
    whole = hidden_pixels("lower", 2, (5, 4, 3), 0)
    assert whole.shape == (2, 5, 4, 3)
    assert not whole[:, :2].any()
    assert whole[:, 2:].all()
    block = hidden_pixels("block", 1, (8, 6), 0)[0]
    assert block[2:6, 1:5].all()
    assert block.sum() == 16
    random = hidden_pixels("random", 50, (8, 8, 3), 0)
    assert abs(random.mean() - 0.5) < 0.05
    assert np.all(random == random[..., :1])
    assert np.any(random[0] != random[1])
    np.testing.assert_array_equal(random, hidden_pixels("random", 50, (8, 8, 3), 0))
    assert hidden_pixels("random", 2, (7,), 0).shape == (2, 7)
    np.save(tmp_path / "mask.npy", np.eye(4))
    np.testing.assert_array_equal(hidden_pixels(str(tmp_path / "mask.npy"), 2, (4, 4), 0)[1], np.eye(4) == 1)
    with pytest.raises(ValueError, match="--mask=lower needs images"):
        hidden_pixels("lower", 2, (7,), 0)
    (tmp_path / "words.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"words\.npy cannot be read"):
        hidden_pixels(str(tmp_path / "words.npy"), 2, (4, 4), 0)


def test_noise_is_what_the_channel_says():
    images = (np.random.RandomState(0).rand(200, 64) < 0.5).astype(np.float32)
    flipped = through("flips:0.1", images, 1)
    assert set(np.unique(flipped)) == {0, 1}
    assert abs(np.mean(flipped != images) - 0.1) < 0.02
    noisy = through("gaussian:0.5", images, 1)
    assert noisy.dtype == np.float32
    assert abs(np.std(noisy - images) - 0.5) < 0.02
    assert channel(None) is None
    assert channel("flips:0.1") == channel("flips:.1")
