"""The command that verifies and repairs run folders: its flags, table and exit status."""

import functools
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from aevb.checkpoints import CHECKPOINT_FOLDER, SET_ASIDE_FOLDER, RunError, RunWarning
from aevb.data import Splits
from aevb.saved import CONFIG_FILE
from experiments import launch, shared_flags
from experiments.checks.inspection import inspect
from experiments.checks.repair import DAMAGED_FOLDER, repair
from experiments.configs import Config
from experiments.runs.folder import METRICS_FILE, RunFolder, TakenError
from experiments.runs.splits import load_splits

_FLAGS = flags.FLAGS
_SOMETHING_IS_WRONG = 1
_MARKS = (CONFIG_FILE, METRICS_FILE, CHECKPOINT_FOLDER)
_NOT_RUNS = (DAMAGED_FOLDER, SET_ASIDE_FOLDER, CHECKPOINT_FOLDER)


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_string("run", None, "Run folder, or a folder that contains run folders, such as that of a sweep.")
    flags.DEFINE_bool("repair", False, f"Rebuild what can be rebuilt, and move the rest to {DAMAGED_FOLDER}/.")
    shared_flags.define_data_flags()
    launch.start(main)


def main() -> None:
    """Check, repair if requested, print the table, and exit with status 1 if something is wrong."""
    if not _FLAGS.run:
        raise ValueError("--run must name a run folder, or a folder of run folders")
    base = Path(_FLAGS.run)
    if not base.is_dir():
        raise ValueError(f"--run: {base} is not a folder")
    runs = sorted(_run_folders(base))
    if not runs:
        raise ValueError(f"--run: there is no run in {base}: no folder in it has a {CONFIG_FILE}")
    warnings.simplefilter("ignore", RunWarning)  # the table reports it
    warnings.filterwarnings("ignore", "Explicitly requested dtype")  # only shapes are used
    rows, is_well = [], True
    for path in runs:
        name = "" if path == base else path.relative_to(base).as_posix()
        for done in _locked(path):
            print(f"{name}: {done}" if name else done, flush=True)
        found = inspect(path)
        is_well = is_well and found.is_well
        rows += [{"run": name, "what": what, "state": state, "why": why} for what, state, why in found.findings]
    _print(rows, with_runs=runs != [base])
    if not is_well:
        print(f"\nsomething is wrong{'' if _FLAGS.repair else ': --repair rebuilds what can be rebuilt'}")
        sys.exit(_SOMETHING_IS_WRONG)


def _locked(path: Path) -> Iterator[str]:
    """Yield the actions of a repair while the folder is locked; without `--repair` only test the lock."""
    folder = RunFolder(path, Config())
    try:
        folder.lock()
    except TakenError:
        raise
    except RunError:  # nobody can write to the folder
        if _FLAGS.repair:
            raise
    try:
        if _FLAGS.repair:
            yield from repair(path, _load)
    finally:
        folder.unlock()


def _load(config: Config) -> Splits:
    return _load_once(Config(data=config.data, own_data=config.own_data))


@functools.lru_cache(maxsize=1)  # runs of a sweep mostly share their data
def _load_once(config: Config) -> Splits:
    return load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir)


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yield the run folders at or below a folder; run folders themselves are not searched."""
    if any((folder / mark).exists() for mark in _MARKS):
        yield folder
        return
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and not inside.is_symlink() and inside.name not in _NOT_RUNS:
            yield from _run_folders(inside)


def _print(rows: Sequence[Mapping[str, Any]], with_runs: bool) -> None:
    columns = [*(["run"] if with_runs else []), "what", "state", "why"]
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    print()
    for row in [{column: column for column in columns}, *rows]:
        print("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
