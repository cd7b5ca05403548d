"""The contents of summary.json at the end of a run, from its last state and its best."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from aevb.algorithms import TrainState
from aevb.algorithms.full_vb import posterior_mean
from aevb.model import Params
from aevb.training import Evaluation
from experiments.configs import Config
from experiments.reports.errors import errors
from experiments.reports.per_step import closing_figures
from experiments.runs.splits import Splits
from experiments.runs.summary import summarize


def params_of_model(config: Config, params: Params) -> Params:
    """Return the model's parameters on the host; for full variational Bayes, theta is its posterior mean."""
    params = jax.device_get(params)
    return posterior_mean(params) if config.algorithm == "full_vb" else params


def closing_summary(
    config: Config,
    name: str,
    splits: Splits,
    history: Sequence[Evaluation],
    state: TrainState,
    best: Params | None,
    stream: bool = False,
) -> dict[str, Any]:
    """Return the contents of summary.json.

    Args:
      config: the configuration of the run.
      name: the name of the run in printed output.
      splits: the data of the run.
      history: all evaluations of the run.
      state: the last state.
      best: the parameters of the best state by validation; `None` if there is none.
      stream: whether to read the data block by block instead of holding them in memory.
    """
    found = {}
    if np.isfinite(history[-1].train_elbo):  # Monte Carlo EM has no bound to classify by
        last = params_of_model(config, state.params)
        best = None if best is None else params_of_model(config, best)
        found = errors(config, last, splits, stream, name) | _per_step(config, best, last, splits)
    return summarize(config, splits, history, state, found)


def _per_step(config: Config, best: Params | None, last: Params, splits: Splits) -> dict[str, Any]:
    """Return the closing figures of sequences, from the best state if validation data chose one."""
    if not splits.test.is_sequences:
        return {}
    params, state = (last, "last") if best is None else (best, "best by validation")
    kl, seed = config.objective.reported_kl or config.objective.kl, config.training.seed
    found = closing_figures(params, splits.test, config.build_model(), kl, seed, state, config.data.condition)
    return {"per_step": found}
