"""`python -m experiments.images` on patches of real photographs: trained, drawn, killed, moved, and reproducible."""

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aevb
from aevb.data import load_own
from tests.photographs import LABELS, NAMES, NUM_PATCHES, SIDE, patches, write_pictures
from tests.processes import (
    assert_one_line_error,
    assert_same_run,
    experiment,
    kill,
    lives,
    metrics,
    rows_written,
    run,
    run_in,
    start,
    without_seconds,
)

SETTINGS = ("--hidden_dim=16", "--latent_dim=2", "--num_train_samples=6000")
WHOLE_IMAGES = {"samples.png", "manifold.png", "reconstructions.png"}
NUM_EARLY, RTOL = 9, 1e-5  # evaluations during which two programs of single precision agree to this tolerance
FIGURES = {"lower_bounds.png", "reconstruction_and_kl.png", "latent_space.png"}


def images(data: Path | str, workdir: Path, *flags: str) -> list[str]:
    """Return the command that trains on `data`."""
    return [sys.executable, "-m", "experiments.images", f"--data={data}", f"--workdir={workdir}", *SETTINGS, *flags]


def figures_of(workdir: Path) -> set[str]:
    """Return the names of the PNG files, each of which has its numbers beside it."""
    names = {path.name for path in (workdir / "figures").glob("*.png")}
    assert {path.name for path in (workdir / "figures").iterdir()} == names | {f"{name[:-4]}.csv" for name in names}
    return names


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Return the same patches in the same order, in every form."""
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "patches.npy", patches())
    np.savez(folder / "patches.npz", images=patches(), labels=np.array(NAMES)[LABELS])
    np.save(folder / "vectors.npy", patches().reshape(NUM_PATCHES, -1))
    np.save(folder / "floats.npy", patches() / np.float32(255))
    found = {name: folder / name for name in ("patches.npy", "patches.npz", "vectors.npy", "floats.npy")}
    return {"folder": write_pictures(folder / "patches", patches()), **found}


RUNS = ("folder", "patches.npz", "vectors.npy")


@pytest.fixture(scope="module")
def runs(files, tmp_path_factory) -> dict[str, Path]:
    """Train one run folder per form, in separate processes, without output on standard error."""
    folder = tmp_path_factory.mktemp("runs")
    train = lambda name: run(images(files[name], folder / name))
    done = [train(RUNS[0])]  # compiles for the others
    with ThreadPoolExecutor(2) as pool:
        done += pool.map(train, RUNS[1:])
    for name, each in zip(RUNS, done, strict=True):
        assert (each.returncode, each.stderr) == (0, ""), name
        assert "likelihood discretized_logistic, because pixels have one of 256 values" in each.stdout
    return {name: folder / name for name in RUNS}


# Pictures


def test_a_folder_is_drawn_in_colour(files, runs):
    assert figures_of(runs["folder"]) == WHOLE_IMAGES | FIGURES
    for name in WHOLE_IMAGES:
        with Image.open(runs["folder"] / "figures" / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert np.mean(np.ptp(pixels, axis=-1) > 5) > 0.1, name  # channels differ in more than a line of text
    with Image.open(runs["folder"] / "figures" / "reconstructions.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        drawn = {tuple(colour) for colour in pixels.tolist()}
    test = load_own(files["folder"]).test.images
    assert {tuple(colour) for colour in test.reshape(-1, 3).tolist()} <= drawn  # the test images' own colours, exactly


def test_samples_are_ten_by_ten(runs):
    with Image.open(runs["folder"] / "figures" / "samples.png") as picture:
        ink = np.any(np.asarray(picture.convert("RGB")) < 250, axis=-1)
    grid = ink[ink.mean(axis=1) > 0.8]  # rows of tiles, without the title and the gaps between
    widths = lengths_of_runs(grid.all(axis=0))
    heights = lengths_of_runs(ink[:, np.flatnonzero(grid.all(axis=0))].all(axis=1))
    assert (len(widths), len(heights)) == (10, 10)
    assert max(*widths, *heights) - min(*widths, *heights) <= 2  # square up to whole pixels of the picture
    assert min(widths) >= SIDE


def lengths_of_runs(flags: np.ndarray) -> list[int]:
    """Return the length of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_classes_are_drawn_in_latent_space(runs):
    """The figure has two colours, and one for the folder without classes."""
    assert figures_of(runs["patches.npz"]) == WHOLE_IMAGES | FIGURES
    counts = {}
    for name in ("folder", "patches.npz"):
        with Image.open(runs[name] / "figures" / "latent_space.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
        hues = pixels[np.ptp(pixels, axis=-1) > 100]
        counts[name] = (np.sum(hues[:, 0] > hues[:, 2]), np.sum(hues[:, 2] > hues[:, 0]))
    assert min(counts["patches.npz"]) > 20  # orange and blue, the first two of the palette
    assert counts["folder"][0] == 0


def test_vectors_are_not_drawn_as_images(runs):
    assert figures_of(runs["vectors.npy"]) == FIGURES


# The same numbers


@pytest.mark.parametrize("name", ["patches.npz", "vectors.npy"])
def test_every_form_gives_the_same_numbers(runs, name):
    assert_same_run(runs[name], runs["folder"])


@pytest.mark.slow
def test_floats_give_the_same_numbers(files, runs, tmp_path):
    """The intensities equal those of bytes, but the program differs.

    Results agree to rounding over the first epochs.
    """
    done = run(images(files["floats.npy"], tmp_path / "run", "--nodraw_pictures"))
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_early(tmp_path / "run", runs["folder"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["folder", "patches.npy"])
def test_streamed_data_give_the_same_numbers(files, runs, tmp_path, name):
    done = run(images(files[name], tmp_path / "run", "--stream", "--nodraw_pictures"))
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_early(tmp_path / "run", runs["folder"])


def assert_same_early(one: Path, other: Path) -> None:
    found, expected = (
        [[float(value) for value in row.values()] for row in without_seconds(metrics(workdir))]
        for workdir in (one, other)
    )
    assert len(found) == len(expected)
    np.testing.assert_allclose(found[:NUM_EARLY], expected[:NUM_EARLY], rtol=RTOL, atol=RTOL)


def test_it_is_a_run_like_any_other(files, runs, tmp_path):
    model, params = aevb.load_run(runs["folder"])
    assert model.encode(params, patches()[0].reshape(-1) / 255).mean.shape == (2,)
    flags = ("--methods=is", "--num_datapoints=4", "--num_samples=50", f"--output={tmp_path / 'out.json'}")
    done = experiment("marginal_likelihood", f"--run={runs['folder']}", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["dataset"], result["num_datapoints"]) == ("patches", 4)
    assert result["elbo"] < result["estimates"]["is"]["mean"] + 1
    assert np.isfinite(result["elbo"])


def test_unreadable_pictures_are_counted(files, runs, tmp_path):
    """They are omitted, reported and recorded. The others give the numbers that they give alone."""
    shutil.copytree(files["folder"], folder := tmp_path / "patches")
    (folder / "064.png").write_bytes((folder / "000.png").read_bytes()[:300])
    (folder / "065.jpg").write_bytes(b"")
    done = run(images(folder, tmp_path / "run", "--skip_unreadable", "--nodraw_pictures"))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: 2 of 66 files are skipped: ")
    assert "064.png cannot be read: image file is truncated; " in line
    assert line.endswith("065.jpg is empty (0 bytes)")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["num_skipped"] == 2
    assert without_seconds(metrics(tmp_path / "run")) == without_seconds(metrics(runs["folder"]))


# Killed, changed and moved


def test_killed_moved_and_resumed(files, runs, tmp_path):
    """The run gets SIGKILL while it trains; then its data move to another path."""
    shutil.copy(files["patches.npy"], data := tmp_path / "patches.npy")
    process = start(images(data, workdir := tmp_path / "killed", "--nodraw_pictures"))
    while rows_written(workdir) < 600 and process.poll() is None:
        pass
    kill(process)
    assert not (workdir / "summary.json").exists()
    (tmp_path / "elsewhere").mkdir()
    data.rename(moved := tmp_path / "elsewhere" / "other.npy")
    done = run(images(moved, workdir, "--nodraw_pictures", "--resume"))
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_run(workdir, runs["folder"])


def test_changed_data_are_refused(files, runs, tmp_path):
    """One pixel differs by one."""
    shutil.copytree(runs["folder"], workdir := tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    del config["sha256"]  # it would report a change
    config["own_data"]["path"] = str(data := tmp_path / "patches.npy")
    (workdir / "config.json").write_text(json.dumps(config))
    changed = patches().copy()
    changed[5, 6, 7, 1] ^= 1
    np.save(data, changed)
    before = (workdir / "metrics.csv").read_bytes()
    done = run(images(data, workdir, "--resume", "--num_train_samples=9000"))
    assert_one_line_error(done, "holds a run with another configuration (fingerprint is ")
    assert (workdir / "metrics.csv").read_bytes() == before
    done = experiment("marginal_likelihood", f"--run={workdir}", "--methods=is", f"--output={tmp_path / 'out.json'}")
    assert_one_line_error(done, f"{data} has changed since this run was trained on it")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.slow
def test_killed_at_many_moments(files, tmp_path):
    """The moments are during loading, compiling, between checkpoints, and while drawing."""
    flags = ("--num_train_samples=60000", "--eval_every=10", "--resume")
    whole = run(images(files["folder"], tmp_path / "whole", *flags))
    assert (whole.returncode, whole.stderr) == (0, "")
    killed = tmp_path / "killed"
    for _ in lives(images(files["folder"], killed, *flags), 6, lambda: rows_written(killed)):
        assert not (killed / "summary.json").exists()
    done = run(images(files["folder"], killed, *flags))
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_run(killed, tmp_path / "whole")
    assert figures_of(killed) == figures_of(tmp_path / "whole")


# Splits of the data's own

PARTS = {"train": slice(0, 40), "valid": slice(40, 52), "test": slice(52, 64)}


def own_npz(folder: Path) -> Path:
    np.savez(folder / "own.npz", **{f"x_{name}": patches()[rows] for name, rows in PARTS.items()})
    return folder / "own.npz"


def own_folders(folder: Path) -> Path:
    for name, rows in PARTS.items():
        write_pictures(folder / "own" / name, patches()[rows])
    return folder / "own"


@pytest.mark.parametrize("make", [own_npz, pytest.param(own_folders, marks=pytest.mark.slow)])
def test_a_validation_split_of_its_own(make: Callable[[Path], Path], tmp_path):
    data, workdir = make(tmp_path), tmp_path / "run"
    done = run(images(data, workdir, "--num_valid_images=3"))
    assert_one_line_error(done, "own has a validation split of its own: leave --num_valid_images out")
    assert not workdir.exists()
    flags = ("--patience=2", "--eval_every=5", "--learning_rate=0.02", "--num_train_samples=1000000")
    done = run(images(data, workdir, *flags, "--nodraw_pictures"))
    assert (done.returncode, done.stderr) == (0, "")
    bounds = [float(row["valid_elbo"]) for row in metrics(workdir)]
    best = int(np.argmax(bounds))
    assert best == len(bounds) - 3  # stops after two evaluations without a better bound
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["stopped_early"]
    assert summary["best_epoch"] == int(metrics(workdir)[best]["epoch"])
    assert summary["split_rule"] == "own train/valid/test split, 40/12/12"
    model, params = aevb.load_run(workdir, "best")
    assert model.encode(params, patches()[0].reshape(-1) / 255).mean.shape == (2,)


# Names of files and classes


@pytest.mark.slow
def test_names_are_drawn_and_written_whatever_they_are(tmp_path):
    """Mathematics, patterns, letters missing in a font, and two lines, in figures, folders and output."""
    name = "a$\\frac$ [1]\n猫.npz"
    np.savez(tmp_path / name, images=patches(), labels=np.array(["$\\frac$", "_猫"])[LABELS])
    command = [sys.executable, "-m", "experiments.images", f"--data={name}", *SETTINGS, "--num_train_samples=300"]
    done = run_in(tmp_path, command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a$\\frac$ [1]\\n猫, latent 2  0/348 samples" in done.stdout
    (config,) = (tmp_path / "runs" / "images").rglob("config.json")
    assert figures_of(config.parent) == WHOLE_IMAGES | FIGURES
    aevb.load_run(config.parent)
    assert "[" not in str(config.parent)
