"""Nats per time step, of sequences.

Bounds are per datapoint everywhere else, and here a datapoint is a whole sequence. Per step there are two conventions,
which differ by about a tenth of a nat on chorales:

    over steps             the sum over sequences / the sum of their lengths: the one meant unless stated otherwise
    mean of sequences      the mean over sequences of bound / length
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import aevb
from aevb.data import Dataset, Splits
from aevb.data.dataset import Condition
from aevb.data.rows import num_rows, rows
from aevb.model import Model, Params
from aevb.training import Evaluation

NUM_SAMPLES = 10
"""Draws of z per sequence in the closing figures."""

_BOUNDS = ("elbo", "iwae", "fivo", "reconstruction", "kl")
_CHUNK_SIZE = 20


def mean_lengths(splits: Splits) -> dict[str, float]:
    """Return the mean length of the sequences of each split, nothing where data are not sequences."""
    if not splits.train.is_sequences:
        return {}
    return {name: float(np.mean(lengths_of(each))) for name, each in splits._asdict().items() if each is not None}


def lengths_of(data: Dataset) -> np.ndarray:
    """Return the length of each sequence, `[N]`."""
    return np.asarray(data.others["lengths"])


def per_step(row: Evaluation, lengths: Mapping[str, float]) -> dict[str, float]:
    """Return every known bound of an evaluation over steps, as `test_elbo_per_step`.

    Args:
      row: nats per sequence.
      lengths: from `mean_lengths`.
    """
    found = {}
    for split, length in lengths.items():
        for name in _BOUNDS:
            value = getattr(row, f"{split}_{name}", math.nan)
            if math.isfinite(value):
                found[f"{split}_{name}_per_step"] = value / length
    return found


def bounds_of_sequences(
    params: Params, key: jax.Array, data: Any, model: Model, estimator: aevb.Estimator, chunk_size: int = _CHUNK_SIZE
) -> np.ndarray:
    """Return the ELBO of each sequence, `[N]` in nats. Its noise depends only on `key` and its position."""
    size = num_rows(data)
    positions = np.arange(-(-size // chunk_size) * chunk_size).reshape(-1, chunk_size) % size
    return np.asarray(_bounds(params, key, jax.tree.map(np.asarray, data), positions, model, estimator)).ravel()[:size]


@functools.partial(jax.jit, static_argnames=("model", "estimator"))
def _bounds(params: Params, key: jax.Array, data: Any, positions: Any, model: Model, estimator: aevb.Estimator) -> Any:
    def bound(position: jax.Array) -> jax.Array:
        options = {"num_samples": estimator.num_samples, "kl": estimator.kl}
        return aevb.elbo(params, jax.random.fold_in(key, position), rows(data, position), model, **options)

    return jax.lax.map(jax.vmap(bound), positions)


def closing_figures(
    params: Params, data: Dataset, model: Model, kl: Any, seed: int, state: str, condition: Condition = "none"
) -> dict[str, Any]:
    """Return the bound on a split by both conventions, for summary.json.

    Args:
      params: of the reported state.
      data: a split of sequences.
      model: the model of one sequence.
      kl: the estimator of the KL divergence.
      seed: of the draws.
      state: the name of the reported state.
      condition: the condition that the sequences are modelled given.
    """
    lengths = lengths_of(data)
    estimator = aevb.Estimator(NUM_SAMPLES, kl)
    datapoints = data.datapoints(condition=condition)
    bounds = bounds_of_sequences(params, jax.random.key(seed), datapoints, model, estimator)
    return {
        "split": data.split,
        "state": state,
        "num_samples": NUM_SAMPLES,
        "num_sequences": len(lengths),
        "num_steps": int(lengths.sum()),
        "elbo_over_steps": float(bounds.sum(dtype=np.float64) / lengths.sum()),
        "elbo_mean_of_sequences": float(np.mean(bounds / lengths, dtype=np.float64)),
    }
