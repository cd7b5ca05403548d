"""Runs of `experiments.actions`: choose settings by cross-validation and test each seed, reusing saved results."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from aevb import Given
from aevb.checkpoints import RunError
from experiments.runs.folder import write_json
from experiments.studies.actions_data import Task, log_frequencies, stratified_folds
from experiments.studies.actions_scores import Scores, scores

Settings: TypeAlias = Any
"""A frozen dataclass: `HiddenMarkovSettings` or `DeepMarkovSettings`."""

LogLikelihoods: TypeAlias = Callable[[Given, np.ndarray, int, Settings, int], np.ndarray]
"""`(train, x, num_classes, settings, seed) -> log p(x | class)`, `[N, C]` float64, after learning from `train`."""


class Result(NamedTuple):
    """The result of one model with one seed.

    Attributes:
      log_likelihoods: log p(x | class) of the test sequences, `[N, C]`.
      row: Scores and run time.
    """

    log_likelihoods: np.ndarray
    row: dict[str, Any]


def choose(
    path: Path, task: Task, candidates: Sequence[Settings], log_likelihoods: LogLikelihoods, num_folds: int, seed: int
) -> tuple[Settings, list[dict[str, Any]]]:
    """Return the settings with the highest cross-validated accuracy, and the scores of all candidates.

    Ties are broken by the mean log p(class | x). A single candidate is returned without being evaluated. Scores are
    saved in the file `path` and reused.

    Raises:
      RunError: If the file is damaged or cannot be written.
    """
    if len(candidates) == 1:
        return candidates[0], []
    folds, tried = stratified_folds(task.train.condition, num_folds, seed), _read(path, {"rows": []})["rows"]
    chosen = []
    for settings in candidates:
        tried_with = {"dataset": task.name, "num_folds": num_folds, "seed": seed, **dataclasses.asdict(settings)}
        row = next((row for row in tried if row.items() >= tried_with.items()), None)
        if row is None:
            start = time.perf_counter()
            found = cross_validated(task, folds, settings, log_likelihoods, seed)
            row = tried_with | found._asdict() | {"seconds": round(time.perf_counter() - start, 1)}
            tried.append(row)
            write_json(path, {"rows": tried})
        print(f"  {_varying(settings, candidates)}: {_shown(row)}  {row['seconds']:.0f} s", flush=True)
        chosen.append(row)
    best = max(range(len(candidates)), key=lambda at: (chosen[at]["accuracy"], chosen[at]["log_class"]))
    print(f"  chosen: {_varying(candidates[best], candidates)}", flush=True)
    return candidates[best], chosen


def cross_validated(
    task: Task, folds: np.ndarray, settings: Settings, log_likelihoods: LogLikelihoods, seed: int
) -> Scores:
    """Return the scores of all training sequences, each scored by a model of the other folds."""
    (x, labels), num_classes = task.train, task.num_classes
    found = np.full((len(labels), num_classes), np.nan)
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        rest = Given(x[~held_out], labels[~held_out])
        found[held_out] = log_likelihoods(rest, x[held_out], num_classes, settings, seed)
    return scores(found, task.train, log_frequencies(labels, num_classes))


def test(path: Path, task: Task, settings: Settings, log_likelihoods: LogLikelihoods, seed: int) -> Result:
    """Learn from all training sequences and score the test sequences, or read the result from the file `path`.

    Raises:
      RunError: If the file was written with other settings, is damaged, or cannot be written.
    """
    wanted = {"dataset": task.name, "seed": seed, "settings": dataclasses.asdict(settings)}
    there = _read(path, None)
    if there is None:
        start = time.perf_counter()
        found = log_likelihoods(task.train, task.test.value, task.num_classes, settings, seed)
        of_test = scores(found, task.test, log_frequencies(task.train.condition, task.num_classes))
        row = {"seed": seed, **of_test._asdict(), "seconds": round(time.perf_counter() - start, 1)}
        there = wanted | {"row": row, "log_likelihoods": found.tolist()}
        write_json(path, there)
    try:
        _check_same(path, wanted, there)
        result = Result(np.asarray(there["log_likelihoods"], np.float64), there["row"])
        print(f"  seed {seed}: {_shown(result.row)}  {result.row['seconds']:.0f} s", flush=True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error!r}): remove it") from None
    return result


def _check_same(path: Path, wanted: dict[str, Any], there: dict[str, Any]) -> None:
    flat = lambda of: of["settings"] | {name: of[name] for name in ("dataset", "seed")}
    before, now = flat(there), flat(wanted)
    different = [name for name in now if before[name] != now[name]]
    if different:
        name = different[0]
        raise RunError(
            f"{path} holds a run with {name} {before[name]}, not {now[name]}: choose another --workdir, or remove that "
            f"file"
        )


def _read(path: Path, default: Any) -> Any:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return default
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error!r}): remove it") from None
    if not isinstance(found, dict) or (default is not None and not default.keys() <= found.keys()):
        raise RunError(f"{path} is damaged: remove it")
    return found


def _varying(settings: Settings, candidates: Sequence[Settings]) -> str:
    """Describe the settings that differ among the candidates."""
    names = [each.name for each in dataclasses.fields(settings)]
    varying = [name for name in names if len({getattr(each, name) for each in candidates}) > 1]
    return ", ".join(f"{name} {getattr(settings, name):g}" for name in varying)


def _shown(row: dict[str, Any]) -> str:
    return (
        f"accuracy {row['accuracy']:.2%}, log p(class|x) {row['log_class']:.3f}, log p(x|class) per step "
        f"{row['log_likelihood_per_step']:.3f} nats"
    )
