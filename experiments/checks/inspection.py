"""Inspection of a run folder, without the data that the run was trained on."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from aevb.checkpoints import CHECKPOINT_FOLDER, Checkpoints, RunError, open_checkpoints
from aevb.manifests import read_manifest
from aevb.model import Params
from aevb.saved import CONFIG_FILE, params_like, read_config, shapes_of
from experiments import config_files
from experiments.checks import comparisons
from experiments.checks.timetable import Timetable
from experiments.configs import Config
from experiments.runs import metrics_file
from experiments.runs.folder import METRICS_FILE, SUMMARY_FILE, RunFolder
from experiments.runs.metrics_file import Line

_NO_CHECKSUM = "without a checksum, as older versions wrote it"


class Finding(NamedTuple):
    """The state of one file or checkpoint in a run folder.

    Attributes:
      what: its path in the run folder.
      state: its state.
      why: what is wrong with it, or a note.
    """

    what: str
    state: Literal["ok", "missing", "damaged"]
    why: str = ""


@dataclasses.dataclass
class Inspection:
    """The result of inspecting a run folder.

    Attributes:
      path: the folder.
      findings: the findings, in the order of the table.
      config: the configuration; `None` if it cannot be read.
      timetable: when the run is evaluated, as far as that is known.
      usable: steps of the usable checkpoints, in order.
      unusable: steps of the checkpoints that cannot be read.
      lines: the lines of metrics.csv; `None` if it is missing or has no heading.
      to_evaluate: steps with a usable checkpoint whose rows are missing or damaged.
      wrong_rows: indices of the lines that are damaged or contradicted by a checkpoint.
    """

    path: Path
    findings: list[Finding] = dataclasses.field(default_factory=list)
    config: Config | None = None
    timetable: Timetable | None = None
    usable: list[int] = dataclasses.field(default_factory=list)
    unusable: list[int] = dataclasses.field(default_factory=list)
    lines: list[Line] | None = None
    to_evaluate: list[int] = dataclasses.field(default_factory=list)
    wrong_rows: set[int] = dataclasses.field(default_factory=set)

    @property
    def is_well(self) -> bool:
        """Whether nothing is missing or damaged."""
        return all(finding.state == "ok" for finding in self.findings)

    @property
    def history(self) -> list[metrics_file.Evaluation]:
        """The correct rows, in order."""
        lines = enumerate(self.lines or [])
        return [line.row for number, line in lines if line.row is not None and number not in self.wrong_rows]


def inspect(path: Path, num_train: int | None = None) -> Inspection:
    """Inspect a run folder; nothing is written.

    Args:
      path: the folder.
      num_train: the number of training datapoints; by default the epoch length is inferred from metrics.csv.
    """
    found = Inspection(path)
    found.findings.append(_config(found))
    checkpoints = list(_checkpoints(found))
    found.lines, wrong = _read_lines(path)
    if found.config is not None:
        rows = [line.row for line in found.lines or []]
        summary = comparisons.summary_or_none(RunFolder(path, found.config))
        found.timetable = Timetable.of(found.config, rows, summary, num_train)
    found.findings += checkpoints + list(_missing_checkpoints(found))
    metrics = _metrics(found)
    found.findings.append(wrong or metrics)
    found.findings.append(_summary(found))
    return found


def _config(found: Inspection) -> Finding:
    try:
        contents = read_config(found.path)
        found.config = config_files.read(found.path)
        shapes_of(contents)
    except RunError as error:
        if not (found.path / CONFIG_FILE).exists():
            return Finding(CONFIG_FILE, "missing", "nothing else describes the run: restore the file")
        return Finding(CONFIG_FILE, "damaged", _reason(error, found.path / CONFIG_FILE))
    except (KeyError, TypeError, ValueError) as error:
        found.config = None
        return Finding(CONFIG_FILE, "damaged", f"it describes no model: {' '.join(str(error).split())}")
    return Finding(CONFIG_FILE, "ok", comparisons.age_of(found.path / CONFIG_FILE))


def _checkpoints(found: Inspection) -> Iterator[Finding]:
    """Yield the state of each checkpoint, read completely and compared with its checksums and the configuration."""
    if not (found.path / CHECKPOINT_FOLDER).is_dir():
        return
    shapes = None if found.config is None else shapes_of(read_config(found.path))
    try:
        checkpoints = open_checkpoints(found.path)
    except RunError as error:
        yield Finding(CHECKPOINT_FOLDER, "damaged", str(error))
        return
    try:
        for step in checkpoints.steps():
            yield _checkpoint(found, checkpoints, step, shapes)
    finally:
        checkpoints.close()


def _checkpoint(found: Inspection, checkpoints: Checkpoints, step: int, shapes: Params | None) -> Finding:
    what, folder = f"{CHECKPOINT_FOLDER}/{step}", found.path / CHECKPOINT_FOLDER / str(step)
    try:
        params = checkpoints.restore_params(step)
    except RunError as error:
        found.unusable.append(step)
        return Finding(what, "damaged", _reason(error, f"checkpoint {step} in {folder.parent.absolute()}"))
    try:
        if shapes is not None:
            params_like(shapes, params, found.path)
    except RunError as error:  # it is unknown which of the two is wrong, so neither is moved away
        return Finding(what, "damaged", f"it does not fit {CONFIG_FILE}: {_reason(error, found.path)}")
    found.usable.append(step)
    return Finding(what, "ok", "" if read_manifest(folder) else _NO_CHECKSUM)


def _read_lines(path: Path) -> tuple[list[Line] | None, Finding | None]:
    try:
        return metrics_file.parse((path / METRICS_FILE).read_bytes()), None
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, csv.Error) as error:
        return None, Finding(METRICS_FILE, "damaged", str(error))


def _missing_checkpoints(found: Inspection) -> Iterator[Finding]:
    """Yield the last checkpoint that the run must have had, if it is missing: every row but the last had one."""
    if found.config is None or found.timetable is None:
        return
    batch_size = found.config.optimizer.batch_size
    steps = [row.num_train_samples // batch_size for row in found.history]
    must = steps[-2] if len(steps) > 1 else -1
    must = max(must, -1 if found.timetable.end is None else found.timetable.end)
    if must > max([*found.usable, *found.unusable], default=-1):
        yield Finding(f"{CHECKPOINT_FOLDER}/{must}", "missing", f"without {SUMMARY_FILE}, --resume trains it again")


def _metrics(found: Inspection) -> Finding:
    """Compare the rows with the existing checkpoints, and note which steps to evaluate again."""
    if found.config is None:
        lines = found.lines or []
        bad = [f"row {number + 1}: {line.why}" for number, line in enumerate(lines) if line.why]
        return Finding(METRICS_FILE, "damaged" if bad else "ok", "; ".join(bad))
    batch_size = found.config.optimizer.batch_size
    reasons = []
    by_step: dict[int, int] = {}
    for number, line in enumerate(found.lines or []):
        if line.row is None:
            found.wrong_rows.add(number)
            reasons.append(f"row {number + 1}: {line.why}")
            continue
        step = line.row.num_train_samples // batch_size
        why = comparisons.contradiction(line.row, found.path, step) if step in found.usable else ""
        if why:
            found.wrong_rows.add(number)
            reasons.append(f"row {number + 1}: {why}")
        else:
            by_step[step] = number
    for step in found.usable:
        if step not in by_step and comparisons.must_have_row(found.path, found.timetable, step):
            found.to_evaluate.append(step)
            if found.lines is not None and not reasons:
                reasons.append(f"it has no row of step {step}, which has a checkpoint")
    if found.lines is None:
        has_begun = bool(found.usable or found.unusable)
        return Finding(METRICS_FILE, "missing" if has_begun else "ok", "" if has_begun else "not begun")
    if reasons:
        return Finding(METRICS_FILE, "damaged", "; ".join(reasons))
    unchecked = any(not line.is_checked for line in found.lines)
    rebuilt = sum(line.is_rebuilt for line in found.lines)
    notes = [_NO_CHECKSUM] if unchecked else []
    notes += [f"{rebuilt} of {len(found.lines)} rows rebuilt by a repair"] if rebuilt else []
    return Finding(METRICS_FILE, "ok", "; ".join(notes))


def _summary(found: Inspection) -> Finding:
    if found.config is None:
        return Finding(SUMMARY_FILE, "ok", f"not compared: {CONFIG_FILE} cannot be used")
    folder = RunFolder(found.path, found.config)
    try:
        summary = folder.read_summary()
    except FileNotFoundError:
        if why := folder.read_divergence():
            return Finding(SUMMARY_FILE, "ok", f"none: {why}")
        history = found.history
        is_at_end = bool(history) and found.timetable is not None and found.timetable.is_end(history[-1])
        if is_at_end:
            return Finding(SUMMARY_FILE, "missing", "the run has reached its end")
        return Finding(SUMMARY_FILE, "ok", "none: the run is not finished, --resume continues it")
    except RunError as error:
        return Finding(SUMMARY_FILE, "damaged", _reason(error, found.path / SUMMARY_FILE))
    by_samples = {row.num_train_samples: row for row in found.history}
    row = by_samples.get(summary["num_train_samples"])
    if row is None and (found.lines is None or found.wrong_rows or found.to_evaluate):
        return Finding(SUMMARY_FILE, "ok", f"not compared with {METRICS_FILE}, which lacks its row")
    if row is None:
        samples = summary["num_train_samples"]
        return Finding(SUMMARY_FILE, "damaged", f"{METRICS_FILE} has no row after its {samples} samples")
    if different := comparisons.difference(summary, row):
        return Finding(SUMMARY_FILE, "damaged", different)
    return Finding(SUMMARY_FILE, "ok", comparisons.age_of(found.path / SUMMARY_FILE))


def _reason(error: Exception, where: object) -> str:
    """Return the message of an error, without the name of what it refers to."""
    return " ".join(str(error).split()).removeprefix(f"{where} ")
