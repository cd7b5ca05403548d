"""What a run must have and lacks: checkpoints that went away, and a folder that was removed under a run."""

import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from aevb.algorithms import TrainState
from aevb.checkpoints import Checkpoints, RunError, RunWarning
from aevb.saved import CONFIG_FILE
from aevb.training import Evaluation
from experiments.runs.folder import METRICS_FILE, RunFolder


def check_checkpoints(folder: RunFolder, batch_size: int, step: int | None) -> None:
    """Name the checkpoint that a run must have had and has not.

    A row of metrics is written, then its checkpoint, then the next row: all rows but the last had theirs.

    Args:
      folder: of the run.
      batch_size: M.
      step: of the checkpoint that the run goes on from; `None` where there is none.

    Raises:
      RunError: there is no checkpoint at all.
    """
    if not (folder.path / METRICS_FILE).exists():
        return
    steps = [row.num_train_samples // batch_size for row in folder.read_metrics()]
    if len(steps) < 2 or (step is not None and step >= steps[-2]):
        return
    if step is None:
        raise RunError(
            f"{folder.checkpoints} has no checkpoint, and {METRICS_FILE} has rows up to step {steps[-1]}: put the "
            f"checkpoints back, or remove {folder.path} to start anew"
        )
    warnings.warn(
        f"checkpoint {steps[-2]} or a later one is missing in {folder.checkpoints}: the run goes on from {step}",
        RunWarning,
        stacklevel=2,
    )


def is_lost(folder: RunFolder, seconds: float = 0.0) -> bool:
    """Return whether a run folder was removed while it was trained, or is within so many seconds: that takes time."""
    deadline = time.monotonic() + seconds
    while (folder.path / CONFIG_FILE).exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def rescue(
    folder: RunFolder, history: Sequence[Evaluation], state: TrainState, valid_bound: float, seconds: float
) -> RunError:
    """Save a run whose folder is gone into another one, and return the error that says where.

    Args:
      folder: that is gone.
      history: of the run, at least one row.
      state: to save.
      valid_bound: of that state; not a number where there is none.
      seconds: of training so far.
    """
    gone = f"{folder.path} was removed while its run went on"
    for path in (_free(folder.path.parent, folder.path.name), _free(Path(tempfile.gettempdir()), folder.path.name)):
        try:
            new = RunFolder(path, folder.config)
            new.create()
            new.start_metrics(list(history), history[-1])
            checkpoints = Checkpoints(new.checkpoints)
            checkpoints.save(state, valid_bound, seconds)
            checkpoints.close()
            new.unlock()
        except RunError:
            continue
        return RunError(f"{gone}: the run is saved in {path}, and goes on with --workdir={path} --resume")
    return RunError(f"{gone}, and it could be saved neither beside it nor in {tempfile.gettempdir()}")


def _free(parent: Path, name: str) -> Path:
    """Return the path of a folder that is not there yet."""
    number, path = 1, parent / f"{name}.rescued"
    while path.exists():
        number += 1
        path = parent / f"{name}.rescued-{number}"
    return path
