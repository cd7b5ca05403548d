"""Sweeps as users run them: over processes, over shards, as one program."""

import csv
import re
import shutil
import sys
from pathlib import Path

import pytest

import aevb
from experiments.runs.folder import RunFolder
from experiments.runs.run import Options, Run, train_all
from tests.comparisons import assert_same_history, assert_trees_close
from tests.processes import assert_one_line_error, assert_same_run, experiment, metrics, start, without_seconds
from tests.runs import tiny_config, tiny_splits, train_into
from tests.test_experiments import size_of_png

EPOCH = 1700
SWEEP = (
    "--dataset=frey_face",
    "--latent_dims=2,3",
    "--learning_rates=0.01,100000",  # the second diverges: a Gaussian density has no upper bound
    f"--num_train_samples={2 * EPOCH}",
)


@pytest.fixture(scope="module")
def sources(real_data, data_dir) -> tuple[str, ...]:
    return f"--source_dir={real_data}", f"--data_dir={data_dir}"


@pytest.fixture(scope="module")
def swept(sources, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("sweep")
    done = experiment("sweep", *SWEEP, *sources, f"--workdir={workdir}", "--num_processes=2")
    assert done.returncode == 0, done.stderr
    return workdir


def table(workdir: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (workdir / "sweep.csv").open() as file:
        return {(row["latent_dim"], row["learning_rate"]): row for row in csv.DictReader(file)}


def run_folder(workdir: Path, latent: str) -> Path:
    return workdir / f"frey_face/train_all/latent_{latent},hidden_200/aevb/learning_rate_0.01,seed_0"


def test_the_table_has_every_run_and_says_which_diverged(swept):
    rows = table(swept)
    assert list(rows) == [("2", "0.01"), ("2", "100000.0"), ("3", "0.01"), ("3", "100000.0")]
    for (latent, rate), row in rows.items():
        assert row["state"] == ("finished" if rate == "0.01" else "diverged")
        assert bool(row["why"]) == (rate != "0.01")
        assert rate == "0.01" or re.search(
            r"NaN or infinite at step \d+, on a minibatch of 100 data|because of", row["why"]
        )
        if rate == "0.01":
            end = metrics(run_folder(swept, latent))[-1]
            assert float(row["test_elbo"]) == pytest.approx(float(end["test_elbo"]), abs=1e-4)
            assert row["num_train_samples"] == str(2 * EPOCH)
    assert size_of_png(swept / "sweep.png") > (300, 200)


@pytest.mark.slow
def test_shards_are_the_whole(swept, sources, tmp_path):
    """The same programs, each on as many cores, give the same bits."""
    for shard in ("0/2", "1/2"):
        arguments = (*SWEEP, *sources, f"--workdir={tmp_path}", f"--shard={shard}", "--num_processes=2")
        done = experiment("sweep", *arguments)
        assert done.returncode == 0, done.stderr
        assert f"shard {shard[0]} of 2 is done" in done.stdout
        assert not (tmp_path / "sweep.csv").exists()
    done = experiment("sweep", *SWEEP, *sources, f"--workdir={tmp_path}", "--num_processes=1")
    assert done.returncode == 0, done.stderr
    for latent in ("2", "3"):
        assert_same_run(run_folder(tmp_path, latent), run_folder(swept, latent))
    rows, expected = table(tmp_path), table(swept)
    assert without_seconds(list(rows.values())) == without_seconds(list(expected.values()))


@pytest.mark.slow
def test_one_program_for_all_gives_the_same_runs(swept, sources, tmp_path):
    """The folders are the same and begin with the same bounds; later, the rounding of two programs differs.

    The next test shows in double precision that nothing else differs.
    """
    done = experiment("sweep", *SWEEP, *sources, f"--workdir={tmp_path}", "--together", "--num_processes=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" diverges: ") == 2
    for latent in ("2", "3"):
        found, expected = (metrics(run_folder(workdir, latent)) for workdir in (tmp_path, swept))
        for name in ("epoch", "num_train_samples"):
            assert [row[name] for row in found] == [row[name] for row in expected]
        for name in ("train_elbo", "test_elbo", "test_kl", "active_units"):
            assert float(found[0][name]) == pytest.approx(float(expected[0][name]), rel=1e-5)
        assert float(found[-1]["train_elbo"]) > float(found[0]["train_elbo"])
    assert [row["state"] for row in table(tmp_path).values()] == ["finished", "diverged"] * 2
    # As if each had been trained alone: --resume finds nothing to do, and a larger budget resumes training.
    before = (run_folder(tmp_path, "2") / "metrics.csv").read_text()
    longer = [flag for flag in SWEEP if "samples" not in flag and "rates" not in flag]
    longer += [f"--num_train_samples={3 * EPOCH}", "--learning_rates=0.01", "--notogether", "--num_processes=1"]
    done = experiment("sweep", *longer, *sources, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    after = (run_folder(tmp_path, "2") / "metrics.csv").read_text()
    assert after.startswith(before)
    assert [row["epoch"] for row in metrics(run_folder(tmp_path, "2"))][-2:] == ["2", "3"]


def test_one_program_for_all_gives_the_same_runs_to_nine_digits(x64, tmp_path):
    """In double precision, padded latents and learning rates as arguments change results only by rounding."""
    splits = tiny_splits()
    found = {
        f"{latent_dim},{rate:g}": tiny_config(
            splits, latent_dim=latent_dim, learning_rate=rate, likelihood="squashed_gaussian"
        )
        for latent_dim, rate in ((2, 0.01), (3, 0.1))
    }
    runs = [Run(config, tmp_path / "together" / name, name) for name, config in found.items()]
    train_all(runs, splits, Options(keep_all_checkpoints=True, draw_pictures=False, together=True))
    for name, config in found.items():
        train_into(tmp_path / "alone" / name, config, splits)
        found, expected = (RunFolder(tmp_path / how / name, config) for how in ("together", "alone"))
        assert found.is_finished()
        assert_same_history(found.read_metrics(), expected.read_metrics(), rtol=1e-9)
        assert_trees_close(aevb.load_run(found.path)[1], aevb.load_run(expected.path)[1], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a digit", "all rows", "no file"])
def test_a_damaged_member_is_said_to_be_damaged_and_stops_no_other(data_dir, tmp_path, damage):
    command = [
        *("--dataset=digits", "--latent_dim=2,3", "--learning_rate=0.1", "--hidden_dim=8", "--num_epochs=1"),
        *(f"--data_dir={data_dir}", f"--workdir={tmp_path}"),
    ]
    assert experiment("sweep", *command).returncode == 0
    path = next(tmp_path.rglob("latent_2,*/**/metrics.csv"))
    text = path.read_text()
    if damage == "no file":
        path.unlink()
    else:
        path.write_text(text.replace("\n0,0,-44", "\n0,0,-45") if damage == "a digit" else text.split("\n")[0] + "\n")
    shutil.rmtree(next(tmp_path.rglob("latent_3,*")))
    done = experiment("sweep", *command)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: 1 of 2 runs are damaged: python -m experiments.check --run={tmp_path} --repair rebuilds what can be "
        "rebuilt"
    )
    rows = table(tmp_path)
    assert [row["state"] for row in rows.values()] == ["damaged", "finished"]
    assert str(path) in rows["2", "0.1"]["why"]
    done = experiment("check", f"--run={tmp_path}", f"--data_dir={data_dir}", "--repair")
    assert done.returncode == 0, done.stdout
    assert experiment("sweep", *command).returncode == 0
    assert [row["state"] for row in table(tmp_path).values()] == ["finished", "finished"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard=2/2"], "--shard takes i/n with i from 0 to n - 1, got 2/2"),
        (["--learning_rates=0.1,x"], "--learning_rate takes numbers separated by commas, got 0.1,x"),
        (["--learning_rates=0.1,-1"], "learning_rate must be positive and finite, got -1.0"),
        (["--latent_dims=0"], "latent_dim must be at least 1, got 0"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path):
    assert_one_line_error(experiment("sweep", f"--workdir={tmp_path / 'sweep'}", *arguments), message)


def test_two_sweeps_on_one_folder_share_the_work(data_dir, tmp_path):
    """Neither fails, both report all runs, and each run is trained by one of them."""
    sweep = (
        *("--dataset=digits", "--sweep=latent_dim=2,3", "--sweep=objective.num_samples=1,2", "--hidden_dim=8"),
        *("--num_epochs=100", "--num_processes=1", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'sweep'}"),
    )
    processes = [start([sys.executable, "-m", "experiments.sweep", *sweep]) for _ in range(2)]
    printed = []
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        printed.append(out)
    names = [f"digits aevb latent {latent_dim}, learning rate 0.001, seed 0" for latent_dim in (2, 3)]
    began = [out.count(f"{name}  0/") for out in printed for name in names]
    assert sum(began) == 4
    assert printed[0].count("finished") == printed[1].count("finished") == 4
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["latent_dim"], row["num_samples"]) for row in rows] == [("2", "1"), ("2", "2"), ("3", "1"), ("3", "2")]
    columns = set(rows[0]) & set(metrics(next(tmp_path.rglob("metrics.csv")).parent)[0])
    assert columns >= {"num_train_samples", "train_elbo", "test_elbo", "test_kl", "active_units", "seconds"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep=latent_dims=2"], "--sweep takes setting=values with one of model.name, model.latent_dim"),
        (["--sweep=latent_dim"], "--sweep takes setting=values"),
        (["--sweep=model.latent_dim=2,x"], "--latent_dim takes integers separated by commas, got 2,x"),
        (["--sweep=seed=1,1"], "--seed names a value twice: 1,1"),
        (["--sweep=objective.binarization=grey,fixed"], "bounds under different binarizations are not comparable"),
        (["--sweep=posterior=flow"], 'use kl="sampled"'),
    ],
)
def test_what_is_crossed_is_named(arguments, message, data_dir, tmp_path):
    small = ("--dataset=digits", "--num_processes=1", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'sweep'}")
    assert_one_line_error(experiment("sweep", *small, *arguments), message)
    assert not (tmp_path / "sweep").exists()
