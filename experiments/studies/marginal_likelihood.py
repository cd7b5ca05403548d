"""Estimate log p(x) of a trained model by several methods. The command is `experiments.marginal_likelihood`."""

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, shared_flags, trained_run

if TYPE_CHECKING:
    from experiments.configs import Config

_FLAGS = flags.FLAGS
_METHODS = ("is", "hmc", "mixture", "ais", "particle")
_BELOW, _ABOVE = "below (unbiased in p)", "above (unbiased in 1/p)"
_ELBO_SAMPLES = 100
_MAX_R_HAT = 1.1
_CHUNK_SIZE, _SEQUENCES_CHUNK_SIZE = 100, 10  # the memory of a sequence grows with its length


def run() -> None:
    """Define the flags and run."""
    trained_run.define_flags()
    flags.DEFINE_list("methods", ["is", "hmc", "ais"], f"Comma-separated subset of {', '.join(_METHODS)}.")
    flags.DEFINE_integer("num_datapoints", 100, "Number of random datapoints (0: all of the split).", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Seed for choosing datapoints, drawing stochastic targets and the estimators.")
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "The split of the datapoints.")
    flags.DEFINE_integer("num_samples", 5000, "Draws of `is` and `mixture` per datapoint.", lower_bound=2)
    flags.DEFINE_integer("num_hmc_samples", 200, "Draws per chain of `hmc`.", lower_bound=2)
    flags.DEFINE_integer("num_chains", None, "Chains per datapoint; by default the method's own number.", lower_bound=2)
    flags.DEFINE_integer("num_distributions", 100, "Temperature steps of `ais`.", lower_bound=2)
    flags.DEFINE_integer("num_particles", 1000, "Particles per filter of `particle`, for sequences.", lower_bound=1)
    flags.DEFINE_integer(
        "num_filters",
        1,
        "Independent filters of `particle` per datapoint; an error estimate needs at least 2.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "use_encoder", True, "Whether `hmc`, `mixture`, `ais` and `particle` may use the encoder; `is` always uses it."
    )
    flags.DEFINE_integer(
        "chunk_size",
        None,
        f"Datapoints processed at a time, which bounds memory; by default {_CHUNK_SIZE}, and {_SEQUENCES_CHUNK_SIZE} "
        f"for sequences and for `is` on a CPU.",
        lower_bound=1,
    )
    shared_flags.define_data_flags()
    flags.DEFINE_string(
        "output", None, "The JSON file to write, which must not exist yet; by default in the run folder."
    )
    launch.start(_estimate)


def _estimate() -> None:
    _check_flags()
    from experiments import config_files

    config = config_files.read(_FLAGS.run)
    model, params = trained_run.load()
    output = Path(_FLAGS.output) if _FLAGS.output else Path(_FLAGS.run) / _file_name()
    if output.exists():
        raise ValueError(f"{output} exists already: choose another --output, or remove it")
    indices, targets, lengths = _targets(config)
    chunk_size = _FLAGS.chunk_size or (None if lengths is None else _SEQUENCES_CHUNK_SIZE)
    import jax
    import numpy as np

    import aevb
    from experiments.reports.per_step import bounds_of_sequences
    from experiments.reports.provenance import provenance

    keys = jax.random.split(jax.random.key(_FLAGS.seed), 1 + len(_METHODS))
    rows: dict[str, dict[str, Any]] = {}
    for method in _FLAGS.methods:
        key = keys[1 + _METHODS.index(method)]  # the same key whichever other methods run
        rows |= _run_method(method, key, params, targets, model, chunk_size)
    estimator = aevb.Estimator(_ELBO_SAMPLES, config.objective.reported_kl or config.objective.kl)
    by_sequence = {}
    if lengths is None:
        elbo = aevb.evaluate(params, keys[0], targets, model, estimator, chunk_size=chunk_size or _CHUNK_SIZE).elbo
    else:
        bounds = bounds_of_sequences(params, keys[0], targets, model, estimator, chunk_size or _SEQUENCES_CHUNK_SIZE)
        elbo, by_sequence = float(np.mean(bounds, dtype=np.float64)), {"lengths": lengths.tolist()}
        by_sequence["elbo_per_step"], by_sequence["elbo_mean_of_sequences"] = _per_step(bounds, lengths)
        for row in rows.values():
            row["per_step"], row["mean_of_sequences"] = _per_step(row["log_marginals"], lengths)
    result = {
        "run": str(_FLAGS.run),
        "dataset": config.data.name,
        "binarization": config.objective.binarization,
        **{name: _FLAGS[name].value for name in ("split", "seed", "checkpoint", *_OPTION_FLAGS)},
        "num_datapoints": len(indices),
        "elbo": elbo,
        **by_sequence,
        "estimates": rows,
        "indices": [int(index) for index in indices],
        **provenance(),
    }
    _write(output, result)
    _print_table(result)
    print(f"written: {output}")


_OPTION_FLAGS = (
    *("num_samples", "num_hmc_samples", "num_chains", "num_distributions", "use_encoder"),
    *("num_particles", "num_filters"),
)


def _check_flags() -> None:
    trained_run.check_flags()
    for method in _FLAGS.methods:
        if method not in _METHODS:
            raise ValueError(f"--methods takes {','.join(_METHODS)}, got {method!r}")
    if not _FLAGS.methods or len(set(_FLAGS.methods)) < len(_FLAGS.methods):
        raise ValueError(f"--methods must name each method once, got {','.join(_FLAGS.methods)!r}")


def _file_name() -> str:
    """Return a file name made of the methods, the datapoints and all options that differ from their defaults."""
    names = ("split", "num_datapoints", "seed")
    changed = [name for name in ("checkpoint", *_OPTION_FLAGS) if _FLAGS[name].value != _FLAGS[name].default]
    settings = [f"{name}-{_FLAGS[name].value}" for name in (*names, *changed)]
    return ",".join([f"marginal_likelihood-{'-'.join(_FLAGS.methods)}", *settings]) + ".json"


def _targets(config: "Config"):
    """Choose datapoints; return their indices `[n]`, targets and lengths.

    The targets have leaves `[n, ...]` and the run's own binarization. The lengths are those of sequences, `[n]`, and
    `None` for other data.
    """
    import jax
    import numpy as np

    from aevb.data.binarization import binarize_batch, binarize_once
    from aevb.data.rows import num_rows, rows
    from aevb.models.families import takes_images
    from experiments.reports.per_step import lengths_of
    from experiments.runs.splits import load_splits

    data = getattr(load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir), _FLAGS.split)
    if data is None:
        raise ValueError(f"--split=valid is empty: {_FLAGS.run} was trained without validation data")
    datapoints = data.datapoints(not takes_images(config.model.name), config.data.condition)
    available = num_rows(datapoints)
    size = _FLAGS.num_datapoints or available
    if size > available:
        raise ValueError(f"--num_datapoints={size} is more than the {available} of the {_FLAGS.split} split")
    # The whole split is binarized, so that the targets of a datapoint do not depend on which others were chosen.
    binarization = config.objective.binarization
    targets = binarize_once(jax.tree.map(jax.numpy.asarray, datapoints), binarization)
    targets = binarize_batch(jax.random.key(_FLAGS.seed), targets, binarization)
    indices = np.sort(np.random.RandomState(_FLAGS.seed).permutation(available)[:size])
    lengths = lengths_of(data)[indices] if data.is_sequences else None
    return indices, rows(jax.tree.map(np.asarray, targets), indices), lengths


def _per_step(values: Any, lengths: Any) -> tuple[float, float]:
    """Convert nats per sequence `[n]` to nats per step: over all steps, and as the mean over sequences."""
    import numpy as np

    values = np.asarray(values, np.float64)
    return float(values.sum() / lengths.sum()), float(np.mean(values / lengths))


def _run_method(
    method: Any, key: Any, params: Any, targets: Any, model: Any, chunk_size: int | None
) -> dict[str, dict[str, Any]]:
    """Return a method's rows of the table: two for AIS, one per direction, and one for the others."""
    from aevb import marginal_likelihood
    from aevb.data.rows import num_rows
    from experiments.reports.progress import counting

    options = _options(method)
    start = time.perf_counter()
    progress = counting(method, num_rows(targets), " datapoints")
    estimate = marginal_likelihood.evaluate(
        params, key, targets, model, method, chunk_size=chunk_size, on_chunk=progress, **options
    )
    seconds = time.perf_counter() - start
    if isinstance(estimate, marginal_likelihood.Sandwich):
        return {
            "ais forward": _row(estimate.lower, _BELOW, seconds),
            "ais reverse": _row(estimate.upper, _ABOVE, seconds),
        }
    return {method: _row(estimate, _ABOVE if method == "hmc" else _BELOW, seconds)}


def _options(method: str) -> dict[str, Any]:
    """Return the options of an estimator that are set by flags."""
    if method == "is":
        return {"num_samples": _FLAGS.num_samples}
    if method == "particle":
        proposal = "posterior" if _FLAGS.use_encoder else "prior"
        return {"num_samples": _FLAGS.num_particles, "num_filters": _FLAGS.num_filters, "proposal": proposal}
    options: dict[str, Any] = {"use_encoder": _FLAGS.use_encoder}
    if _FLAGS.num_chains:
        options["num_chains"] = _FLAGS.num_chains
    if method == "ais":
        return options | {"num_distributions": _FLAGS.num_distributions}
    return options | {"num_samples": _FLAGS.num_hmc_samples if method == "hmc" else _FLAGS.num_samples}


def _row(estimate: Any, bias: str, seconds: float) -> dict[str, Any]:
    import numpy as np

    values = estimate.per_datapoint
    chains = values.acceptance is not None
    return {
        "mean": estimate.mean,
        "standard_error": estimate.standard_error,
        "mean_monte_carlo_error": float(np.mean(values.standard_error)),
        "monte_carlo_error_of_mean": estimate.monte_carlo_error,
        "max_r_hat": None if values.r_hat is None else float(np.max(values.r_hat)),
        "mean_acceptance": float(np.mean(values.acceptance)) if chains else None,
        "min_effective_sample_size": float(np.min(values.effective_sample_size)),
        "num_above_r_hat_limit": None if values.r_hat is None else int(np.sum(~(values.r_hat <= _MAX_R_HAT))),
        "num_not_finite": int(np.sum(~np.isfinite(values.log_marginal))),
        "bias": bias,
        "seconds": seconds,
        "log_marginals": values.log_marginal.tolist(),
        "standard_errors": values.standard_error.tolist(),
        "r_hats": None if values.r_hat is None else values.r_hat.tolist(),
    }


_OF_SEQUENCES = ("per_step", "mean_of_sequences")
_COLUMNS = {  # heading: (field of the row, format)
    "log p(x)": ("mean", ".3f"),
    "+-": ("standard_error", ".3f"),
    "per step": ("per_step", ".3f"),
    "mean of sequences": ("mean_of_sequences", ".3f"),
    "error each": ("mean_monte_carlo_error", ".4f"),
    "max R-hat": ("max_r_hat", ".3f"),
    "accept": ("mean_acceptance", ".2f"),
    "min ESS": ("min_effective_sample_size", ".1f"),
    "seconds": ("seconds", ".1f"),
}


def _print_table(result: dict[str, Any]) -> None:
    from experiments.reports.tables import print_table

    print(
        f"\n{result['dataset']} ({result['binarization']}), {result['num_datapoints']} random datapoints of the "
        f"{result['split']} split, seed {result['seed']}, nats per datapoint:"
    )
    elbo = {"mean": result["elbo"], "bias": "below"}
    if "lengths" in result:
        elbo |= {"per_step": result["elbo_per_step"], "mean_of_sequences": result["elbo_mean_of_sequences"]}
        steps = f"their {sum(result['lengths']):,} steps"
        print(
            f"per step: the sum over sequences / {steps}; mean of sequences: the mean over sequences of nats per step"
        )
    rows = result["estimates"] | {"ELBO": elbo}
    columns = {name: of for name, of in _COLUMNS.items() if "lengths" in result or of[0] not in _OF_SEQUENCES}
    print_table(
        [
            {
                "method": name,
                **{heading: _cell(row.get(field), form) for heading, (field, form) in columns.items()},
                "on average": row["bias"],
            }
            for name, row in rows.items()
        ]
    )
    for name, row in result["estimates"].items():
        if row["num_above_r_hat_limit"]:
            number = row["num_above_r_hat_limit"]
            print(f"warning: {name}: chains disagree (R-hat above {_MAX_R_HAT}) for {number} datapoints")
        if row["num_not_finite"]:
            print(f"warning: {name}: the estimate is not finite for {row['num_not_finite']} datapoints")


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _write(path: Path, result: dict[str, Any]) -> None:
    """Write the results, but never over another file, not even one that was created in the meantime."""
    try:
        with path.open("x") as file:
            file.write(json.dumps(_without_nan(result), indent=1) + "\n")
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None


def _without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by null; `num_not_finite` counts them."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
