"""A run's config.json, metrics.csv and summary.json contain checksums that reveal changes."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

import aevb
from aevb.checkpoints import RunError
from aevb.manifests import MANIFEST_FILE, sealed, unsealed
from aevb.training import Evaluation
from experiments import config_files
from experiments.configs import Config
from experiments.runs import metrics_file
from experiments.runs.folder import RunFolder
from tests.processes import ROOT
from tests.runs import tiny_config, tiny_splits, train_into


def row(epoch: int) -> Evaluation:
    return Evaluation(epoch, 100 * epoch, -1.5 - epoch, -2.5, -2.0, 0.5, 2, 0.25 * epoch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    splits = tiny_splits()
    config = tiny_config(splits, hidden_dim=[100], param_dtype="float32")
    train_into(folder := tmp_path_factory.mktemp("runs") / "run", config, splits)
    return folder, config


def test_every_changed_character_of_a_json_file_is_noticed():
    contents = {"seed": 3, "rates": [0.1, 1e-300], "model": {"name": "mlp", "sizes": (2, 3)}, "none": None}
    text = json.dumps(sealed(contents), indent=2)
    expected = json.loads(json.dumps(contents))
    assert unsealed(json.loads(text)) == expected
    for index, character in enumerate(text):
        for other in {"7", " ", chr(ord(character) ^ 1)} - {character}:
            try:
                found = unsealed(json.loads(text[:index] + other + text[index + 1 :]))
            except ValueError:
                continue
            # White space, or the name of the checksum, without which the rest is still valid.
            assert {name: found[name] for name in expected} == expected


def test_every_changed_character_of_a_row_is_noticed():
    rows = [row(0), row(1), row(2)]
    text = metrics_file.text_of(rows, rows[0], rebuilt={100})
    lines = metrics_file.parse(text.encode())
    assert list(map(repr, (line.row for line in lines))) == list(map(repr, rows))
    assert [line.is_rebuilt for line in lines] == [False, True, False]
    start = text.index("\n") + 1
    for index in range(len(text) - 1):
        changed = text[:index] + chr(ord(text[index]) ^ 1) + text[index + 1 :]
        try:
            known = [line.row for line in metrics_file.parse(changed.encode()) if not line.why]
        except csv.Error:
            continue
        assert len(known) <= 2 if index >= start else not known, changed
        assert set(map(repr, known)) <= set(map(repr, rows))


def test_a_changed_row_is_refused_with_the_way_on(finished, tmp_path):
    folder, config = finished
    shutil.copytree(folder, copy := tmp_path / "run")
    text = (copy / "metrics.csv").read_text()
    at = text.index("\n", text.index("\n") + 1) + 5  # a digit of the second row
    (copy / "metrics.csv").write_text(text[:at] + "8" + text[at + 1 :])
    with pytest.raises(
        RunError, match=r"row 2: its checksum does not match; python -m experiments\.check --run=.*--repair"
    ):
        RunFolder(copy, config).read_metrics()


def test_a_changed_setting_is_refused(finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder, copy := tmp_path / "run")
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    for read in (config_files.read, aevb.load_run):
        with pytest.raises(RunError, match=r"config\.json cannot be read: it has changed since it was written"):
            read(copy)


def test_folders_of_older_versions_have_no_checksums(finished, tmp_path):
    folder, config = finished
    shutil.copytree(folder, copy := tmp_path / "run")
    for name in ("config.json", "summary.json"):
        contents = json.loads((copy / name).read_text())
        assert contents.pop("sha256")
        (copy / name).write_text(json.dumps(contents))
    lines = (copy / "metrics.csv").read_text().splitlines()
    (copy / "metrics.csv").write_text("".join(f"{line.rpartition(',')[0]}\n" for line in lines))
    found, expected = RunFolder(copy, config), RunFolder(folder, config)
    found.check(resume=True)
    assert found.is_finished()
    assert (found.read_metrics(), found.read_summary()) == (expected.read_metrics(), expected.read_summary())
    aevb.load_run(copy)
    # The next writer adds checksums.
    found.start_metrics(found.read_metrics(), found.read_metrics()[0])
    assert (copy / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


def test_marks_of_a_repair_outlive_a_resumption(tmp_path):
    folder = RunFolder(tmp_path, Config())
    (tmp_path / "metrics.csv").write_text(metrics_file.text_of([row(0), row(1), row(2)], row(0), rebuilt={100, 200}))
    folder.start_metrics(folder.read_metrics()[:2], row(0))
    folder.append_metrics(row(2))
    lines = metrics_file.parse((tmp_path / "metrics.csv").read_bytes())
    assert [line.is_rebuilt for line in lines] == [False, True, False]


# Orbax's messages on unreadable files, tested in separate processes whose standard error is checked


def load(folder, *prefix: str) -> subprocess.CompletedProcess:
    code = f"""
import aevb
from aevb.checkpoints import RunError
try:
    aevb.load_run({str(folder)!r})
except RunError as error:
    print("refused:", error)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*prefix, sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_damaged_checkpoint_without_its_manifest_is_one_line(finished, tmp_path):
    """Dozens of unreadable arrays used to print dozens of tracebacks."""
    folder, _ = finished
    shutil.copytree(folder, copy := tmp_path / "run")
    for step in (copy / "checkpoints").iterdir():
        (step / MANIFEST_FILE).unlink()
        for path in (step / "default" / "ocdbt.process_0" / "d").iterdir():
            path.write_bytes(path.read_bytes()[:10])
    done = load(copy)
    assert done.stdout.startswith("refused: checkpoint 22 in ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_an_unreadable_checkpoint_folder_is_one_line(finished, tmp_path):
    prefix = ()
    if os.geteuid() == 0:
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        if shutil.which("setpriv") is None:
            pytest.skip("a superuser reads everything, and setpriv is not there to give that up")
    folder, _ = finished
    shutil.copytree(folder, copy := tmp_path / "run")
    (copy / "checkpoints").chmod(0)
    done = load(copy, *prefix)
    (copy / "checkpoints").chmod(0o755)
    assert done.stdout == f"refused: cannot read {copy / 'checkpoints'}: Permission denied\n", done.stderr
    assert done.stderr == ""
