"""Compare generative classifiers of sequences. The command is `experiments.actions`."""

import itertools
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, new_folders, shared_flags

if TYPE_CHECKING:
    import numpy as np

    from experiments.studies.actions_data import Task
    from experiments.studies.actions_runs import LogLikelihoods, Result, Settings

_FLAGS = flags.FLAGS
_TITLES = {"hmm": "HMM per class", "dmm": "deep Markov model", "dmm_per_class": "deep Markov model per class"}
_DATASETS = ("basic_motions", "japanese_vowels")

# Test accuracies in %: nearest neighbour of Bagnall et al. (2018), hidden Markov model of Kudo et al. (1999).
_PUBLISHED: dict[str, dict[str, float]] = {
    "basic_motions": {"nearest neighbour, dynamic time warping": 97.5},
    "japanese_vowels": {"nearest neighbour, dynamic time warping": 94.9, "HMM of 5 states": 96.2},
}

# Where a setting has several values, cross-validation chooses among them.
_DEFAULTS: dict[str, dict[str, dict[str, list[float]]]] = {
    "hmm": {
        "basic_motions": {"num_states": [3, 5], "variance_floor": [0.001], "pseudo_count": [1.0]},
        "japanese_vowels": {"num_states": [3, 5], "variance_floor": [0.001], "pseudo_count": [0.1]},
    },
    "dmm": {
        "basic_motions": {"latent_dim": [8], "hidden_dim": [32], "num_epochs": [100], "batch_size": [10]},
        "japanese_vowels": {"latent_dim": [8], "hidden_dim": [32], "num_epochs": [100], "batch_size": [30]},
    },
    # Each class gets as many steps as all classes together above: an epoch is one pass over the sequences of a class.
    "dmm_per_class": {
        "basic_motions": {"latent_dim": [8], "hidden_dim": [32], "num_epochs": [400], "batch_size": [10]},
        "japanese_vowels": {"latent_dim": [8], "hidden_dim": [32], "num_epochs": [300], "batch_size": [10]},
    },
}
_MORE_DEFAULTS: dict[str, list[float]] = {"learning_rate": [3e-3], "weight_decay": [0.01]}


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_enum("dataset", "japanese_vowels", _DATASETS, "The data set.")
    flags.DEFINE_list("model", ["hmm", "dmm"], f"Comma-separated subset of {', '.join(_TITLES)}.")
    flags.DEFINE_list("seed", ["0"], "Comma-separated seeds for initial weights, random starts and noise.")
    flags.DEFINE_integer("num_folds", 5, "Cross-validation folds of the training sequences.", lower_bound=2)
    for name, kind in (
        ("num_states", "States of each HMM"),
        ("variance_floor", "Smallest variance of an HMM's emissions, as a fraction of the class variance"),
        ("pseudo_count", "Pseudo-steps with the class mean and variance added to each state of an HMM"),
        ("latent_dim", "Size of a deep Markov model's state"),
        ("hidden_dim", "Units per layer of a deep Markov model"),
        ("num_epochs", "Training epochs of a deep Markov model"),
        ("learning_rate", "Initial learning rate of Adam"),
        ("weight_decay", "Weight decay of Adam"),
        ("batch_size", "Sequences per minibatch"),
    ):
        flags.DEFINE_list(name, None, f"{kind}; cross-validation chooses among several. By default the data set's own.")
    flags.DEFINE_integer("num_iterations", 20, "EM steps.", lower_bound=1)
    flags.DEFINE_integer(
        "num_restarts", 1, "Random starts of EM; the one with the highest training likelihood is kept.", lower_bound=1
    )
    flags.DEFINE_integer("num_particles", 20, "Particles for log p(x | class).", lower_bound=1)
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default under runs/actions.")
    launch.start(_run_all)


def _run_all() -> None:
    start = time.perf_counter()
    models, seeds = shared_flags.choices("model", _TITLES), shared_flags.seeds("seed")
    candidates = {model: _candidates(model) for model in models}
    from experiments.studies import actions_data, actions_runs

    task = actions_data.load_task(_FLAGS.dataset, _FLAGS.data_dir, _FLAGS.source_dir)
    fewest = int(actions_data.class_sizes(task.train.condition, task.num_classes).min())
    if _FLAGS.num_folds > fewest:
        raise ValueError(f"--num_folds must be at most {fewest}, the size of the smallest class in the training split")
    workdir = Path(_FLAGS.workdir or f"runs/actions/{task.name}")
    new_folders.make(workdir)
    results: dict[str, list[Result]] = {}
    chosen: dict[str, Any] = {}
    for model in models:
        print(f"{_TITLES[model]}, {task.name}", flush=True)
        path, function = workdir / f"{model},settings.json", _log_likelihoods(model)
        settings, tried = actions_runs.choose(path, task, candidates[model], function, _FLAGS.num_folds, seeds[0])
        chosen[model] = settings, tried
        results[model] = [
            actions_runs.test(workdir / f"{model},seed-{seed}.json", task, settings, function, seed) for seed in seeds
        ]
    _draw(workdir, task, results)
    _write(workdir, task, results, chosen, time.perf_counter() - start)


def _candidates(model: str) -> "list[Settings]":
    """Return every combination of a model's settings, from the flags or else the data set's defaults.

    Raises:
      ValueError: If a flag is not a list of positive numbers.
    """
    from experiments.studies.actions_dmm import DeepMarkovSettings
    from experiments.studies.actions_hmm import HiddenMarkovSettings

    own: dict[str, list[Any]] = dict(_DEFAULTS[model][_FLAGS.dataset])
    if model != "hmm":
        own |= {name: values for name, values in _MORE_DEFAULTS.items() if name not in own}
    for name, default in own.items():
        if _FLAGS[name].value is not None:
            is_count = isinstance(default[0], int)
            own[name] = shared_flags.integers(name) if is_count else shared_flags.positive_numbers(name)
    combined = [dict(zip(own, values, strict=True)) for values in itertools.product(*own.values())]
    if model != "hmm":
        return [DeepMarkovSettings(**each, num_particles=_FLAGS.num_particles) for each in combined]
    more = {"num_iterations": _FLAGS.num_iterations, "num_restarts": _FLAGS.num_restarts}
    return [HiddenMarkovSettings(**each, **more) for each in combined]


def _log_likelihoods(model: str) -> "LogLikelihoods":
    from experiments.studies import actions_dmm, actions_dmm_per_class, actions_hmm

    functions: Mapping[str, Callable[..., np.ndarray]] = {
        "hmm": actions_hmm.learned_log_likelihoods,
        "dmm": actions_dmm.learned_log_likelihoods,
        "dmm_per_class": actions_dmm_per_class.learned_log_likelihoods,
    }
    return functions[model]


def _draw(workdir: Path, task: "Task", results: "Mapping[str, list[Result]]") -> None:
    import numpy as np

    from aevb import figures
    from aevb.classification import bayes_rule, reliability
    from experiments.reports.figure_files import save_figure
    from experiments.studies.actions_data import log_frequencies
    from experiments.studies.actions_scores import NUM_BINS, confusion

    log_prior, labels = log_frequencies(task.train.condition, task.num_classes), task.test.condition
    confusions, reliabilities = {}, {}
    for model, of_seeds in results.items():
        found = [bayes_rule(each.log_likelihoods, log_prior) for each in of_seeds]
        confusions[_TITLES[model]] = np.sum([confusion(each, labels) for each in found], axis=0)
        pooled = np.concatenate([each.probabilities for each in found])
        reliabilities[_TITLES[model]] = reliability(pooled, np.tile(labels, len(found)), NUM_BINS)
    num_seeds = len(next(iter(results.values())))
    title = f"{task.name}, {len(labels)} test sequences" + (f", {num_seeds} seeds" if num_seeds > 1 else "")
    save_figure(figures.confusion_matrices(confusions, task.label_names, title), workdir / "confusion.png")
    save_figure(figures.reliability_diagram(reliabilities, title), workdir / "calibration.png")


def _write(
    workdir: Path, task: "Task", results: "Mapping[str, list[Result]]", chosen: Mapping[str, Any], seconds: float
) -> None:
    import dataclasses

    from experiments.reports.provenance import provenance
    from experiments.reports.tables import print_table
    from experiments.runs.folder import write_json
    from experiments.studies.actions_scores import summary

    summaries = {model: summary([each.row for each in of_seeds]) for model, of_seeds in results.items()}
    print(f"\n{task.name}, {len(task.test.condition)} test sequences, mean +- standard deviation over seeds:")
    rows = [_cells(_TITLES[model], row) for model, row in summaries.items()]
    for name, accuracy in _PUBLISHED[task.name].items():
        rows.append(dict.fromkeys(rows[0], "-") | {"model": f"published: {name}", "accuracy": f"{accuracy:.1f} %"})
    print_table(rows)
    write_json(
        workdir / "results.json",
        {
            "command": shlex.join(["python", "-m", "experiments.actions", *sys.argv[1:]]),
            "dataset": task.name,
            "num_train": len(task.train.condition),
            "num_test": len(task.test.condition),
            "num_folds": _FLAGS.num_folds,
            "seconds": seconds,
            **provenance(),
            "published": _PUBLISHED[task.name],
            "models": {
                model: {
                    "settings": dataclasses.asdict(chosen[model][0]),
                    "tried": chosen[model][1],
                    "summary": summaries[model],
                    "seeds": [each.row for each in results[model]],
                }
                for model in results
            },
        },
    )
    print(f"{seconds:.0f} seconds; written: {workdir}")


def _cells(title: str, row: Mapping[str, Any]) -> dict[str, str]:
    def cell(name: str, scale: float, digits: int, unit: str = "") -> str:
        spread = row[f"{name}_sd"]
        shown = "" if spread is None else f" +- {scale * spread:.{digits}f}"
        return f"{scale * row[name]:.{digits}f}{shown}{unit}"

    return {
        "model": title,
        "seeds": str(row["seeds"]),
        "accuracy": cell("accuracy", 100, 1, " %"),
        "log p(class|x)": cell("log_class", 1, 3),
        "calibration error": cell("calibration_error", 100, 1, " %"),
        "log p(x|class) per step": cell("log_likelihood_per_step", 1, 3),
    }
