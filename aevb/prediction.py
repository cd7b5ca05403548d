"""Predictions of y given x by a conditional model, and their calibration: p(y | x) = int p(y | x, z) p(z | x) dz.

    found = aevb.prediction.log_likelihood(params, key, aevb.Given(y, x), model)     # nats per datapoint, by IS
    draws = aevb.prediction.predict(params, key, x, model, num_samples=1000)         # [N, S, ...]
    low, high = aevb.prediction.interval(draws, 0.9)
    pit = aevb.prediction.probability_integral_transform(draws, y)
    aevb.prediction.coverage(pit, [0.5, 0.9])                                        # near 0.5 and 0.9 if calibrated
    aevb.prediction.ranked_probability_score(draws, y)                               # in the units of y

The noise of a datapoint depends only on the key and its position. `chunk_size` limits memory and does not change the
result.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from aevb import marginal_likelihood
from aevb.arguments import check_counts, check_key, describe
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.marginal_likelihood.dataset import DatasetEstimate
from aevb.model import Given, Model, Params, bind, check_decoder, check_model, likelihood_of, prior_of
from aevb.posterior import OnChunk, chunked


def log_likelihood(
    params: Params,
    key: jax.Array,
    data: Given,
    model: Model,
    *,
    num_samples: int = 1000,
    chunk_size: int | None = None,
    on_chunk: OnChunk | None = None,
) -> DatasetEstimate:
    """Estimate log p(y | x) of every datapoint by importance sampling from q(z | x, y), in nats.

    On average the estimate is below log p(y | x) by about half the squared `standard_error`. It is exact if there is no
    z. For standardized values y = (y' - m) / s it estimates log p(y | x); log p(y' | x) is lower by the sum of log s.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      data: `Given(y, x)`, leaves `[N, ...]`.
      model: the four functions, with a condition.
      num_samples: the number of draws of z per datapoint.
      chunk_size: the number of datapoints per call of the compiled program; `None` as for
        `marginal_likelihood.evaluate`.
      on_chunk: called after every chunk with the number of datapoints done.

    Returns:
      A `marginal_likelihood.DatasetEstimate` with the estimate of each datapoint, their mean, and its errors.

    Raises:
      ValueError: as for `marginal_likelihood.evaluate`.
      TypeError: as for `marginal_likelihood.evaluate`, or `data` are not a `Given`.
    """
    if not isinstance(data, Given):
        raise TypeError(f"data must be aevb.Given(y, x), got {describe(data)}")
    return marginal_likelihood.evaluate(params, key, data, model, "is", chunk_size, on_chunk, num_samples=num_samples)


def predict(
    params: Params,
    key: jax.Array,
    conditions: Any,
    model: Model,
    num_samples: int = 100,
    *,
    chunk_size: int = 1000,
    on_chunk: OnChunk | None = None,
) -> Any:
    """Draw from p(y | x) for every x: z from p(z | x), then y from p(y | x, z).

    Return NumPy arrays, leaves `[N, S, ...]`. Their mean over axis 1 is the predictive mean.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      conditions: x, leaves `[N, ...]`.
      model: the four functions, with a condition.
      num_samples: S, the number of draws per condition.
      chunk_size: the number of conditions per call of the compiled program.
      on_chunk: called after every chunk with the number of conditions done.

    Raises:
      ValueError: there are no conditions, or a count is not positive.
      TypeError: the model takes no condition, or as for `aevb.elbo`.
    """
    check_counts(1, num_samples=num_samples, chunk_size=chunk_size)
    conditions = _checked(params, key, conditions, model)
    program = lambda chunk: _predict_chunk(params, key, rows(conditions, chunk), chunk, model, int(num_samples))
    return chunked(program, np.arange(num_rows(conditions)), chunk_size, on_chunk)


def log_density(
    params: Params,
    key: jax.Array,
    conditions: Any,
    values: Any,
    model: Model,
    num_samples: int = 1000,
    *,
    chunk_size: int = 1000,
    on_chunk: OnChunk | None = None,
) -> np.ndarray:
    """Estimate log p(y | x) for every x and each of `values`, `[N, M]`, in nats, for plots of p(y | x).

        log p(y | x) ~= log 1/S sum_s p(y | x, z_s),     z_s ~ p(z | x)

    The encoder is not used, because it is unreliable far from the data. If z has many dimensions, or y determines z
    closely, few draws from the prior contribute and `log_likelihood` is the better estimate.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      conditions: x, leaves `[N, ...]`.
      values: y, leaves `[M, ...]`, the same for all conditions.
      model: the four functions, with a condition.
      num_samples: S, the number of draws of z per condition.
      chunk_size: the number of conditions per call of the compiled program.
      on_chunk: called after every chunk with the number of conditions done.

    Raises:
      ValueError: there are no conditions or no values, or a count is not positive.
      TypeError: the model takes no condition, or as for `aevb.elbo`.
    """
    check_counts(1, num_samples=num_samples, chunk_size=chunk_size)
    conditions = _checked(params, key, conditions, model)
    if num_rows(values, "values") == 0:
        raise ValueError("values are empty: there is nothing to evaluate")
    values = jax.tree.map(jnp.asarray, as_arrays(values))
    program = lambda chunk: _density_chunk(params, key, rows(conditions, chunk), chunk, values, model, int(num_samples))
    return chunked(program, np.arange(num_rows(conditions)), chunk_size, on_chunk)


def interval(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the central intervals that contain a share `level` of p(y | x), `[N, ...]` each.

    Args:
      samples: draws `[N, S, ...]`, as returned by `predict`. With fewer than about 10 / (1 - level) draws the ends are
        rough.
      level: the share, between 0 and 1.

    Raises:
      ValueError: `level` is not between 0 and 1, or `samples` contain NaN.
    """
    _check_levels([level])
    low, high = np.quantile(_without_nan(samples), [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high


def probability_integral_transform(samples: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return P(Y < y | x) for each observed value y, with Y drawn from the model, `[N, ...]` in (0, 1).

    Under the true model these are uniform. Each is (rank + 1/2) / (S + 1) of y among the draws; equal draws count half.
    Coordinates are treated separately.

    Args:
      samples: draws `[N, S, ...]`, as returned by `predict`.
      observed: y, `[N, ...]`. NaN means not observed, and gives NaN.

    Raises:
      ValueError: the shapes do not match, or `samples` contain NaN.
    """
    samples, observed = _paired(samples, observed)
    each = observed[:, None]
    rank = np.sum(samples < each, axis=1) + 0.5 * np.sum(samples == each, axis=1)
    return np.where(np.isnan(observed), np.nan, (rank + 0.5) / (samples.shape[1] + 1))


def ranked_probability_score(samples: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the continuous ranked probability score of each observed value, `[N, ...]`: lower is better.

        E|Y - y| - 1/2 E|Y - Y'|,     Y, Y' independent draws of p(y | x)

    It has the units of y. For a point forecast it is the absolute error. Its mean is lowest for the true p(y | x)
    (Gneiting & Raftery 2007). The estimate from S draws is unbiased. Coordinates are treated separately.

    Args:
      samples: at least 2 draws, `[N, S, ...]`, as returned by `predict`.
      observed: y, `[N, ...]`. NaN means not observed, and gives NaN.

    Raises:
      ValueError: the shapes do not match, there is only one draw, or `samples` contain NaN.
    """
    samples, observed = _paired(samples, observed)
    size = samples.shape[1]
    if size < 2:
        raise ValueError("the ranked probability score needs at least two draws")
    error = np.mean(np.abs(samples - observed[:, None]), axis=1, dtype=np.float64)
    # The sum of |Y - Y'| over all pairs, from sorted draws: the rank of a draw is the number of draws below it.
    weights = (2 * np.arange(size) - (size - 1)).reshape(-1, *[1] * (observed.ndim - 1))
    spread = np.sum(weights * np.sort(samples, axis=1), axis=1, dtype=np.float64) / (size * (size - 1))
    return error - spread


def coverage(transform: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return the share of observed values that lie in the central interval of each level, `[len(levels)]`.

    Under the true model it equals the level, with a standard error of sqrt(level (1 - level) / N).

    Args:
      transform: the result of `probability_integral_transform` for the observed values; NaN is ignored.
      levels: the levels, between 0 and 1.

    Raises:
      ValueError: a level is not between 0 and 1, or nothing was observed.
    """
    _check_levels(levels)
    distances = np.abs(np.asarray(transform) - 0.5)
    distances = distances[~np.isnan(distances)]
    if not distances.size:
        raise ValueError("there are no observed values")
    return np.mean(distances[:, None] <= np.asarray(levels) / 2, axis=0)


def _checked(params: Params, key: jax.Array, conditions: Any, model: Model) -> Any:
    """Check the arguments and return the conditions on the device."""
    check_model(model)
    check_key(key)
    if num_rows(conditions, "conditions") == 0:
        raise ValueError("conditions are empty: there is nothing to predict")
    conditions = jax.tree.map(jnp.asarray, as_arrays(conditions))
    check_decoder(params, bind(model, Given(None, rows(conditions, 0)))[0])
    return conditions


def _check_levels(levels: Sequence[float]) -> None:
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {describe(level)}")


def _paired(samples: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    samples, observed = _without_nan(samples), np.asarray(observed)
    if (samples.shape[0], *samples.shape[2:]) != observed.shape:
        raise ValueError(
            f"samples of shape {samples.shape} do not match observed values of shape {observed.shape}: they must have "
            "the shapes [N, S, ...] and [N, ...]"
        )
    return samples, observed


def _without_nan(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if np.any(np.isnan(samples)):
        raise ValueError("samples contain NaN: so do the model's parameters or the conditions")
    return samples


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _predict_chunk(
    params: Params, key: jax.Array, conditions: Any, positions: jax.Array, model: Model, num_samples: int
) -> Any:
    def one(condition: Any, position: jax.Array) -> Any:
        bound = bind(model, Given(None, condition))[0]
        z_key, y_key = jax.random.split(jax.random.fold_in(key, position))
        z = prior_of(bound, params).sample(z_key, (num_samples,))
        draw = lambda z, key: likelihood_of(bound, params, z).sample(key)
        return jax.vmap(draw)(z, jax.random.split(y_key, num_samples))

    return jax.vmap(one)(conditions, positions)


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _density_chunk(
    params: Params, key: jax.Array, conditions: Any, positions: jax.Array, values: Any, model: Model, num_samples: int
) -> jax.Array:
    def one(numbered: tuple[Any, jax.Array]) -> jax.Array:
        condition, position = numbered
        bound = bind(model, Given(None, condition))[0]
        z = prior_of(bound, params).sample(jax.random.fold_in(key, position), (num_samples,))
        log_probs = lambda z: jax.vmap(likelihood_of(bound, params, z).log_prob)(values)
        return logsumexp(jax.vmap(log_probs)(z), axis=0) - jnp.log(num_samples)

    return jax.lax.map(one, (conditions, positions))  # one condition's draws in memory at a time
