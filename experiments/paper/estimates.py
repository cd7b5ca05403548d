"""Marginal likelihoods of the checkpoints of a run, each estimated once and saved in the run folder."""

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

# Fewer chains and draws than for a final estimate: a curve has dozens of points, and the spread over datapoints is far
# larger than the error of these estimates.
_HMC_OPTIONS: dict[str, Any] = {"num_chains": 4, "num_warmup": 80, "num_fit_samples": 50, "num_samples": 75}


def estimate(folder: Path, step: int, data: Dataset) -> dict[str, Any]:
    """Estimate log p(x) of `data` with the estimator of Appendix D, at the checkpoint of `step`.

    Returns:
      `log_marginal`, the mean in nats; `standard_error`, its error as an estimate for the whole split;
      `monte_carlo_error`, the part of that error due to the estimator; `disagreeing`, the fraction of datapoints whose
      chains disagree.
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
    """Return the saved estimate, or `None` if it is missing, damaged or was made with other options."""
    try:
        found = json.loads(path.read_text())
        return found if found["options"] == _HMC_OPTIONS else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
