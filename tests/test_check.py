"""The findings and repairs of `experiments.check` in run folders."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from aevb.checkpoints import Checkpoints
from aevb.manifests import MANIFEST_FILE, sealed, unsealed
from experiments.checks import repair as repairs
from experiments.checks.inspection import Finding, inspect
from experiments.checks.repair import repair
from experiments.runs import metrics_file
from experiments.runs.folder import RunFolder
from tests.runs import tiny_config, tiny_splits, train_into

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SPLITS = tiny_splits()
CONFIG = tiny_config(SPLITS, hidden_dim=[100], param_dtype="float32", num_epochs=4, eval_every=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run with rows and checkpoints at epochs 0, 2 and 4; 11 steps per epoch."""
    train_into(folder := tmp_path_factory.mktemp("runs") / "run", CONFIG, SPLITS)
    return folder


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """A copy of the run to damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def wrong(folder: Path) -> list[Finding]:
    return [finding for finding in inspect(folder).findings if finding.state != "ok"]


def repaired(folder: Path) -> list[str]:
    return list(repair(folder, lambda config: SPLITS))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def history(folder: Path) -> list:
    return RunFolder(folder, CONFIG).read_metrics()


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def change_digit(folder: Path, row: int) -> None:
    """Change the last digit of the training bound of a row."""
    lines = (folder / "metrics.csv").read_text().split("\n")
    cells = lines[row].split(",")
    cells[2] = cells[2][:-1] + str((int(cells[2][-1]) + 1) % 10)
    lines[row] = ",".join(cells)
    (folder / "metrics.csv").write_text("\n".join(lines))


def damage_checkpoint(folder: Path, step: int) -> None:
    path = max((folder / "checkpoints" / str(step)).rglob("*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:10])


def change_summary(folder: Path, **values: object) -> None:
    found = unsealed(json.loads((folder / "summary.json").read_text()))
    (folder / "summary.json").write_text(json.dumps(sealed(found | values)))


def test_a_run_that_is_well(folder):
    before = contents(folder)
    found = inspect(folder)
    names = ["config.json", "checkpoints/0", "checkpoints/22", "checkpoints/44", "metrics.csv", "summary.json"]
    assert found.findings == [Finding(name, "ok") for name in names]
    assert found.is_well
    assert repaired(folder) == []
    assert contents(folder) == before


REBUILT: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "a digit": (lambda folder: change_digit(folder, 2), "metrics.csv", "damaged", "row 2: its checksum does not match"),
    "the heading": (
        lambda folder: change(folder / "metrics.csv", "test_elbo", "tesu_elbo"),
        *("metrics.csv", "damaged", "row 1: its checksum does not match; row 2"),
    ),
    "the last row": (
        lambda folder: (folder / "metrics.csv").write_text(
            "".join((folder / "metrics.csv").read_text().splitlines(keepends=True)[:-1])
        ),
        *("metrics.csv", "damaged", "it has no row of step 44, which has a checkpoint"),
    ),
    "no metrics": (lambda folder: (folder / "metrics.csv").unlink(), "metrics.csv", "missing", ""),
    "empty metrics": (lambda folder: (folder / "metrics.csv").write_text(""), "metrics.csv", "damaged", "no heading"),
    "no summary": (lambda folder: (folder / "summary.json").unlink(), "summary.json", "missing", "reached its end"),
    "a summary cut short": (
        lambda folder: (folder / "summary.json").write_text((folder / "summary.json").read_text()[:100]),
        *("summary.json", "damaged", "cannot be read"),
    ),
    "another summary": (
        lambda folder: change(folder / "summary.json", '"num_parameters": ', '"num_parameters": 1'),
        *("summary.json", "damaged", "it has changed since it was written"),
    ),
    "a summary of another run": (
        lambda folder: change_summary(folder, test_elbo=-1.0),
        *("summary.json", "damaged", "its test_elbo is -1.0, but -"),
    ),
}


@pytest.mark.parametrize(("damage", "what", "state", "why"), REBUILT.values(), ids=REBUILT)
def test_what_is_rebuilt(folder, finished, damage, what, state, why):
    damage(folder)
    before = contents(folder)
    (found,) = wrong(folder)
    assert (found.what, found.state) == (what, state)
    assert why in found.why
    done = repaired(folder)
    assert done
    assert inspect(folder).is_well, wrong(folder)
    # The bits are those that training reported, including the seconds, which the checkpoints store.
    assert history(folder) == history(finished)
    one, other = (RunFolder(each, CONFIG).read_summary() for each in (folder, finished))
    assert {name: one[name] for name in other} == other
    assert one.get("rebuilt", False) == (what == "summary.json")
    kept = set(contents(folder).values())
    assert all(text in kept for name, text in before.items() if name != ".lock")  # nothing is deleted
    before = contents(folder)
    assert repaired(folder) == []
    assert contents(folder) == before


def test_rows_that_were_evaluated_again_are_marked(folder):
    change_digit(folder, 2)
    repaired(folder)
    lines = metrics_file.parse((folder / "metrics.csv").read_bytes())
    assert [line.is_rebuilt for line in lines] == [False, True, False]
    assert Finding("metrics.csv", "ok", "1 of 3 rows rebuilt by a repair") in inspect(folder).findings


def test_a_row_without_its_checkpoint_is_lost_and_said_so(folder, finished):
    change_digit(folder, 2)
    shutil.rmtree(folder / "checkpoints" / "22")
    done = repaired(folder)
    assert "rows kept: 2, evaluated again from their checkpoints: 0, lost without a checkpoint: 1" in done[-1]
    assert history(folder) == [history(finished)[0], history(finished)[2]]
    assert inspect(folder).is_well


def test_a_damaged_checkpoint_is_moved(folder):
    damage_checkpoint(folder, 22)
    there = contents(folder / "checkpoints" / "22")
    (found,) = wrong(folder)
    assert found == ("checkpoints/22", "damaged", "is damaged: its files have changed since they were written")
    assert repaired(folder) == ["checkpoints/22 moved to damaged/checkpoints/22"]
    assert contents(folder / "damaged" / "checkpoints" / "22") == there
    assert inspect(folder).is_well
    # Another checkpoint of that name does not replace it.
    shutil.copytree(folder / "damaged" / "checkpoints" / "22", folder / "checkpoints" / "22")
    assert repaired(folder) == ["checkpoints/22 moved to damaged/checkpoints/22.1"]


def test_the_last_checkpoint_cannot_be_rebuilt(folder):
    damage_checkpoint(folder, 44)
    repaired(folder)
    assert wrong(folder) == [Finding("checkpoints/44", "missing", "without summary.json, --resume trains it again")]
    assert repaired(folder) == []
    (folder / "summary.json").write_text("{")
    assert "--resume continues the run" in repaired(folder)[-1]
    train_into_end(folder)
    assert inspect(folder).is_well


def train_into_end(folder: Path) -> None:
    from experiments.runs.run import Options, Run, train

    train(Run(CONFIG, folder, "run"), SPLITS, Options(keep_all_checkpoints=True, draw_pictures=False))


def test_a_checkpoint_of_another_model_is_named_and_left(folder, tmp_path):
    other = tmp_path / "other"
    train_into(other, tiny_config(SPLITS, hidden_dim=[7], param_dtype="float32", num_epochs=0), SPLITS)
    shutil.rmtree(folder / "checkpoints" / "0")
    shutil.copytree(other / "checkpoints" / "0", folder / "checkpoints" / "0")
    found = wrong(folder)[0]
    assert (found.what, found.state) == ("checkpoints/0", "damaged")
    assert "it does not fit config.json: holds parameters of another model" in found.why
    repaired(folder)
    assert (folder / "checkpoints" / "0").exists()


def test_a_row_that_its_checkpoint_contradicts(folder, finished):
    """Rows of older versions have no checksum and are compared with the checkpoint saved with them."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    text = "".join(f"{line.rpartition(',')[0]}\n" for line in lines)
    (folder / "metrics.csv").write_text(text)
    assert inspect(folder).is_well
    seconds = str(history(finished)[1].seconds)
    change(folder / "metrics.csv", seconds, "1234.5")
    (found,) = wrong(folder)
    assert found.why.startswith("row 2: its seconds are 1234.5, but ")
    repaired(folder)
    assert history(folder) == history(finished)


def test_a_configuration_cannot_be_rebuilt(folder):
    change(folder / "config.json", '"seed": 0', '"seed": 1')
    before = (folder / "config.json").read_bytes()
    found = wrong(folder)[0]
    assert (found.what, found.state) == ("config.json", "damaged")
    assert repaired(folder) == ["config.json moved to damaged/config.json"]
    assert (folder / "damaged" / "config.json").read_bytes() == before
    assert wrong(folder)[0] == ("config.json", "missing", "nothing else describes the run: restore the file")
    assert repaired(folder) == []


def test_what_a_kill_of_a_run_leaves_is_well(folder):
    """The cases: a row without its checkpoint, a checkpoint without checksums, an unfinished save, no summary."""
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "44")
    (folder / "checkpoints" / "22" / MANIFEST_FILE).unlink()
    (folder / "checkpoints" / "44.orbax-checkpoint-tmp").mkdir()
    with (folder / "metrics.csv").open("a") as file:
        file.write("5,1100,-1.5")
    found = inspect(folder)
    assert [finding.state for finding in found.findings if finding.what != "summary.json"] == ["ok"] * 4
    shutil.rmtree(folder / "checkpoints")
    (folder / "metrics.csv").unlink()
    assert inspect(folder).is_well
    assert repaired(folder) == []


def test_an_interrupted_run_is_well(tmp_path):
    """A checkpoint between two evaluations has no row."""
    train_into(folder := tmp_path / "run", CONFIG, SPLITS)
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "44")
    checkpoints = Checkpoints(folder / "checkpoints", keep_all=True)
    from experiments.runs.program import Program

    state = checkpoints.restore(22, Program([CONFIG], SPLITS).template(CONFIG)).state
    checkpoints.save(state._replace(step=state.step + 11), float("nan"), 9.0)
    checkpoints.close()
    lines = (folder / "metrics.csv").read_text().splitlines(keepends=True)
    (folder / "metrics.csv").write_text("".join(lines[:-1]))
    assert inspect(folder).is_well, wrong(folder)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_a_run_in_double_precision_is_not_evaluated_in_single(tmp_path):
    with jax.enable_x64(True):
        train_into(folder := tmp_path / "run", tiny_config(SPLITS, num_epochs=1), SPLITS)
        before = RunFolder(folder, CONFIG).read_metrics()
    (folder / "metrics.csv").unlink()
    (said,) = repaired(folder)
    assert said.startswith("cannot evaluate a checkpoint again: param_dtype=float64 would be float32")
    assert not (folder / "metrics.csv").exists()
    with jax.enable_x64(True):
        repaired(folder)
    assert history(folder) == before


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_repair_that_is_killed_anywhere_is_run_again(finished, tmp_path, monkeypatch):
    """It is stopped at each of its waits for the disk, and before each rename."""
    rows = {int(row.num_train_samples) // 20: row for row in history(finished)}
    summary = RunFolder(finished, CONFIG).read_summary()
    monkeypatch.setattr(repairs.Program, "evaluate", lambda self, config, state, seconds: rows[int(state.step)])
    monkeypatch.setattr(repairs, "closing_summary", lambda *arguments: summary)
    left = [0]

    def counted(function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return function(*arguments)

        return call

    for name in ("fsync", "replace", "rename"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    moment, was_killed = 0, True
    while was_killed:
        moment += 1
        shutil.copytree(finished, folder := tmp_path / str(moment))
        change_digit(folder, 3)
        damage_checkpoint(folder, 22)
        change(folder / "summary.json", '"num_parameters": ', '"num_parameters": 1')
        before = contents(folder)
        left[0] = moment
        was_killed = False
        try:
            repaired(folder)
        except Killed:
            was_killed = True
            left[0] = 0
            repaired(folder)
        assert inspect(folder).is_well, (moment, wrong(folder))
        assert history(folder) == history(finished)
        assert set(before.values()) <= set(contents(folder).values())
        damaged = {path.name for path in (folder / "damaged").rglob("*")}
        assert not {"metrics.csv.1", "summary.json.1"} & damaged
    assert moment > 12
