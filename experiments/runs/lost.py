"""Lost parts of a run: checkpoints that are missing, and a folder that was removed during training."""

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
    """Warn about a missing checkpoint.

    A row of metrics is written, then its checkpoint, then the next row, so every row but the last had a checkpoint.

    Args:
      folder: the run folder.
      batch_size: M.
      step: the step of the checkpoint that the run resumes from; `None` if there is none.

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
            f"{folder.checkpoints} has no checkpoint, but {METRICS_FILE} has rows up to step {steps[-1]}: restore the "
            f"checkpoints, or remove {folder.path} to start again"
        )
    warnings.warn(
        f"checkpoint {steps[-2]} or a later one is missing in {folder.checkpoints}: the run resumes from {step}",
        RunWarning,
        stacklevel=2,
    )


def is_lost(folder: RunFolder, seconds: float = 0.0) -> bool:
    """Return whether the run folder was removed, waiting up to `seconds`, since removing a folder takes time."""
    deadline = time.monotonic() + seconds
    while (folder.path / CONFIG_FILE).exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def rescue(
    folder: RunFolder, history: Sequence[Evaluation], state: TrainState, valid_bound: float, seconds: float
) -> RunError:
    """Save a run whose folder was removed into a new folder, and return the error that names it.

    Args:
      folder: the removed folder.
      history: the evaluations of the run, at least one.
      state: the state to save.
      valid_bound: the validation bound of that state; NaN if there is none.
      seconds: the training time so far.
    """
    gone = f"{folder.path} was removed during training"
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
        return RunError(f"{gone}: the run is saved in {path}; continue it with --workdir={path} --resume")
    return RunError(f"{gone}, and the run could be saved neither next to it nor in {tempfile.gettempdir()}")


def _free(parent: Path, name: str) -> Path:
    """Return the path of a folder that does not exist yet."""
    number, path = 1, parent / f"{name}.rescued"
    while path.exists():
        number += 1
        path = parent / f"{name}.rescued-{number}"
    return path
