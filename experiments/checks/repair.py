"""Rebuild what can be rebuilt of a run folder, and move the rest aside; nothing is deleted.

Each step is written completely before the next begins, and each inspects the folder anew, so a repair that was killed
can be run again to do the rest.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from aevb.checkpoints import CHECKPOINT_FOLDER, Checkpoints
from aevb.data import DatasetError, Splits
from aevb.durable import make_folder, sync, write_whole
from aevb.saved import CONFIG_FILE
from aevb.training import Evaluation
from aevb.training.divergence import DivergedError
from experiments import configs
from experiments.checks.comparisons import REBUILT
from experiments.checks.inspection import Inspection, inspect
from experiments.configs import Config
from experiments.runs import metrics_file
from experiments.runs.closing import closing_summary
from experiments.runs.folder import METRICS_FILE, SUMMARY_FILE, RunFolder
from experiments.runs.program import Program

DAMAGED_FOLDER = "damaged"
"""The folder in a run folder for files that a repair could not use."""

Load = Callable[[Config], Splits]


def repair(path: Path, load: Load) -> Iterator[str]:
    """Repair a locked run folder, yielding a description of each action.

    Args:
      path: the folder.
      load: returns the data of a configuration; called only if a checkpoint has to be evaluated again.

    Raises:
      OSError, RunError: the folder cannot be written to.
    """
    found = inspect(path)
    for step in found.unusable:
        yield _move(path, f"{CHECKPOINT_FOLDER}/{step}")
    if found.config is None:
        if (path / CONFIG_FILE).exists():
            yield _move(path, CONFIG_FILE)
        return
    try:
        yield from _repair_metrics(path, load)
        yield from _repair_summary(path, load)
    except (DatasetError, DivergedError, ValueError) as error:
        yield f"cannot evaluate a checkpoint again: {' '.join(str(error).split())}"


def _repair_metrics(path: Path, load: Load) -> Iterator[str]:
    """Evaluate the checkpoints without a correct row again, and write all rows."""
    found = inspect(path)
    if found.config is None or _is_ok(found, METRICS_FILE):
        return
    program = None
    if found.usable:
        configs.check(found.config)  # raises if this process lacks the precision of the run
        splits = load(found.config)
        found = inspect(path, len(splits.train.images))  # now it is certain when the run was evaluated
        assert found.config is not None
        program = Program([found.config], splits)
    new = [] if program is None else _evaluated(found, program)
    old = found.history
    rebuilt = {line.row.num_train_samples for line in found.lines or [] if line.row is not None and line.is_rebuilt}
    if new and not old and (path / METRICS_FILE).exists():  # perhaps only its heading is damaged
        lines = metrics_file.parse((path / METRICS_FILE).read_bytes(), like=new[0])
        old = [line.row for line in lines if line.row is not None]
        rebuilt = {line.row.num_train_samples for line in lines if line.row is not None and line.is_rebuilt}
        new = [row for row in new if row.num_train_samples not in {each.num_train_samples for each in old}]
    rows = sorted([*old, *new], key=lambda row: row.num_train_samples)
    lost = len(found.lines or []) - len(rows)
    if (path / METRICS_FILE).exists():
        if not rows:
            yield _move(path, METRICS_FILE)
            return
        yield _copy(path, METRICS_FILE)
    if rows:
        # Whole or not at all; the summary is rebuilt from these rows afterwards.
        rebuilt |= {row.num_train_samples for row in new}
        write_whole(path / METRICS_FILE, metrics_file.text_of(rows, rows[0], rebuilt).encode())
        yield (
            f"{METRICS_FILE}: rows kept: {len(old)}, evaluated again from their checkpoints: {len(new)}, lost without "
            f"a checkpoint: {max(lost, 0)}"
        )


def _evaluated(found: Inspection, program: Program) -> list[Evaluation]:
    """Return the rows of the checkpoints whose rows are missing or damaged."""
    assert found.config is not None
    rows = []
    checkpoints = Checkpoints(found.path / CHECKPOINT_FOLDER, read_only=True)
    try:
        for step in found.to_evaluate:
            restored = checkpoints.restore(step, program.template(found.config))
            rows.append(program.evaluate(found.config, restored.state, restored.seconds or 0.0))
    finally:
        checkpoints.close()
    return rows


def _repair_summary(path: Path, load: Load) -> Iterator[str]:
    """Rebuild the summary from the last checkpoint if the run ends with it; otherwise move the summary away."""
    found = inspect(path)
    if found.config is None or found.timetable is None or _is_ok(found, SUMMARY_FILE):
        return
    history, batch_size = found.history, found.config.optimizer.batch_size
    step = history[-1].num_train_samples // batch_size if history else -1
    can_be_rebuilt = step in found.usable and _is_ok(found, METRICS_FILE) and found.timetable.is_end(history[-1])
    if can_be_rebuilt:
        configs.check(found.config)
        splits = load(found.config)
        program = Program([found.config], splits)
        checkpoints = Checkpoints(path / CHECKPOINT_FOLDER, read_only=True)
        try:
            state = checkpoints.restore(step, program.template(found.config)).state
            best = checkpoints.best_step()
            best = None if best is None else checkpoints.restore_params(best)
        finally:
            checkpoints.close()
        summary = closing_summary(found.config, path.name, splits, history, state, best)
        if (path / SUMMARY_FILE).exists():
            yield _copy(path, SUMMARY_FILE)
        RunFolder(path, found.config).write_summary(summary | {REBUILT: True})
        yield f"{SUMMARY_FILE}: written again from checkpoint {step}"
    elif (path / SUMMARY_FILE).exists():
        yield _move(path, SUMMARY_FILE)
        yield f"{SUMMARY_FILE} cannot be written again without the last checkpoint: --resume continues the run"


def _is_ok(found: Inspection, what: str) -> bool:
    return all(finding.state == "ok" for finding in found.findings if finding.what == what)


def _move(path: Path, what: str) -> str:
    """Move a file into the folder of damaged files, under a free name."""
    place = _free(path / DAMAGED_FOLDER / what)
    make_folder(place.parent.absolute())
    os.rename(path / what, place)
    sync(place.parent)
    sync((path / what).parent)
    return f"{what} moved to {place.relative_to(path)}"


def _copy(path: Path, what: str) -> str:
    """Copy a file into the folder of damaged files before it is replaced, unless an identical copy exists."""
    place, contents = path / DAMAGED_FOLDER / what, (path / what).read_bytes()
    make_folder(place.parent.absolute())
    known = [other for other in place.parent.glob(f"{place.name}*") if other.read_bytes() == contents]
    place = known[0] if known else _free(place)
    if not known:
        write_whole(place, contents)
    return f"{what} kept as {place.relative_to(path)}"


def _free(place: Path) -> Path:
    """Return a path that does not exist."""
    number, found = 0, place
    while found.exists():
        number += 1
        found = place.with_name(f"{place.name}.{number}")
    return found
