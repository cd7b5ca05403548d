"""A run folder: what stands where, and that nothing in it is ever overwritten silently."""

import csv
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from aevb.checkpoints import CHECKPOINT_FOLDER, RunError, check_folder
from aevb.durable import make_folder, write_whole
from aevb.manifests import sealed, unsealed
from aevb.saved import CONFIG_FILE
from aevb.training import Evaluation
from experiments import config_files
from experiments.configs import Config
from experiments.runs import metrics_file

METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
DIVERGED_FILE = "diverged.txt"
FIGURE_FOLDER = "figures"
LOCK_FILE = ".lock"

# What a process may leave that was killed before its folder was a run.
_NOTHING = {LOCK_FILE, f".{CONFIG_FILE}.part"}


class TakenError(RunError):
    """Another process trains this run."""


class DamagedError(RunError):
    """The metrics of this run cannot be relied upon."""


class RunFolder:
    """One configuration trained once.

    config.json    what was asked for
    metrics.csv    one row an evaluation, the fields of `aevb.Evaluation`
    summary.json   the final figures; its presence says that the run is finished
    diverged.txt   why it stopped, where the bound or a gradient was not finite; gone as soon as it goes on
    checkpoints/   Orbax
    figures/       PNG, and the numbers drawn as CSV
    events.*       TensorBoard
    .lock          held by the process that writes; the kernel lets go of it when that process ends, however it ends
    """

    def __init__(self, path: Path, config: Config):
        """Looks at nothing and writes nothing yet."""
        self.path, self.config = path, config
        self._lock: int | None = None

    def check(self, resume: bool) -> None:
        """Refuses a folder that holds anything but an unfinished run of this configuration, to be resumed.

        Raises:
          RunError: says what is there and what to do.
        """
        check_folder(self.path)
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a folder")
        if all(path.name in _NOTHING for path in self.path.iterdir()):
            return
        different = config_files.differences(config_files.read(self.path), self.config)
        if different:
            raise RunError(
                f"{self.path} holds a run with another configuration ({'; '.join(different)}): "
                f"choose another --workdir, or remove that folder"
            )
        if not resume:
            state = "a finished run" if self.is_finished() else "an unfinished run"
            raise RunError(
                f"{self.path} holds {state} of this configuration: pass --resume to go on with it, or choose another "
                f"--workdir"
            )

    def is_finished(self) -> bool:
        """Whether the run that is there has gone as far as this configuration asks."""
        try:
            summary = unsealed(json.loads((self.path / SUMMARY_FILE).read_text()))
            wanted = self.config.training
            if wanted.patience and summary.get("stopped_early") and summary["patience"] >= wanted.patience:
                return True
            if wanted.num_train_samples is None:
                return summary["num_epochs"] >= wanted.num_epochs
            return summary["num_train_samples"] >= wanted.num_train_samples
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def lock(self) -> None:
        """Keeps every other process from writing here until `unlock` or the end of this one.

        Raises:
          TakenError: another process holds it.
          RunError: the folder cannot be written to.
        """
        if self._lock is not None:
            return
        try:
            lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise TakenError(f"cannot lock {self.path}: another process is writing to it") from None
            raise RunError(f"cannot lock {self.path}: {error.strerror}") from None
        self._lock = lock

    def unlock(self) -> None:
        """Lets others write again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self) -> None:
        """Makes the folder and writes its configuration; from here on it is a run.

        Raises:
          TakenError: another process made it since `check`.
          RunError: it cannot be written to.
        """
        try:
            make_folder(self.path.absolute())
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}") from None
        if self._lock is None:
            self.lock()
            if any(path.name not in _NOTHING for path in self.path.iterdir()):
                raise TakenError(f"another process has begun the run in {self.path} meanwhile")
        write_json(self.path / CONFIG_FILE, sealed(config_files.to_json(self.config)))
        (self.path / DIVERGED_FILE).unlink(missing_ok=True)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def figures(self) -> Path:
        """Where the figures are."""
        return self.path / FIGURE_FOLDER

    def start_metrics(self, history: list[Evaluation], like: Evaluation) -> None:
        """Write metrics.csv with the rows that are known already, at once, dropping any that came after them.

        Its columns are those of `like`, a row of the same run. Rows that a repair marked stay marked.
        """
        path = self.path / METRICS_FILE
        before = metrics_file.parse(path.read_bytes()) if history and path.exists() else []
        rebuilt = {line.row.num_train_samples for line in before if line.row is not None and line.is_rebuilt}
        _write_whole(path, metrics_file.text_of(history, like, rebuilt))

    def append_metrics(self, row: Evaluation) -> None:
        """Adds one row, or nothing at all where there is no room for it."""
        with (self.path / METRICS_FILE).open("ab", buffering=0) as file:
            end = file.tell()
            line = metrics_file.line_of(row).encode()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())  # before the checkpoint that it belongs to
            except OSError:
                file.truncate(end)
                raise

    def read_metrics(self) -> list[Evaluation]:
        """The rows that are there; a last line without an end, cut off as it was written, is none.

        Raises:
          DamagedError: the file is missing or damaged.
        """
        path = self.path / METRICS_FILE
        try:
            lines = metrics_file.parse(path.read_bytes())
        except (OSError, ValueError, csv.Error) as error:
            raise DamagedError(f"{path} cannot be read: {_words(error)}; {how_to_repair(self.path)}") from None
        for number, line in enumerate(lines, 1):
            if line.why:
                raise DamagedError(f"{path} cannot be read: row {number}: {line.why}; {how_to_repair(self.path)}")
        return [line.row for line in lines if line.row is not None]

    def read_finished(self) -> tuple[dict[str, Any], list[Evaluation]]:
        """Return the summary and the rows of a finished run.

        Raises:
          DamagedError: the rows are missing or damaged, or end before the run did.
          RunError: the summary is damaged.
        """
        summary, history = self.read_summary(), self.read_metrics()
        samples = summary["num_train_samples"]
        if all(row.num_train_samples != samples for row in history):
            path = self.path / METRICS_FILE
            raise DamagedError(f"{path} has no row after {samples} samples; {how_to_repair(self.path)}")
        return summary, history

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json, which ends the run."""
        write_json(self.path / SUMMARY_FILE, sealed(summary))

    def write_divergence(self, why: str) -> None:
        """Writes diverged.txt."""
        _write_whole(self.path / DIVERGED_FILE, why + "\n")

    def read_divergence(self) -> str:
        """Why the run stopped that is there; empty where it did not diverge."""
        try:
            return (self.path / DIVERGED_FILE).read_text(errors="replace").strip()
        except OSError:
            return ""

    def reopen(self, num_train_samples: int) -> None:
        """Takes summary.json away if the run has gone back to before what that says, to `num_train_samples`."""
        try:
            if unsealed(json.loads((self.path / SUMMARY_FILE).read_text()))["num_train_samples"] <= num_train_samples:
                return
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # damaged: to be written again
        (self.path / SUMMARY_FILE).unlink()

    def read_summary(self) -> dict[str, Any]:
        """Return the summary of a finished run.

        Raises:
          FileNotFoundError: there is none.
          RunError: it is damaged.
        """
        path = self.path / SUMMARY_FILE
        try:
            found = unsealed(json.loads(path.read_text()))
            missing = [name for name in _ENTRIES_OF_SUMMARY if name not in found]
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RunError(f"{path} cannot be read: {error}") from None
        if missing:
            raise RunError(f"{path} is damaged: it has no {missing[0]}")
        return found


_ENTRIES_OF_SUMMARY = ("num_epochs", "num_train_samples", "train_elbo", "test_elbo", "test_reconstruction", "test_kl")


def _words(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def how_to_repair(folder: Path) -> str:
    """Return the command that says more of a damaged run folder."""
    return f"python -m experiments.check --run={folder} --repair rebuilds what can be rebuilt"


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Writes a file, whole or not at all.

    Raises:
      RunError: it cannot be written.
    """
    _write_whole(path, json.dumps(contents, indent=2) + "\n")


def _write_whole(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write to {path.parent}: {error.strerror}") from None
