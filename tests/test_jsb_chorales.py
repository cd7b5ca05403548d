"""`python -m experiments.jsb_chorales` on some of the real chorales, with a small model."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import aevb
from tests.processes import experiment, metrics

NUM_TRAIN = 20
SMALL = (
    *("--latent_dim=3", "--emission_dim=8", "--transition_dim=8", "--rnn_dim=8", "--batch_size=10"),
    *(f"--num_train_images={NUM_TRAIN}", "--num_epochs=4", "--eval_every=2", "--length_buckets=1"),
)


@pytest.fixture(scope="module")
def finished(real_data, data_dir, tmp_path_factory) -> tuple[Path, str]:
    """Return the folder of a run, and its output."""
    workdir = tmp_path_factory.mktemp("run") / "chorales"
    sources = (f"--source_dir={real_data}", f"--data_dir={data_dir}")
    done = experiment("jsb_chorales", *SMALL, *sources, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_folder_holds_everything(finished):
    workdir, printed = finished
    rows = metrics(workdir)
    assert [row["num_train_samples"] for row in rows] == ["0", "40", "80"]
    assert float(rows[-1]["valid_elbo"]) > float(rows[0]["valid_elbo"])
    figures = ["bound_by_step", "lower_bounds", "reconstruction_and_kl", "reconstructions", "samples"]
    assert sorted(path.stem for path in (workdir / "figures").glob("*.png")) == figures
    assert sorted(path.stem for path in (workdir / "figures").glob("*.csv")) == figures
    has_midi = {path.name for path in workdir.glob("midi/*.mid")} >= {f"sample_{number}.mid" for number in range(1, 5)}
    assert has_midi != ("no MIDI files of the samples: they need mido" in printed)
    assert "jsb_chorales (grey, split official 229/76/77, 20 random training sequences), nats per datapoint" in printed
    assert any(workdir.glob("events.out.tfevents.*"))


def test_figures_per_step_against_the_data(finished, data_dir):
    """Lengths are those of the data, 4,725 steps of 77 test chorales. Bounds are those of the loaded model."""
    workdir, printed = finished
    train, valid, test = aevb.data.load_splits("jsb_chorales", data_dir)
    summary = json.loads((workdir / "summary.json").read_text())
    last = metrics(workdir)[-1]
    assert valid is not None
    for split in (train.subset(NUM_TRAIN), valid, test):
        total = float(last[f"{split.split}_elbo"]) * len(split.images)
        expected = total / split.others["lengths"].sum()
        assert summary[f"{split.split}_elbo_per_step"] == pytest.approx(expected, rel=1e-9)
    closing, lengths = summary["per_step"], test.others["lengths"].astype(np.float64)
    assert (closing["num_sequences"], closing["num_steps"]) == (77, 4725)
    assert closing["state"] == "best by validation"
    model, params = aevb.load_run(workdir, "best")
    keys = jax.random.split(jax.random.key(1), 77)
    bound = jax.jit(jax.vmap(lambda key, x: aevb.elbo(params, key, x, model, num_samples=10)))
    bounds = np.asarray(bound(keys, test.sequences()), np.float64)
    # The draws differ: a tenth of a nat per step is ten times their standard error.
    assert closing["elbo_over_steps"] == pytest.approx(bounds.sum() / lengths.sum(), abs=0.1)
    assert closing["elbo_mean_of_sequences"] == pytest.approx(np.mean(bounds / lengths), abs=0.1)
    assert f"{closing['elbo_over_steps']:.3f} over 4,725 steps" in printed
    assert f"{closing['elbo_mean_of_sequences']:.3f} as the mean of 77 sequences' own" in printed
