"""One run folder of each past format, written by the first version that had it, works like a current one.

tests/data/run_format_N was written by the following command at commits 060d9a3^ (1), 94c0082^ (2) and 94c0082 (3),

    python -m experiments.digits --latent_dim=2 --hidden_dim=4 --num_epochs=3 --eval_every=1 --learning_rate=0.01

without figures and TensorBoard. The folder name in Orbax's commit_success.txt and its checksum were changed.
"""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import aevb
from aevb.saved import FORMAT_VERSION
from experiments import config_files
from experiments.checks.inspection import inspect
from tests.conftest import ROOT
from tests.processes import experiment, metrics, without_seconds

DATA = ROOT / "tests" / "data"
FORMATS = [1, 2, 3]
FLAGS = ("--latent_dim=2", "--hidden_dim=4", "--eval_every=1", "--learning_rate=0.01", "--seed=0", "--nodraw_pictures")


def of_format(version: int) -> Path:
    return DATA / f"run_format_{version}"


def test_every_format_is_here():
    assert max(FORMATS) == FORMAT_VERSION
    assert sorted(path.name for path in DATA.iterdir()) == [f"run_format_{version}" for version in FORMATS]
    for version in FORMATS:
        assert json.loads((of_format(version) / "config.json").read_text())["format_version"] == version
        assert sum(path.stat().st_size for path in of_format(version).rglob("*") if path.is_file()) < 300_000


@pytest.mark.parametrize("version", FORMATS)
def test_it_loads(version):
    """Its parameters give the bound of its last row."""
    model, params = aevb.load_run(of_format(version))
    images = aevb.data.load("digits", "test").pixels()
    bound = aevb.evaluate(params, jax.random.key(0), images, model)
    assert bound.elbo == pytest.approx(float(metrics(of_format(version))[-1]["test_elbo"]), abs=0.3)  # different draws
    _, best = aevb.load_run(of_format(version), 14)
    assert not np.allclose(jax.tree.leaves(best)[1], jax.tree.leaves(params)[1])


@pytest.mark.parametrize("version", FORMATS)
def test_check_finds_it_well(version, tmp_path):
    found = inspect(shutil.copytree(of_format(version), tmp_path / "run"))
    assert found.is_well
    assert found.findings[0].why == f"without a checksum, as older versions wrote it; format {version}"


@pytest.mark.parametrize("version", FORMATS)
def test_check_rebuilds_its_rows(version, tmp_path):
    """Rows are rebuilt by today's evaluation, to the same numbers where the arithmetic is the same."""
    from experiments.checks.repair import repair
    from experiments.runs.folder import RunFolder
    from experiments.runs.splits import load_splits

    folder = shutil.copytree(of_format(version), tmp_path / "run")
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(re.sub(r"\n2,2800,", "\n2,28x0,", text))
    assert not inspect(folder).is_well
    list(repair(folder, lambda config: load_splits(config, None)))
    assert inspect(folder).is_well
    rows = RunFolder(folder, config_files.read(folder)).read_metrics()
    for row, before in zip(rows, metrics(of_format(version)), strict=True):
        assert row.test_elbo == pytest.approx(float(before["test_elbo"]), rel=1e-5)
        assert row.seconds == float(before["seconds"])


@pytest.mark.slow
def test_they_go_on(data_dir, tmp_path):
    """They resume in real processes, to the numbers of a run of today."""
    command = ("digits", *FLAGS, f"--data_dir={data_dir}", "--num_epochs=5")
    done = experiment(*command, f"--workdir={tmp_path / 'today'}")
    assert done.returncode == 0, done.stderr
    today = without_seconds(metrics(tmp_path / "today"))
    for version in FORMATS:
        folder = shutil.copytree(of_format(version), tmp_path / str(version))
        done = experiment(*command, f"--workdir={folder}", "--resume")
        assert (done.returncode, done.stderr) == (0, "")
        found = without_seconds(metrics(folder))
        assert [row["epoch"] for row in found] == ["0", "1", "2", "3", "4", "5"]
        for row, expected in zip(found, today, strict=True):
            assert float(row["test_elbo"]) == pytest.approx(float(expected["test_elbo"]), rel=1e-4)
        assert json.loads((folder / "config.json").read_text())["format_version"] == FORMAT_VERSION
        assert inspect(folder).is_well
        (line,) = [line for line in experiment("check", f"--run={folder}").stdout.splitlines() if "config.json" in line]
        assert line.split() == ["config.json", "ok"]
