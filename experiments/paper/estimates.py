"""Marginal likelihoods of the checkpoints of a run, each estimated once and kept beside it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aevb import marginal_likelihood
from aevb.data import Dataset
from aevb.saved import load_run
from experiments import config_files
from experiments.runs.folder import write_json

_SEED = 0
_TRUSTED_R_HAT = 1.1

# Fewer chains and draws than for one final figure: a curve has dozens of points, and its datapoints' spread is far
# above these estimates' own error.
_HMC_OPTIONS: dict[str, Any] = {"num_chains": 4, "num_warmup": 80, "num_fit_samples": 50, "num_samples": 75}


def estimate(folder: Path, step: int, data: Dataset) -> dict[str, Any]:
    """Log p(x) over `data` by the estimator of Appendix D, at the checkpoint of `step`.

    Returns:
      `log_marginal`, the mean in nats; `standard_error` of it as an estimate of the whole split's; `monte_carlo_error`,
      the part of it that is the estimator's; `disagreeing`, the share of datapoints whose chains disagree.
    """
    path = folder / "estimates" / f"{step}-{data.split}-{len(data.images)}.json"
    if (kept := _kept(path)) is not None:
        return kept
    algorithm = config_files.read(folder).algorithm
    model, params = load_run(folder, step)
    found = marginal_likelihood.evaluate(
        params,
        jax.random.key(_SEED),
        data.pixels(),
        model,
        method="hmc",
        use_encoder=algorithm != "monte_carlo_em",
        **_HMC_OPTIONS,
    )
    row = {
        "log_marginal": found.mean,
        "standard_error": found.standard_error,
        "monte_carlo_error": found.monte_carlo_error,
        "options": _HMC_OPTIONS,
        "disagreeing": float(np.mean(np.asarray(found.per_datapoint.r_hat) > _TRUSTED_R_HAT)),
    }
    path.parent.mkdir(exist_ok=True)
    write_json(path, row)
    return row


def _kept(path: Path) -> dict[str, Any] | None:
    """Return the estimate that is there; `None` where there is none, it is damaged or other options made it."""
    try:
        found = json.loads(path.read_text())
        return found if found["options"] == _HMC_OPTIONS else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
