"""Classify with few labels by M1, M2 and M1+M2 (Kingma et al. 2014). The command is `experiments.semi_supervised`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, shared_flags

if TYPE_CHECKING:
    from experiments.studies.few_labels import Features, Job, Result, Settings
    from experiments.studies.few_labels_data import FewLabels

_FLAGS = flags.FLAGS

# Kingma et al. 2014, Table 1: errors on MNIST with 100 labels, in %. Their M1 uses a transductive SVM.
_PUBLISHED = {"m1": "11.82 +- 0.25", "m2": "11.97 +- 1.71", "m1_m2": "3.33 +- 0.14"}
_TITLES = {"m1": "M1, support vector machine", "m2": "M2", "m1_m2": "M1+M2"}

# The sizes and weights of M2 come from trials with seed 0 on validation images (RESULTS.md, "Few labels").
_DEFAULTS: dict[str, dict[str, Any]] = {
    "m1": {},
    "m2": {
        "latent_dim": 3, "hidden_dim": 200, "num_epochs": 10, "batch_size": 100, "learning_rate": 3e-3,
        "labelled_weight": 0.3,
    },
    "m1_m2": {
        "latent_dim": 10, "hidden_dim": 200, "num_epochs": 50, "batch_size": 100, "learning_rate": 3e-3,
        "labelled_weight": 0.0,
    },
}  # fmt: skip
_CLASSIFIER_WEIGHTS = {"m2": 200.0, "m1_m2": 1.0}


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("model", ["m1", "m1_m2"], f"Comma-separated subset of {', '.join(_TITLES)}.")
    flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "The data set.")
    flags.DEFINE_integer(
        "num_labels", 100, "Number of labelled training images, the same for every class.", lower_bound=1
    )
    flags.DEFINE_integer(
        "num_valid_images",
        1000,
        "Number of labelled training images held out to choose settings.",
        lower_bound=1,
    )
    flags.DEFINE_list("seed", ["0"], "Comma-separated seeds for choosing labelled images and initial weights.")
    flags.DEFINE_list(
        "classifier_weight",
        None,
        "Weight of log q(y|x); validation images choose among several, with the first seed. By default "
        + " and ".join(f"{weight:g} for {name}" for name, weight in _CLASSIFIER_WEIGHTS.items())
        + ".",
    )
    flags.DEFINE_float(
        "labelled_weight",
        None,
        "Weight of the mean bound of the labelled images, beside that of all images; the model's own by default.",
        lower_bound=0,
    )
    flags.DEFINE_integer("num_trial_epochs", 10, "Epochs of each trial of a weight.", lower_bound=1)
    for name, kind in (
        ("latent_dim", "Size of z"),
        ("hidden_dim", "Units of each hidden layer"),
        ("num_epochs", "Training epochs"),
        ("batch_size", "Images per minibatch"),
    ):
        flags.DEFINE_integer(name, None, f"{kind}; the model's own by default.", lower_bound=1)
    flags.DEFINE_float(
        "learning_rate", None, "Initial learning rate of Adam; the model's own by default.", lower_bound=1e-12
    )
    flags.DEFINE_integer("num_m1_epochs", 50, "Epochs of M1.", lower_bound=1)
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default under runs/semi_supervised.")
    launch.start(_run_all)


def _run_all() -> None:
    models = shared_flags.choices("model", _TITLES)
    weights = shared_flags.positive_numbers("classifier_weight") if _FLAGS.classifier_weight is not None else []
    seeds = shared_flags.seeds("seed")
    import aevb
    from experiments.reports.tables import print_table, write_csv
    from experiments.studies import few_labels
    from experiments.studies.few_labels_data import hide_labels, hold_out

    workdir = Path(_FLAGS.workdir or f"runs/semi_supervised/{_FLAGS.dataset},labels-{_FLAGS.num_labels}")
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"{workdir} is a file, not a folder")
    train, test = (
        aevb.data.load(_FLAGS.dataset, each, _FLAGS.data_dir, _FLAGS.source_dir) for each in ("train", "test")
    )
    data = hold_out(train, test, _FLAGS.num_valid_images)
    splits = {seed: hide_labels(data, _FLAGS.num_labels, seed) for seed in seeds}
    if (_FLAGS.batch_size or 1) > len(splits[seeds[0]].train):
        raise ValueError(f"--batch_size must be at most the {len(splits[seeds[0]].train)} training images")
    m1 = _m1(workdir, splits[seeds[0]]) if set(models) != {"m2"} else None
    table = []
    for model in models:
        if model == "m1" and m1 is not None:
            rows = [few_labels.m1_errors(splits[seed], m1, seed) for seed in seeds]
        else:
            rows = _train_all(workdir, model, splits, m1, weights)
        write_csv(workdir / f"{model}.csv", rows)
        table.append(_row(model, rows))
    print(
        f"\n{_FLAGS.dataset}, {_FLAGS.num_labels} labels, error in %; {_FLAGS.num_valid_images} labelled validation "
        f"images chose the settings:"
    )
    print_table(table)
    print(f"written: {workdir}")


def _m1(workdir: Path, few: "FewLabels") -> "Features":
    from experiments.studies import few_labels

    folder = workdir / f"m1,epochs-{_FLAGS.num_m1_epochs},valid-{_FLAGS.num_valid_images}"
    return few_labels.m1_features(folder, few, _FLAGS.num_m1_epochs)


def _settings(model: str, seed: int, weight: float) -> "Settings":
    from experiments.studies.few_labels import Settings

    given = {name: _FLAGS[name].value for name in _DEFAULTS[model]}
    own: dict[str, Any] = _DEFAULTS[model] | {name: value for name, value in given.items() if value is not None}
    for name in ("dataset", "num_labels", "num_valid_images", "num_m1_epochs"):
        own[name] = _FLAGS[name].value
    return Settings(model=model, seed=seed, classifier_weight=weight, **own)


def _train_all(
    workdir: Path, model: str, splits: "dict[int, FewLabels]", m1: "Features | None", weights: Sequence[float]
) -> list[dict[str, Any]]:
    """Train one model with every seed, at the weight that validation images choose with the first seed."""
    from experiments.studies import few_labels

    def job(settings: "Settings") -> "Job":
        few = splits[settings.seed]
        return (
            few_labels.m2_job(few, settings) if m1 is None or model == "m2" else few_labels.m1_m2_job(few, settings, m1)
        )

    weight = weights[0] if weights else _CLASSIFIER_WEIGHTS[model]
    if len(weights) > 1:
        found = {}
        for each in weights:
            trial = _settings(model, next(iter(splits)), each)
            trial = dataclasses.replace(trial, num_epochs=_FLAGS.num_trial_epochs)
            print(f"{_TITLES[model]}, trial of weight {each:g}", flush=True)
            result = few_labels.train(workdir / f"{model},trial,weight-{each:g}", trial, job(trial))
            found[each] = result.summary["valid_error"]
        weight = min(found, key=lambda each: found[each])
        print(f"weight {weight:g} has the lowest validation error, {found[weight]:.2%}")
    results: list[Result] = []
    for seed in splits:
        settings = _settings(model, seed, weight)
        print(f"{_TITLES[model]}, seed {seed}", flush=True)
        results.append(few_labels.train(workdir / f"{model},seed-{seed}", settings, job(settings)))
        if seed == next(iter(splits)):
            _draw_analogies(workdir, model, results[0], job(settings), m1)
    _draw_errors(workdir, model, results)
    return [result.summary for result in results]


def _row(model: str, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    import numpy as np

    is_published = _FLAGS.dataset == "mnist" and _FLAGS.num_labels == 100
    shown = {}
    for split in ("valid", "test"):
        errors = 100 * np.array([row[f"{split}_error"] for row in rows])
        spread = f" +- {errors.std(ddof=1):.2f}" if len(errors) > 1 else ""
        shown[split] = f"{errors.mean():.2f}{spread}"
    return {
        "model": _TITLES[model],
        "seeds": str(len(rows)),
        **shown,
        "published": _PUBLISHED[model] if is_published else "-",
    }


def _draw_analogies(workdir: Path, model: str, result: "Result", job: "Job", m1: "Features | None") -> None:
    import numpy as np

    from aevb import figures
    from experiments.reports.figure_files import save_figure
    from experiments.studies.few_labels import analogies

    xs, made = analogies(result.params, job, 10)
    tiles = np.concatenate([xs[:, None], made], axis=1)
    num_columns, flat = tiles.shape[1], tiles.reshape(-1, tiles.shape[2])
    if m1 is not None and model == "m1_m2":
        flat = m1.decode(flat)
    side = round(flat.shape[1] ** 0.5)
    title = f"{_TITLES[model]}: test images, and their style in every class"
    figure = figures.image_grid(flat.reshape(-1, side, side), num_columns, title)
    save_figure(figure, workdir / f"{model}_analogies.png")


def _draw_errors(workdir: Path, model: str, results: "Sequence[Result]") -> None:
    from aevb import figures
    from experiments import defaults
    from experiments.reports.figure_files import save_figure

    curves = [(f"seed {result.summary['seed']}", result.errors) for result in results]
    title = f"{_TITLES[model]}, {defaults.TITLES.get(_FLAGS.dataset, _FLAGS.dataset)}, {_FLAGS.num_labels} labels"
    save_figure(figures.error_curves(curves, title), workdir / f"{model}_errors.png")
