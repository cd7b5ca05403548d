"""Compare models of p(y | x) with and without latents. The command is `experiments.regression`."""

import functools
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from experiments import launch, new_folders, shared_flags
from experiments.runs.folder import write_json

if TYPE_CHECKING:
    import numpy as np

    from aevb import Model
    from aevb.model import Params
    from experiments.studies.regression_tables import Split, Table

_FLAGS = flags.FLAGS
_MODELS = {  # name: name in tables
    "latent": "latents, learned p(z|x)",
    "standard_prior": "latents, N(0, I)",
    "gaussian": "Gaussian",
    "mixture": "mixture density",
}
_REFERENCE = "gaussian"
_SHOWN_LEVELS = (0.5, 0.9)
_NUM_SPLITS = 10  # for a table without its own test rows


class Fitted(NamedTuple):
    """One model fitted to one split.

    Attributes:
      model: The model.
      params: The parameters of the epoch that validation chose.
      log_likelihoods: log p(y | x) of each test row, `[N]`, in nats, in the units of y.
      transform: The probability integral transform of the test values, `[N, E]`.
      row: The results written to `results.json`.
    """

    model: "Model"
    params: "Params"
    log_likelihoods: "np.ndarray"
    transform: "np.ndarray"
    row: dict[str, Any]


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_string("dataset", "bimodal", "A registered table of x and y: bimodal, diabetes.")
    flags.DEFINE_string(
        "data", None, "Your own table, instead of --dataset: a .npz file of x, [N, D], and y, [N] or [N, E]."
    )
    flags.DEFINE_list("models", ["latent", "gaussian", "mixture"], f"Comma-separated subset of {', '.join(_MODELS)}.")
    flags.DEFINE_integer("latent_dim", 2, "Size of z.", lower_bound=1)
    flags.DEFINE_list("hidden_dim", ["50", "50"], "Units of each hidden layer, in every network.")
    flags.DEFINE_integer("num_components", 5, "Components of the mixture density network.", lower_bound=2)
    flags.DEFINE_enum("bound", "iwae", ["elbo", "iwae"], "Training objective of models with latents.")
    flags.DEFINE_integer("num_samples", 10, "Draws of z per datapoint and step.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 2e-3, "Learning rate of Adam.", lower_bound=0.0)
    flags.DEFINE_integer("num_epochs", 200, "Maximum number of epochs.", lower_bound=1)
    flags.DEFINE_integer(
        "patience", 40, "Stop after this many epochs without a better validation bound.", lower_bound=1
    )
    flags.DEFINE_integer("batch_size", 50, "Datapoints per minibatch.", lower_bound=1)
    flags.DEFINE_bool("map_prior", False, "Whether log N(theta; 0, I) is part of the objective.")
    flags.DEFINE_integer(
        "num_splits",
        None,
        f"Number of splits, each with its own seed; by default 1 for a table with test rows, else {_NUM_SPLITS}.",
        lower_bound=1,
    )
    flags.DEFINE_integer("num_draws", 1000, "Draws per test row for log p(y | x) and intervals.", lower_bound=10)
    flags.DEFINE_integer("seed", 0, "Seed for the first split, initial weights, training and draws.", lower_bound=0)
    shared_flags.define_data_flags(has_originals=False)
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default under runs/regression.")
    launch.start(_compare)


def _compare() -> None:
    start = time.perf_counter()
    models = shared_flags.choices("models", _MODELS)
    hidden_dims = tuple(shared_flags.integers("hidden_dim"))
    from experiments.studies import regression_tables as tables

    if _FLAGS.data is not None and _FLAGS["dataset"].present:
        raise ValueError("--data and --dataset are alternatives: give one of them")
    table = tables.own(_FLAGS.data) if _FLAGS.data else tables.named(_FLAGS.dataset, _FLAGS.data_dir)
    workdir = Path(_FLAGS.workdir or f"runs/regression/{table.name},seed-{_FLAGS.seed}")
    num_splits = _FLAGS.num_splits or (1 if table.num_test else _NUM_SPLITS)
    splits = [tables.split(table, _FLAGS.seed + number) for number in range(num_splits)]
    _start_workdir(workdir)
    built = {name: _build(name, table, hidden_dims) for name in models}
    fitted: dict[str, list[Fitted]] = {name: [] for name in models}
    for number, split in enumerate(splits):
        for name, model in built.items():
            fitted[name].append(_fit(name, model, split, _FLAGS.seed + number))
            _print_progress(name, number, num_splits, fitted[name][-1])
    rows = _summary(table, splits, fitted)
    _print_table(table, splits, rows)
    _draw(workdir, table, splits, fitted)
    _write(workdir, table, splits, rows, fitted, time.perf_counter() - start)


def _start_workdir(workdir: Path) -> None:
    if (workdir / "results.json").exists():
        raise ValueError(f"{workdir} holds results already: choose another --workdir, or remove that folder")
    new_folders.make(workdir)  # fails before minutes of training rather than after


def _build(name: str, table: "Table", hidden_dims: tuple[int, ...]) -> "Model":
    import aevb
    from experiments.studies.density_networks import gaussian_network, mixture_density_network

    y_shape, x_shape = table.y.shape[1:], table.x.shape[1:]
    if name == "gaussian":
        return gaussian_network(y_shape, x_shape, hidden_dims)
    if name == "mixture":
        return mixture_density_network(y_shape, x_shape, hidden_dims, _FLAGS.num_components)
    learned = name == "latent"
    return aevb.models.supervised_vae(y_shape, _FLAGS.latent_dim, x_shape, hidden_dims, learned_prior=learned)


def _estimator(name: str) -> Any:
    """Return the training objective. Without latents every bound equals log p(y | x), and one draw is enough."""
    import aevb

    if name not in ("latent", "standard_prior"):
        return aevb.Estimator()
    if _FLAGS.bound == "elbo":
        return aevb.Estimator(_FLAGS.num_samples)
    return aevb.Estimator(_FLAGS.num_samples, gradient="doubly_reparameterized", bound="iwae")


def _fit(name: str, model: "Model", split: "Split", seed: int) -> Fitted:
    """Train a model on a split, choose its epoch by validation, and test it."""
    import jax
    import numpy as np
    import optax

    import aevb
    from aevb import prediction

    fit_key, test_key, draw_key = jax.random.split(jax.random.key(seed), 3)
    result = aevb.fit(
        split.train,
        model,
        key=fit_key,
        valid_data=split.valid,
        patience=_FLAGS.patience,
        optimizer=optax.adam(_FLAGS.learning_rate),
        estimator=_estimator(name),
        num_epochs=_FLAGS.num_epochs,
        batch_size=min(_FLAGS.batch_size, len(split.train.value)),
        map_prior=_FLAGS.map_prior,
        active_units=False,
    )
    assert result.best_state is not None
    assert result.best_evaluation is not None
    params = result.best_state.params
    log_likelihood = functools.partial(prediction.log_likelihood, params, num_samples=_FLAGS.num_draws)
    valid, found = (log_likelihood(test_key, data, model) for data in (split.valid, split.test))
    draws = prediction.predict(params, draw_key, split.test.condition, model, _FLAGS.num_draws)
    transform = prediction.probability_integral_transform(draws, split.test.value)
    log_likelihoods = np.asarray(found.per_datapoint.log_marginal, np.float64) - split.log_unit
    row = {
        "seed": seed,
        "valid_log_likelihood": valid.mean - split.log_unit,
        "log_likelihood": float(np.mean(log_likelihoods)),
        "monte_carlo_error": found.monte_carlo_error,
        "root_mean_squared_error": float(np.sqrt(np.mean((split.y_scaling.back(draws.mean(1)) - split.y) ** 2))),
        "best_epoch": result.best_evaluation.epoch,
        "num_epochs": result.history[-1].epoch,
        "train_seconds": result.history[-1].seconds,
    }
    return Fitted(model, params, log_likelihoods, transform, row)


def _summary(table: "Table", splits: "list[Split]", fitted: dict[str, list[Fitted]]) -> list[dict[str, Any]]:
    """Return one row per model and per known density."""
    import numpy as np

    from aevb import prediction

    by_split = {_MODELS[name]: [each.log_likelihoods for each in runs] for name, runs in fitted.items()}
    for name, log_density in table.known.items():
        by_split[name] = [log_density(split.y, split.x).sum(-1) for split in splits]
    reference = by_split.get(_MODELS[_REFERENCE])
    levels = {_MODELS[name]: _pooled(runs) for name, runs in fitted.items()}
    rows = []
    for name, values in by_split.items():
        mean, error = _mean_and_error(values)
        row: dict[str, Any] = {"model": name, "log_likelihood": mean, "standard_error": error}
        if reference is not None:
            pairs = zip(values, reference, strict=True)
            row["over_gaussian"], row["over_gaussian_error"] = _mean_and_error([one - other for one, other in pairs])
        if name in levels:
            shares = prediction.coverage(levels[name], _SHOWN_LEVELS)
            row["coverage"] = {str(level): float(share) for level, share in zip(_SHOWN_LEVELS, shares, strict=True)}
        rows.append(row)
    for row, runs in zip(rows, fitted.values(), strict=False):
        row["root_mean_squared_error"] = float(np.mean([each.row["root_mean_squared_error"] for each in runs]))
    return rows


def _pooled(runs: list[Fitted]) -> "np.ndarray":
    import numpy as np

    return np.concatenate([each.transform for each in runs])


def _mean_and_error(values: "list[np.ndarray]") -> tuple[float, float]:
    """Return the mean over splits and its standard error, over splits or else over the rows of a single split."""
    import numpy as np

    each = values[0] if len(values) == 1 else np.array([np.mean(of_split) for of_split in values])
    return float(np.mean(each)), float(np.std(each, ddof=1) / len(each) ** 0.5)


def _print_progress(name: str, number: int, num_splits: int, fitted: Fitted) -> None:
    row = fitted.row
    print(
        f"split {number + 1}/{num_splits}  {_MODELS[name]:24} epoch {row['best_epoch']:,} of {row['num_epochs']:,}  "
        f"log p(y|x): valid {row['valid_log_likelihood']:.3f}  test {row['log_likelihood']:.3f} nats  "
        f"{row['train_seconds']:.1f} s",
        flush=True,
    )


def _print_table(table: "Table", splits: "list[Split]", rows: list[dict[str, Any]]) -> None:
    from experiments.reports.tables import print_table

    errors = f"{len(splits)} random splits" if len(splits) > 1 else "test rows"
    print(f"\n{table.name}, {len(splits[0].y)} test rows, nats per datapoint; +-: standard error over {errors}:")
    shown = []
    for row in rows:
        cells = {"model": row["model"], "log p(y|x)": _cell(row["log_likelihood"]), "+-": _cell(row["standard_error"])}
        if "over_gaussian" in row:
            cells |= {"over Gaussian": _cell(row["over_gaussian"]), "+- ": _cell(row["over_gaussian_error"])}
        for level in _SHOWN_LEVELS:
            share = row.get("coverage", {}).get(str(level))
            cells[f"in {level:.0%}"] = "-" if share is None else f"{share:.1%}"
        shown.append(cells | {"RMSE": _cell(row.get("root_mean_squared_error"))})
    print_table(shown)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,.3f}"


def _draw(workdir: Path, table: "Table", splits: "list[Split]", fitted: dict[str, list[Fitted]]) -> None:
    from experiments.reports.figure_files import save_figure
    from experiments.studies import regression_figures

    of_first = {_MODELS[name]: (runs[0].model, runs[0].params) for name, runs in fitted.items()}
    noise = regression_figures.noise(table, splits[0], of_first, _FLAGS.seed)
    save_figure(noise, workdir / "noise.png")
    transforms = {_MODELS[name]: _pooled(runs) for name, runs in fitted.items()}
    save_figure(regression_figures.calibration(table, transforms), workdir / "calibration.png")


def _write(
    workdir: Path,
    table: "Table",
    splits: "list[Split]",
    rows: list[dict[str, Any]],
    fitted: dict[str, list[Fitted]],
    seconds: float,
) -> None:
    from experiments.reports.provenance import provenance

    names = (
        "models", "latent_dim", "hidden_dim", "num_components", "bound", "num_samples", "learning_rate", "num_epochs",
        "patience", "batch_size", "map_prior", "num_draws", "seed", "data",
    )  # fmt: skip
    results = {
        "command": shlex.join(["python", "-m", "experiments.regression", *sys.argv[1:]]),
        "dataset": table.name,
        **{name: _FLAGS[name].value for name in names},
        "num_rows": {part: len(getattr(splits[0], part).value) for part in ("train", "valid", "test")},
        "num_splits": len(splits),
        "seconds": seconds,
        **provenance(),
        "rows": rows,
        "runs": {name: [each.row for each in runs] for name, runs in fitted.items()},
    }
    write_json(workdir / "results.json", results)
    print(f"{seconds:.0f} seconds; written: {workdir}")
