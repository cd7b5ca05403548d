"""A run folder: what stands where, and that nothing in it is ever overwritten silently."""

import csv
import json
import os
from pathlib import Path
from typing import Any

from aevb.checkpoints import CHECKPOINT_FOLDER, CONFIG_FILE, RunError, read_config
from aevb.training import Evaluation

METRICS_FILE = "metrics.csv"
SUMMARY_FILE = "summary.json"
FIGURE_FOLDER = "figures"


class RunFolder:
    """One configuration trained once.

    config.json    what was asked for
    metrics.csv    one row an evaluation, the fields of `aevb.Evaluation`
    summary.json   the final figures; its presence says that the run is finished
    checkpoints/   Orbax
    figures/       PNG
    events.*       TensorBoard
    """

    def __init__(self, path: Path, config: dict[str, Any]):
        """Looks at nothing and writes nothing yet."""
        self.path, self.config = path, config

    def check(self, resume: bool) -> None:
        """Refuses a folder that holds anything but an unfinished run of this configuration, to be resumed.

        Raises:
          RunError: says what is there and what to do.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a folder")
        if not any(self.path.iterdir()):
            return
        different = _differences(read_config(self.path), self.config)
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
            summary = json.loads((self.path / SUMMARY_FILE).read_text())
            return summary["num_epochs"] >= self.config["training"]["num_epochs"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def create(self) -> None:
        """Makes the folder and writes its configuration; from here on it is a run."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / CONFIG_FILE, self.config)
        except OSError as error:
            raise RunError(f"cannot write to {self.path}: {error.strerror}") from None

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def figures(self) -> Path:
        """Where the figures are."""
        return self.path / FIGURE_FOLDER

    def start_metrics(self, history: list[Evaluation]) -> None:
        """Writes metrics.csv with the rows that are known already, at once, dropping any that came after them."""
        partial = self.path / f".{METRICS_FILE}.part"
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Evaluation._fields)
            writer.writerows(history)
        os.replace(partial, self.path / METRICS_FILE)

    def append_metrics(self, row: Evaluation) -> None:
        """Adds one row."""
        with (self.path / METRICS_FILE).open("a", newline="") as file:
            csv.writer(file).writerow(row)

    def read_metrics(self) -> list[Evaluation]:
        """The rows that are there.

        Raises:
          RunError: the file is missing or damaged.
        """
        path = self.path / METRICS_FILE
        try:
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            types = Evaluation.__annotations__
            return [Evaluation(**{name: types[name](row[name]) for name in Evaluation._fields}) for row in rows]
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise RunError(f"{path} cannot be read: {error}") from None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json, which ends the run."""
        write_json(self.path / SUMMARY_FILE, summary)

    def read_summary(self) -> dict[str, Any]:
        """The summary of a finished run."""
        return json.loads((self.path / SUMMARY_FILE).read_text())


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs, in words; how long to train is no difference, since a run can be prolonged."""
    found = []
    for name in sorted(there.keys() | here.keys()):
        one, other = there.get(name), here.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other)
        elif one != other and name != "num_epochs":
            found.append(f"{name} is {one} there, {other} here")
    return found


def write_json(path: Path, contents: dict[str, Any]) -> None:
    """Writes a file, whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(contents, indent=2) + "\n")
    os.replace(partial, path)
