"""The commands that reproduce the paper, as users run them, with tiny budgets."""

import csv
import json
from pathlib import Path

import pytest

from tests.processes import assert_one_line_error, experiment, metrics
from tests.test_experiments import size_of_png

FREY_EPOCH, TRIAL = 1700, 1700


@pytest.fixture(scope="module")
def sources(real_data, data_dir) -> tuple[str, ...]:
    return f"--source_dir={real_data}", f"--data_dir={data_dir}"


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def figure2(sources, tmp_path_factory) -> tuple[Path, tuple[str, ...]]:
    workdir = tmp_path_factory.mktemp("paper")
    arguments = (
        *("--latent_dim_mnist=", "--latent_dim_frey_face=2", "--step_sizes=0.01,0.02"),
        *(f"--num_trial_samples={TRIAL}", f"--num_train_samples={2 * FREY_EPOCH}", f"--workdir={workdir}", *sources),
    )
    done = experiment("figure2", *arguments)
    assert done.returncode == 0, done.stderr
    return workdir, arguments


def test_figure2_goes_on_with_the_step_size_that_did_best_on_the_training_data(figure2):
    workdir, _ = figure2
    ends = {row["algorithm"]: row for row in table(workdir / "figure2.csv")}
    assert list(ends) == ["AEVB", "wake-sleep"]
    for row, algorithm in zip(ends.values(), ("aevb", "wake_sleep"), strict=True):
        runs = {
            rate: metrics(workdir / f"frey_face/train_all/latent_2,hidden_200/{algorithm}/learning_rate_{rate},seed_0")
            for rate in ("0.01", "0.02")
        }
        at_trial = {rate: next(r for r in rs if int(r["num_train_samples"]) == TRIAL) for rate, rs in runs.items()}
        best = max(at_trial, key=lambda rate: float(at_trial[rate]["train_elbo"]))
        other = ({"0.01", "0.02"} - {best}).pop()
        assert row["learning_rate"] == best
        assert [int(run[-1]["num_train_samples"]) for run in (runs[best], runs[other])] == [2 * FREY_EPOCH, TRIAL]
        assert float(row["test_elbo"]) == pytest.approx(float(runs[best][-1]["test_elbo"]), abs=1e-4)
    assert size_of_png(workdir / "figure2.png") > (300, 200)


def test_what_is_there_is_not_trained_again(figure2):
    workdir, arguments = figure2
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("metrics.csv")}
    table_before = (workdir / "figure2.csv").read_text()
    done = experiment("figure2", *arguments)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("metrics.csv")} == before
    assert (workdir / "figure2.csv").read_text() == table_before


@pytest.mark.slow
def test_figure3_estimates_all_three_algorithms_and_keeps_the_estimates(sources, tmp_path):
    arguments = (
        *("--num_train_images=200", "--num_train_samples=400", "--num_train_samples_mcem=200", "--step_sizes=0.02"),
        *("--num_datapoints=4", f"--workdir={tmp_path}", *sources),
    )
    done = experiment("figure3", *arguments)
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "figure3.csv")
    last = {row["algorithm"]: row for row in rows}
    assert list(last) == ["AEVB", "wake-sleep", "MCEM"]
    assert [last[name]["num_train_samples"] for name in last] == ["400", "400", "200"]
    assert all(-545 < float(row["test"]) < -150 for row in rows)  # training starts at log 2 per pixel
    assert size_of_png(tmp_path / "figure3.png") > (300, 200)
    estimates = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("estimates/*.json")}
    assert json.loads(next(iter(estimates)).read_text())["log_marginal"] < 0
    assert experiment("figure3", *arguments).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("estimates/*.json")} == estimates


@pytest.mark.slow
def test_full_vb_against_map(sources, tmp_path):
    done = experiment(
        "full_vb",
        "--num_train_images=50",
        "--num_train_samples=500",
        f"--workdir={tmp_path}",
        "--latent_dim=2",
        *sources,
    )
    assert done.returncode == 0, done.stderr
    assert list(dict.fromkeys(row["method"] for row in table(tmp_path / "full_vb.csv"))) == [
        "MAP (AEVB)",
        "full variational Bayes",
    ]
    assert size_of_png(tmp_path / "full_vb.png") > (300, 150)


@pytest.mark.parametrize(
    ("figure", "arguments", "message"),
    [
        ("figure2", ["--algorithm=em"], "--algorithm takes one or more of aevb,wake_sleep, got em"),
        ("figure2", ["--step_sizes=fast"], "--learning_rate takes numbers separated by commas, got fast"),
        ("figure3", ["--num_train_samples=1,2,3"], "one per value of --num_train_images, got 3"),
        ("figure3", ["--num_train_images=70000", "--num_train_samples=100"], "mnist has 60000 train images, not 70000"),
    ],
)
def test_errors(figure, arguments, message, sources, tmp_path):
    assert_one_line_error(experiment(figure, *arguments, f"--workdir={tmp_path}/paper", *sources), message)
    assert not (tmp_path / "paper").exists()
