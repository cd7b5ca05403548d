"""The command that measures gradient variances, as users run it."""

import json

import numpy as np
import pytest

from aevb import figures
from tests.processes import assert_one_line_error, experiment
from tests.test_experiments import size_of_png


@pytest.mark.slow
def test_a_small_run_and_no_overwriting(data_dir, tmp_path):
    arguments = (f"--data_dir={data_dir}", f"--workdir={tmp_path}", "--dataset=digits", "--hidden_dim=16")
    done = experiment("gradient_variance", *arguments, "--latent_dim=5", "--num_samples=4", "--num_draws=20")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["num_draws"], results["num_samples"], results["seed"]) == (20, 4, 0)
    rows = results["rows"]
    assert len(rows) == 2 * (4 + 5 + 4)
    trained = [row for row in rows if row["stage"] == "after 1 epoch"]
    variances = {(row["name"], row["num_samples"]): row["encoder"]["total_variance"] for row in trained}
    assert all(value > 0 for value in variances.values())
    for bound in ("L^B", "L_K"):
        pathwise, score = variances[f"{bound}, pathwise", 4], variances[f"{bound}, score function", 4]
        assert score > 100 * pathwise
        assert score > 10 * variances[f"{bound}, score function, leave one out", 4]
    # The variance of a mean is inversely proportional to the number of samples of z.
    assert 2.5 < variances["L^A, pathwise", 1] / variances["L^A, pathwise", 4] < 6.5
    for row in rows:
        if row["name"] == row["reference"]:
            assert row["encoder"]["ratio_to_reference"] == row["decoder"]["ratio_to_reference"] == 1
    width, height = size_of_png(tmp_path / "gradient_variance.png")
    assert width > 800
    assert height > 400

    before = (tmp_path / "results.json").read_bytes()
    again = experiment("gradient_variance", *arguments)
    assert_one_line_error(again, "holds results already: choose another --workdir, or remove that folder")
    assert (tmp_path / "results.json").read_bytes() == before


def test_too_few_samples_for_a_baseline_are_refused(tmp_path):
    done = experiment("gradient_variance", "--num_samples=1", f"--workdir={tmp_path / 'run'}")
    assert_one_line_error(done, "num_samples")
    assert not (tmp_path / "run").exists()


def test_the_figure_shows_every_number():
    variances = np.exp(np.arange(12.0)).reshape(2, 2, 3)
    groups = [("a", "one"), ("b", "one"), ("c", "two")]
    figure = figures.gradient_variances(variances, ("encoder", "decoder"), ("initial", "later"), groups, "title")
    shown = [line.get_xdata() for axes in figure.axes for line in axes.get_lines()]
    np.testing.assert_array_equal(np.concatenate(shown), variances.ravel())
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert sorted(labels) == ["a", "b", "c", "one", "two"]
