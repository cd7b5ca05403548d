"""Estimates of log p(hidden | seen) of each datapoint, as the difference of two marginal likelihoods."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from aevb import marginal_likelihood
from aevb.arguments import check_choice
from aevb.data.rows import num_rows
from aevb.marginal_likelihood import Estimate
from aevb.model import Datapoint, Model, Params
from aevb.posterior.channels import Channel
from aevb.posterior.missing import checked_truth
from aevb.posterior.seen import as_seen, checked, value_of, with_value

Estimator: TypeAlias = Literal["mixture", "is", "hmc", "particle"]
"""A method of `aevb.marginal_likelihood`."""


class Predictive(NamedTuple):
    """Estimates of log p(hidden | seen) of each datapoint, as NumPy arrays `[N]`.

    Attributes:
      log_predictive: log p(hidden | seen) of all hidden values jointly, nats.
      standard_error: the combined Monte Carlo error of both estimates, nats.
      seen: the `Estimate` of log p(seen).
      both: the `Estimate` of log p(seen, hidden).
    """

    log_predictive: np.ndarray
    standard_error: np.ndarray
    seen: Estimate
    both: Estimate


def log_predictive(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    truth: Any,
    model: Model,
    *,
    noise: Channel | None = None,
    method: Estimator = "mixture",
    chunk_size: int = 100,
    on_chunk: Callable[[int], None] | None = None,
    **options: Any,
) -> Predictive:
    """Estimate log p(hidden | seen) = log p(seen, hidden) - log p(seen) of every datapoint.

    The log of the mean of p(hidden | z) over draws from p(z | seen) estimates the same quantity. It is far too low on
    average, because those draws hardly ever explain the hidden part as well as draws of z that depend on it. Two
    estimates of log p, each with draws for its own posterior, have known errors, and their biases partly cancel.

    With noise, the hidden part is all of x, and log p(x | y) = log p(x) + log p(y | x) - log p(y).

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: the observed data, as for `draw`.
      truth: the hidden values, leaves `[N, ...]`; NaN if they are not known either. Values seen in `xs` are not used.
        With noise, the truth is all of x, without NaN.
      model: as for `draw`.
      noise: as for `draw`.
      method: as for `marginal_likelihood.evaluate`: "is" if z has a discrete level, "particle" for long sequences.
      chunk_size: as for `draw`.
      on_chunk: called after every chunk with the number of estimates done, out of 2 N.
      **options: options of the estimator, which documents them.

    Raises:
      ValueError: as for `draw` and `impute`; the method is unknown; or, with noise, a part of the truth is NaN.
      TypeError: as for `draw` or the estimator.
    """
    check_choice("method", method, get_args(Estimator))
    xs = checked(params, key, xs, model, noise)
    truth = checked_truth(params, xs, truth, model)
    if noise is None:
        both = jax.tree.map(lambda y, x: jnp.where(jnp.isnan(y), x, y), value_of(xs), truth)
    else:
        both = truth
        if any(bool(jnp.any(jnp.isnan(leaf))) for leaf in jax.tree.leaves(truth)):
            raise ValueError("truth has NaN: for data seen through noise, log p(x | y) needs all of x")
    size, told = num_rows(xs), on_chunk or (lambda done: None)
    keys = jax.random.split(key)

    def estimate(key: jax.Array, data: Datapoint, noise: Channel | None, done: int) -> Estimate:
        seen_model, report = as_seen(model, noise), lambda number: told(done + number)
        return marginal_likelihood.evaluate(
            params, key, data, seen_model, method, chunk_size, report, **options
        ).per_datapoint

    seen = estimate(keys[0], xs, noise, 0)
    joint = estimate(keys[1], with_value(xs, both), None, size)
    found = np.asarray(joint.log_marginal, np.float64) - seen.log_marginal
    if noise is not None:
        found = found + _log_channel(noise, value_of(xs), both)
    error = np.hypot(np.asarray(joint.standard_error, np.float64), seen.standard_error)
    return Predictive(found, error, seen, joint)


def _log_channel(noise: Channel, y: Any, x: Any) -> np.ndarray:
    """Return log p(y | x) of the observed values y of each datapoint, `[N]`."""

    def of_leaf(y: jax.Array, x: jax.Array) -> jax.Array:
        each = jnp.where(jnp.isnan(y), 0, noise.log_prob(jnp.where(jnp.isnan(y), x, y), x))
        return jnp.sum(each, axis=tuple(range(1, each.ndim)))

    return sum(np.asarray(each, np.float64) for each in jax.tree.leaves(jax.tree.map(of_leaf, y, x)))  # type: ignore[return-value]
