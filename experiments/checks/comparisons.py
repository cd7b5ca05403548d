"""Comparisons between a run's files: rows with checkpoints, the summary with its row."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aevb.checkpoints import CHECKPOINT_FOLDER, RunError
from aevb.manifests import CHECKSUM, Manifest, read_manifest
from aevb.training import Evaluation
from experiments.checks.timetable import Timetable
from experiments.runs.folder import RunFolder

REBUILT = "rebuilt"
"""The entry that marks a summary.json written by a repair."""

_FIELDS = {  # field of summary.json: field of the row
    **{name: name for name in ("train_elbo", "test_elbo", "test_reconstruction", "test_kl", "active_units")},
    "num_epochs": "epoch",
    "train_seconds": "seconds",
}


def age_of(path: Path) -> str:
    """Return notes on a readable JSON file: that it has no checksum, or was rebuilt."""
    contents = json.loads(path.read_text())
    version = contents.get("format_version")
    notes = [] if CHECKSUM in contents else ["without a checksum, as older versions wrote it"]
    notes += [f"format {version}"] if version is not None and CHECKSUM not in contents else []
    notes += ["rebuilt by a repair"] if REBUILT in contents else []
    return "; ".join(notes)


def manifest_of(path: Path, step: int) -> Manifest | None:
    """Return the manifest of a checkpoint; `None` if there is none or it cannot be read."""
    try:
        return read_manifest(path / CHECKPOINT_FOLDER / str(step))
    except (OSError, ValueError):
        return None


def contradiction(row: Evaluation, path: Path, step: int) -> str:
    """Return how a row differs from the checkpoint saved with it; empty if they agree."""
    manifest = manifest_of(path, step)
    if manifest is None or manifest.is_older:
        return ""
    bound = manifest.valid_bound
    if bound is not None and bound != row.valid_bound:
        return f"its validation bound is {row.valid_bound}, but {bound} in its checkpoint"
    if manifest.seconds != row.seconds:
        return f"its seconds are {row.seconds}, but {manifest.seconds} in its checkpoint"
    return ""


def must_have_row(path: Path, timetable: Timetable | None, step: int) -> bool:
    """Return whether a checkpoint was saved at an evaluation rather than between two."""
    manifest = manifest_of(path, step)
    if manifest is not None and manifest.valid_bound is not None:
        return True
    return timetable is not None and timetable.is_evaluation(step)


def summary_or_none(folder: RunFolder) -> dict[str, Any] | None:
    """Return the summary of a run; `None` if it is missing or does not give the length of the run."""
    try:
        summary = folder.read_summary()
    except (FileNotFoundError, RunError):
        return None
    counts = (summary["num_train_samples"], summary["num_epochs"])
    return summary if all(isinstance(count, int) for count in counts) else None


def difference(summary: Mapping[str, Any], row: Evaluation) -> str:
    """Return how a summary differs from its row; empty if they agree."""
    for name, field in _FIELDS.items():
        value = getattr(row, field)
        value = None if isinstance(value, float) and not math.isfinite(value) else value
        if name in summary and summary[name] != value:
            return f"its {name} is {summary[name]}, but {value} in metrics.csv"
    return ""
