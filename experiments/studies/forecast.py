"""Forecast a series with latent variable models and seasonal baselines. The command is `experiments.forecast`."""

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

    from experiments.studies.forecast_scores import Scores
    from experiments.studies.series import Differences, Drift, Series

_FLAGS = flags.FLAGS
_MODELS = {  # name of the family: name in tables
    "deep_markov": "deep Markov model",
    "linear_gaussian": "linear-Gaussian",
}
_BASELINES: "dict[Drift, str]" = {"mean": "season before + mean drift", "last": "season before + last drift"}
_SHOWN_HORIZONS = (1, 3, 6, 12, 24, 60, 120)


class Part(NamedTuple):
    """Origins of forecasts, and the values to forecast.

    Attributes:
      origins: Positions in the series of the first step of each forecast, `[N]`.
      truth: The values to forecast, `[N, H, D]`, in the units of the series; NaN after its end.
    """

    origins: "np.ndarray"
    truth: "np.ndarray"


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_string("dataset", "co2", "A registered series: co2.")
    flags.DEFINE_string("data", None, "Your own series, instead of --dataset: a .npz file of values, [T] or [T, D].")
    flags.DEFINE_integer(
        "num_test", None, "Number of final steps of your own series to test on; by default a fifth.", lower_bound=1
    )
    flags.DEFINE_list("models", list(_MODELS), f"Comma-separated subset of {', '.join(_MODELS)}.")
    flags.DEFINE_list("latent_dim", ["2", "4"], "Sizes of z; validation chooses among them.")
    flags.DEFINE_integer("hidden_dim", 32, "Units of each network of a deep Markov model.", lower_bound=1)
    flags.DEFINE_integer("season", 12, "Steps per season; 1 models the change at each step.", lower_bound=1)
    flags.DEFINE_integer("window", 36, "Steps per training window, and steps known before a forecast.", lower_bound=2)
    flags.DEFINE_integer("num_valid", 72, "Steps before the test part to validate on.", lower_bound=2)
    flags.DEFINE_integer("horizon", 24, "Number of steps to forecast.", lower_bound=1)
    flags.DEFINE_integer("origin_step", 3, "Steps between the origins of forecasts.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 1e-2, "Learning rate of Adam.", lower_bound=0.0)
    flags.DEFINE_integer("num_epochs", 100, "Maximum number of epochs.", lower_bound=1)
    flags.DEFINE_integer(
        "patience", 20, "Stop after this many epochs without a better validation bound.", lower_bound=1
    )
    flags.DEFINE_integer("batch_size", 32, "Windows per minibatch.", lower_bound=1)
    flags.DEFINE_enum("method", "posterior", ["posterior", "particle", "bootstrap"], "How z is drawn given the past.")
    flags.DEFINE_integer("num_draws", 500, "Futures drawn per origin.", lower_bound=10)
    flags.DEFINE_integer("seed", 0, "Seed for initial weights, training and draws.", lower_bound=0)
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default under runs/forecast.")
    launch.start(_compare)


def _compare() -> None:
    start = time.perf_counter()
    families = shared_flags.choices("models", _MODELS)
    sizes = shared_flags.integers("latent_dim")
    if _FLAGS.data is not None and _FLAGS["dataset"].present:
        raise ValueError("--data and --dataset are alternatives: give one of them")
    if _FLAGS.num_test and _FLAGS.data is None:
        raise ValueError("--num_test needs --data: a registered series has its own test part")
    from experiments.studies import forecast_scores, series

    found = (
        series.own(_FLAGS.data, _FLAGS.num_test)
        if _FLAGS.data
        else series.named(_FLAGS.dataset, _FLAGS.data_dir, _FLAGS.source_dir)
    )
    series.check(found, _FLAGS.season, _FLAGS.window, _FLAGS.horizon, _FLAGS.num_valid)
    workdir = Path(_FLAGS.workdir or f"runs/forecast/{found.name},seed-{_FLAGS.seed}")
    _start_workdir(workdir)
    num_fit = len(found.values) - found.num_test - _FLAGS.num_valid
    differences = series.Differences.of(found.values[:num_fit], _FLAGS.season, found.name)
    valid, test = (_part(found, *ends) for ends in _parts(found))
    draws: dict[str, np.ndarray] = {}
    scores: dict[str, Scores] = {}
    chosen: dict[str, list[dict[str, Any]]] = {}
    for family in families:
        tried = [_fit(found, differences, family, size, valid) for size in sizes]
        best = min(tried, key=lambda each: each[1]["valid_crps"])
        chosen[family] = [row for _, row in tried]
        draws[_MODELS[family]] = _forecast(found, differences, *best[0], test)
    for drift, name in _BASELINES.items():
        naive = series.SeasonalNaive.of(found.values[:num_fit], _FLAGS.season, _FLAGS.horizon, drift)
        past = series.histories(found.values, test.origins, 2 * _FLAGS.season)
        draws[name] = naive.draws(past, _FLAGS.horizon, _FLAGS.num_draws)
    scores = {name: forecast_scores.of(each, test.truth) for name, each in draws.items()}
    _print_table(found, test, scores)
    _draw(workdir, found, test, draws, scores)
    _write(workdir, found, num_fit, test, scores, chosen, time.perf_counter() - start)


def _start_workdir(workdir: Path) -> None:
    if (workdir / "results.json").exists():
        raise ValueError(f"{workdir} holds results already: choose another --workdir, or remove that folder")
    new_folders.make(workdir)  # fails before minutes of training rather than after


def _parts(series: "Series") -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first step and the end of the validation part, and those of the test part."""
    end = len(series.values)
    return (end - series.num_test - _FLAGS.num_valid, end - series.num_test), (end - series.num_test, end)


def _part(series: "Series", start: int, end: int) -> Part:
    import numpy as np

    from experiments.studies.series import futures

    origins = np.arange(start, end, _FLAGS.origin_step)
    return Part(origins, futures(series.values[:end], origins, _FLAGS.horizon))


def _fit(
    series: "Series", differences: "Differences", family: str, latent_dim: int, valid: Part
) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Train a model; return it with its parameters, and a row of validation results."""
    import jax
    import numpy as np
    import optax

    import aevb
    from experiments.studies import forecast_scores
    from experiments.studies.series import windows

    (start, end), _ = _parts(series)
    train = windows(differences.forward(series.values[:start]), _FLAGS.window)
    held_out = windows(differences.forward(series.values[start - _FLAGS.season : end]), _FLAGS.window)
    shape, is_linear = train.shape[1:], family == "linear_gaussian"
    sizes = dict.fromkeys(("emission_dim", "transition_dim", "rnn_dim"), _FLAGS.hidden_dim)
    options = {} if is_linear else {"likelihood": "gaussian", **sizes}
    model = aevb.models.build(family, data_shape=shape, latent_dim=latent_dim, **options)
    result = aevb.fit(
        train,
        model,
        key=jax.random.key(_FLAGS.seed),
        valid_data=held_out,
        patience=_FLAGS.patience,
        optimizer=optax.adam(_FLAGS.learning_rate),
        # With the exact posterior of the linear model, every draw of the sampled bound equals log p(x).
        estimator=aevb.Estimator(kl="sampled" if is_linear else "analytic"),
        num_epochs=_FLAGS.num_epochs,
        batch_size=min(_FLAGS.batch_size, len(train)),
        map_prior=False,
        active_units=False,
    )
    assert result.best_state is not None
    assert result.best_evaluation is not None
    fitted = model, result.best_state.params
    scores = forecast_scores.of(_forecast(series, differences, *fitted, valid), valid.truth)
    row = {
        "latent_dim": latent_dim,
        "valid_bound_per_step": result.best_evaluation.valid_elbo / float(np.mean(np.sum(~np.isnan(held_out), axis=1))),
        "valid_crps": float(np.nanmean(scores.crps)),
        "best_epoch": result.best_evaluation.epoch,
        "num_epochs": result.history[-1].epoch,
        "train_seconds": result.history[-1].seconds,
    }
    print(
        f"{_MODELS[family]}, {latent_dim} latents: epoch {row['best_epoch']} of {row['num_epochs']}, validation: bound "
        f"{row['valid_bound_per_step']:.3f} nats per step, CRPS {row['valid_crps']:.4f}; {row['train_seconds']:.1f} s",
        flush=True,
    )
    return fitted, row


def _forecast(series: "Series", differences: "Differences", model: Any, params: Any, part: Part) -> "np.ndarray":
    """Return draws of the forecasts of a part, `[N, S, H, D]`, in the units of the series."""
    import jax

    from aevb import sequences
    from experiments.studies.series import histories

    changes = differences.forward(series.values)
    past = histories(changes, part.origins - _FLAGS.season, _FLAGS.window)
    key = jax.random.key(_FLAGS.seed + 1)
    draws = sequences.forecast(
        params, key, past, model, _FLAGS.horizon, _FLAGS.num_draws, method=_FLAGS.method, num_particles=_FLAGS.num_draws
    )
    return differences.back(draws, histories(series.values, part.origins, 2 * _FLAGS.season))


def _horizons() -> list[int]:
    return [each for each in _SHOWN_HORIZONS if each <= _FLAGS.horizon] or [_FLAGS.horizon]


def _print_table(series: "Series", test: Part, scores: "dict[str, Scores]") -> None:
    from experiments.reports.tables import print_table

    print(
        f"\n{series.name}: {len(test.origins)} origins in the last {series.num_test} steps, in the units of the series:"
    )
    rows = []
    for horizon in _horizons():
        for name, each in scores.items():
            at = each.at(horizon)
            cells = {heading: f"{at[key]:.3f}" for heading, key in (("MAE", "mae"), ("RMSE", "rmse"), ("CRPS", "crps"))}
            shares = {f"in {level:.0%}": f"{at['coverage'][str(level)]:.0%}" for level in (0.5, 0.9)}
            rows.append({"horizon": horizon, "model": name, **cells, **shares})
    print_table(rows)


def _draw(
    workdir: Path, series: "Series", test: Part, draws: "dict[str, np.ndarray]", scores: "dict[str, Scores]"
) -> None:
    import numpy as np

    from aevb import figures
    from experiments.reports.figure_files import save_figure

    last_whole = np.flatnonzero(test.origins + _FLAGS.horizon <= len(series.values))
    last = int(last_whole[-1]) if len(last_whole) else 0
    panels = []
    for name, each in draws.items():
        for row in sorted({0, last // 2, last}):
            origin = int(test.origins[row])
            shown = slice(max(origin - 3 * _FLAGS.season, 0), origin + _FLAGS.horizon)
            times = series.times[origin : origin + _FLAGS.horizon]
            title = f"{name}, from {round(float(series.times[origin]), 1):.6g}"
            values = series.values[shown, 0]
            panels.append(figures.Fan(title, series.times[shown], values, times, each[row, :, : len(times), 0]))
    count = len(panels) // len(draws)
    save_figure(figures.fans(panels, count, series.time_name, f"{series.name}: forecasts"), workdir / "forecasts.png")
    title = f"{series.name}: forecasts from {len(test.origins)} origins"
    by_horizon = {name: np.nanmean(each.crps, axis=(0, 2)) for name, each in scores.items()}
    save_figure(figures.by_horizon(by_horizon, "CRPS", title), workdir / "scores.png")
    levels = np.arange(0.05, 1, 0.05)
    shares = {name: each.coverage(levels) for name, each in scores.items()}
    calibration = figures.calibration(levels, shares, series.num_test, f"{title}, all horizons")
    save_figure(calibration, workdir / "calibration.png")


def _write(
    workdir: Path,
    series: "Series",
    num_fit: int,
    test: Part,
    scores: "dict[str, Scores]",
    chosen: dict[str, list[dict[str, Any]]],
    seconds: float,
) -> None:
    from experiments.reports.provenance import provenance

    names = (
        "models", "latent_dim", "hidden_dim", "season", "window", "num_valid", "horizon", "origin_step",
        "learning_rate", "num_epochs", "patience", "batch_size", "method", "num_draws", "seed", "data",
    )  # fmt: skip
    results = {
        "command": shlex.join(["python", "-m", "experiments.forecast", *sys.argv[1:]]),
        "dataset": series.name,
        **{name: _FLAGS[name].value for name in names},
        "num_steps": {"fit": num_fit, "valid": _FLAGS.num_valid, "test": series.num_test},
        "num_origins": len(test.origins),
        "seconds": seconds,
        **provenance(),
        "tried": chosen,
        "by_horizon": {
            name: [{"horizon": step, **each.at(step)} for step in range(1, _FLAGS.horizon + 1)]
            for name, each in scores.items()
        },
    }
    write_json(workdir / "results.json", results)
    print(f"{seconds:.0f} seconds; written: {workdir}")
