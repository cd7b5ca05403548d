"""A run folder: its files, and the checks that nothing in it is overwritten silently."""

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

# What a process may leave behind if it is killed before its folder is a run.
_NOTHING = {LOCK_FILE, f".{CONFIG_FILE}.part"}


class TakenError(RunError):
    """Raised when another process trains this run."""


class DamagedError(RunError):
    """Raised when the metrics of a run cannot be relied upon."""


class RunFolder:
    """The folder of one configuration trained once.

    config.json    the configuration
    metrics.csv    one row per evaluation, with the fields of `aevb.Evaluation`
    summary.json   the final figures; its presence means that the run is finished
    diverged.txt   why training stopped, if the bound or a gradient was not finite; removed when the run resumes
    checkpoints/   Orbax
    figures/       PNG, and the numbers drawn as CSV
    events.*       TensorBoard
    .lock          held by the process that writes; the kernel releases it however that process ends
    """

    def __init__(self, path: Path, config: Config):
        """Store the path and the configuration; nothing is read or written yet."""
        self.path, self.config = path, config
        self._lock: int | None = None

    def check(self, resume: bool) -> None:
        """Raise unless the folder is free, or holds a run of this configuration and `resume` is set.

        Raises:
          RunError: the message says what the folder holds and what to do.
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
                f"{self.path} holds {state} of this configuration: pass --resume to continue it, or choose another "
                f"--workdir"
            )

    def is_finished(self) -> bool:
        """Return whether the run in the folder is as long as this configuration asks."""
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
        """Keep other processes from writing to the folder until `unlock` or the end of this process.

        Raises:
          TakenError: another process holds the lock.
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
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self) -> None:
        """Create the folder and write its configuration, which makes it a run.

        Raises:
          TakenError: another process created it since `check`.
          RunError: the folder cannot be written to.
        """
        try:
            make_folder(self.path.absolute())
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}") from None
        if self._lock is None:
            self.lock()
            if any(path.name not in _NOTHING for path in self.path.iterdir()):
                raise TakenError(f"another process has meanwhile started the run in {self.path}")
        write_json(self.path / CONFIG_FILE, sealed(config_files.to_json(self.config)))
        (self.path / DIVERGED_FILE).unlink(missing_ok=True)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / FIGURE_FOLDER

    def start_metrics(self, history: list[Evaluation], like: Evaluation) -> None:
        """Write metrics.csv with the known rows, whole or not at all, dropping any later rows.

        Its columns are those of `like`, a row of the same run. Rows that a repair marked stay marked.
        """
        path = self.path / METRICS_FILE
        before = metrics_file.parse(path.read_bytes()) if history and path.exists() else []
        rebuilt = {line.row.num_train_samples for line in before if line.row is not None and line.is_rebuilt}
        _write_whole(path, metrics_file.text_of(history, like, rebuilt))

    def append_metrics(self, row: Evaluation) -> None:
        """Append one row, or leave the file unchanged if the row cannot be written."""
        with (self.path / METRICS_FILE).open("ab", buffering=0) as file:
            end = file.tell()
            line = metrics_file.line_of(row).encode()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())  # before its checkpoint is written
            except OSError:
                file.truncate(end)
                raise

    def read_metrics(self) -> list[Evaluation]:
        """Return the rows, without an incomplete last line from an interrupted write.

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
          DamagedError: the rows are missing or damaged, or end before the run.
          RunError: the summary is damaged.
        """
        summary, history = self.read_summary(), self.read_metrics()
        samples = summary["num_train_samples"]
        if all(row.num_train_samples != samples for row in history):
            path = self.path / METRICS_FILE
            raise DamagedError(f"{path} has no row after {samples} samples; {how_to_repair(self.path)}")
        return summary, history

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json, which marks the run as finished."""
        write_json(self.path / SUMMARY_FILE, sealed(summary))

    def write_divergence(self, why: str) -> None:
        """Write diverged.txt."""
        _write_whole(self.path / DIVERGED_FILE, why + "\n")

    def read_divergence(self) -> str:
        """Return why the run in the folder diverged; empty if it did not."""
        try:
            return (self.path / DIVERGED_FILE).read_text(errors="replace").strip()
        except OSError:
            return ""

    def reopen(self, num_train_samples: int) -> None:
        """Remove summary.json if the run resumes at `num_train_samples`, before the end that the summary describes."""
        try:
            if unsealed(json.loads((self.path / SUMMARY_FILE).read_text()))["num_train_samples"] <= num_train_samples:
                return
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # damaged: it will be written again
        (self.path / SUMMARY_FILE).unlink()

    def read_summary(self) -> dict[str, Any]:
        """Return the summary of a finished run.

        Raises:
          FileNotFoundError: there is no summary.
          RunError: the summary is damaged.
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
    """Return the command that repairs a damaged run folder, and what it does."""
    return f"python -m experiments.check --run={folder} --repair rebuilds what can be rebuilt"


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
      RunError: the file cannot be written.
    """
    _write_whole(path, json.dumps(contents, indent=2) + "\n")


def _write_whole(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise RunError(f"cannot write to {path.parent}: {error.strerror}") from None
