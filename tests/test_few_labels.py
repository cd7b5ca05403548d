"""The command for few labels: real processes on scikit-learn's digits, refusals, and kills."""

import json
import sys

import numpy as np
import pytest

from aevb.data import Dataset
from experiments.studies.few_labels_data import hide_labels, hold_out
from tests.processes import assert_one_line_error, experiment, kill, read_csv, start, wait_for, without_seconds
from tests.test_experiments import size_of_png

SMALL = ("--dataset=digits", "--num_labels=50", "--num_valid_images=200", "--hidden_dim=30", "--latent_dim=3",
         "--num_m1_epochs=20", "--num_epochs=20", "--batch_size=100")  # fmt: skip


def splits(seed: int, num_labels: int = 30):
    rng = np.random.RandomState(0)
    images, labels = rng.randint(0, 256, (300, 4)).astype(np.uint8), np.arange(300) % 10
    train, test = (
        Dataset("digits", name, images[part], labels[part], 255, "none")
        for name, part in (("train", slice(250)), ("test", slice(250, 300)))
    )
    return train, hide_labels(hold_out(train, test, 50), num_labels, seed)


def test_labels_are_shared_out_evenly_by_the_seed_and_the_rest_are_hidden():
    train, few = splits(seed=0)
    kept, valid = train.split_off(50)
    assert np.bincount(few.labels[few.labelled]).tolist() == [3] * 10
    np.testing.assert_array_equal(few.labels[few.labelled], np.asarray(kept.labels)[few.labelled])
    assert np.sum(few.labels == -1) == 170
    np.testing.assert_array_equal(few.valid[0], valid.pixels())
    other = splits(seed=1)[1]
    assert not np.array_equal(other.labelled, few.labelled)
    np.testing.assert_array_equal(other.valid[0], few.valid[0])
    with pytest.raises(ValueError, match="--num_labels must be a multiple of the 10 classes, got 35"):
        splits(0, num_labels=35)
    with pytest.raises(ValueError, match="takes 100 images per class, but class 0 has"):
        splits(0, num_labels=1000)


@pytest.mark.slow
def test_all_three_models_from_one_command_and_again(data_dir, tmp_path):
    command = (*SMALL, "--model=m1,m2,m1_m2", "--seed=0,1", f"--data_dir={data_dir}", f"--workdir={tmp_path}")
    done = experiment("semi_supervised", *command)
    assert done.returncode == 0, done.stderr
    for model in ("m1", "m2", "m1_m2"):
        rows = read_csv(tmp_path / f"{model}.csv")
        assert [row["seed"] for row in rows] == ["0", "1"]
        assert all(0 < float(row["test_error"]) < 0.7 for row in rows)
    assert "validation images chose the settings" in done.stdout
    for name in ("m2_errors", "m2_analogies", "m1_m2_errors", "m1_m2_analogies"):
        assert min(size_of_png(tmp_path / f"{name}.png")) > 300
    config = tmp_path / "m1_m2,seed-0" / "config.json"
    older = {name: value for name, value in json.loads(config.read_text()).items() if name != "labelled_weight"}
    config.write_text(json.dumps(older))
    again = experiment("semi_supervised", *command)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stdout
    assert again.stdout.splitlines()[-5:] == done.stdout.splitlines()[-5:]
    other = experiment("semi_supervised", *command, "--latent_dim=4", "--model=m2")
    assert_one_line_error(other, "holds a run with latent_dim 3, not 4: choose another --workdir")


@pytest.mark.slow
def test_killed_and_started_again_ends_like_one_that_was_not(data_dir, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = (*SMALL, "--model=m1_m2", "--seed=3", "--num_epochs=60", f"--data_dir={data_dir}")
    assert experiment("semi_supervised", *command, f"--workdir={whole}").returncode == 0
    arguments = [sys.executable, "-m", "experiments.semi_supervised", *command, f"--workdir={cut}"]
    process = start(arguments)
    wait_for(cut / "m1_m2,seed-3" / "errors.csv", process)
    kill(process)
    assert not (cut / "m1_m2.csv").exists()
    assert experiment("semi_supervised", *command, f"--workdir={cut}").returncode == 0
    first, second = (without_seconds(read_csv(each / "m1_m2,seed-3" / "errors.csv")) for each in (whole, cut))
    assert first == second


def test_what_is_wrong_is_one_line(tmp_path):
    for flag, message in (
        ("--model=m3", "--model takes one or more of m1,m2,m1_m2"),
        ("--seed=0,0", "--seed takes different"),
    ):
        assert_one_line_error(experiment("semi_supervised", flag, f"--workdir={tmp_path / 'run'}"), message)
    assert not (tmp_path / "run").exists()
