"""Emissions of hidden Markov models: four built-in families, or any numpyro distribution.

A step x is `[D]`. NaN marks values that were not observed; they contribute nothing to its log-likelihood. The functions
here work on S steps at a time, `[S, D]`.

The M-steps have pseudo-counts: every state is assigned `pseudo_count` steps in addition to its expected number of
steps. No probability becomes 0, and a state that emits almost nothing stays near the data.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import Distribution, Independent

from aevb.arguments import check_counts, describe
from aevb.distributions.observed import filled

EmissionParams: TypeAlias = Any
"""A pytree of arrays."""

_SMALLEST_PROBABILITY = 1e-6
_SMALLEST_RATE = 1e-6


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Emission:
    """A family of emissions. It is hashable and passes through `jax.jit` and `jax.vmap` as a static argument.

    A custom family needs the first three functions. Define them once instead of for each call, so that compiled
    programs are reused.

        Emission(lambda params: dist.LogNormal(params["mean"], 1.0).to_event(1), initialize, maximize)

    Attributes:
      distribution: a function `params -> distribution` with batch shape `[K]`, one entry per state, and event shape
        `[D]`.
      initialize: a function `(key, steps, num_states) -> params` of the steps of all sequences, `[S, D]`, NaN after
        the ends.
      maximize: the M-step, a function `(params, weights, steps) -> params`. `weights` `[S, K]` is the expected number
        of times that each state emitted each step, 0 after the end of a sequence. The result maximizes the expected
        log-likelihood; `params` are the previous parameters.
      log_prob: a function `(params, steps) -> [S, K]` in nats, if there is a faster way than through `distribution`.
    """

    distribution: Callable[[EmissionParams], Distribution]
    initialize: Callable[[jax.Array, jax.Array, int], EmissionParams]
    maximize: Callable[[EmissionParams, jax.Array, jax.Array], EmissionParams]
    log_prob: Callable[[EmissionParams, jax.Array], jax.Array] | None = None


def log_likelihoods(emission: Emission, params: EmissionParams, steps: jax.Array) -> jax.Array:
    """Return log p(x | state) of S steps under every state, `[S, K]`, in nats; 0 where nothing was observed."""
    if emission.log_prob is not None:
        return emission.log_prob(params, steps)
    return log_prob_by_distribution(emission, params, steps)


def log_prob_by_distribution(emission: Emission, params: EmissionParams, steps: jax.Array) -> jax.Array:
    """Return the same as `log_likelihoods`, computed from the family's `distribution`."""
    base = _factors(emission.distribution(params))
    steps = steps[:, None, :]
    # `where` both inside and outside, as in `aevb.Observed`: missing values must not reach the gradient.
    densities = jnp.asarray(base.log_prob(filled(steps, _support(base))))
    if base.event_shape:
        return jnp.where(jnp.isnan(steps).any(-1), 0, densities)
    return jnp.sum(jnp.where(jnp.isnan(steps), 0, densities), axis=-1)


def is_factorised(distribution: Distribution) -> bool:
    """Return whether the D values of a step are independent given the state, so that some may be missing."""
    return not _factors(distribution).event_shape


@jax.jit
def is_supported(emission: Emission, params: EmissionParams, steps: jax.Array) -> jax.Array:
    """Return whether some state can emit each value, `[S, D]`, or each step, `[S]`, if its values are dependent."""
    base = _factors(emission.distribution(params))
    support, steps = _support(base), steps[:, None, :]
    missing = jnp.isnan(steps)
    # The values stay floats, because `filled` would truncate them to integers.
    values = jnp.where(missing, jnp.asarray(support.feasible_like(steps), steps.dtype), steps)
    return jnp.any(jnp.asarray(support(values)) | (missing.any(-1) if base.event_shape else missing), axis=1)


def check_emission(emission: Any) -> None:
    """Raise `TypeError` unless `emission` is an `Emission`."""
    if not isinstance(emission, Emission):
        raise TypeError(
            f"emission must be an aevb.hidden_markov.Emission, such as hidden_markov.bernoulli(), got "
            f"{describe(emission)}"
        )


def check_pseudo_count(pseudo_count: Any) -> None:
    """Raise `ValueError` unless `pseudo_count` is finite and not negative."""
    if not 0 <= pseudo_count < float("inf"):
        raise ValueError(f"pseudo_count must be 0 or a positive number, got {pseudo_count}")


@functools.cache
def bernoulli(pseudo_count: float = 0.1) -> Emission:
    """Return D independent Bernoulli distributions over 0 and 1, with parameters `{"logits": [K, D]}`.

    The pseudo-count is the number of additional steps with a 1, and also the number with a 0.
    """
    check_pseudo_count(pseudo_count)

    def initialize(key: jax.Array, steps: jax.Array, num_states: int) -> EmissionParams:
        picked, mean = _picked_and_mean(key, steps, num_states)
        return {"logits": _logit(jnp.clip(0.5 * picked + 0.5 * mean, 0.01, 0.99))}

    def maximize(params: EmissionParams, weights: jax.Array, steps: jax.Array) -> EmissionParams:
        seen, values = _seen_and_values(steps)
        total = _product(weights.T, seen) + 2 * pseudo_count
        on = _product(weights.T, values) + pseudo_count
        share = jnp.clip(on / jnp.where(total > 0, total, 1), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
        return {"logits": jnp.where(total > 0, _logit(share), params["logits"])}

    def log_prob(params: EmissionParams, steps: jax.Array) -> jax.Array:
        seen, values = _seen_and_values(steps)
        return _product(values, params["logits"].T) + _product(seen, jax.nn.log_sigmoid(-params["logits"]).T)

    return Emission(lambda params: dist.BernoulliLogits(params["logits"]).to_event(1), initialize, maximize, log_prob)


@functools.cache
def gaussian(pseudo_count: float = 0.1, relative_variance_floor: float = 1e-3) -> Emission:
    """Return Gaussians with a diagonal covariance, with parameters `{"mean": [K, D], "variance": [K, D]}`.

    Args:
      pseudo_count: the number of additional steps with the mean and the variance of all data.
      relative_variance_floor: the smallest variance, as a fraction of the variance of all data.
    """
    check_pseudo_count(pseudo_count)
    if not relative_variance_floor > 0:
        raise ValueError(f"relative_variance_floor must be positive, got {relative_variance_floor}")

    def initialize(key: jax.Array, steps: jax.Array, num_states: int) -> EmissionParams:
        picked, _ = _picked_and_mean(key, steps, num_states)
        return {"mean": picked, "variance": jnp.broadcast_to(_spread(steps), picked.shape)}

    def maximize(params: EmissionParams, weights: jax.Array, steps: jax.Array) -> EmissionParams:
        # Values are centered at the mean of all data, because squares of values far from 0 would lose precision.
        center, spread = _mean(steps), _spread(steps)
        seen, values = _seen_and_values(steps - center)
        total = _product(weights.T, seen) + pseudo_count
        safe_total = jnp.where(total > 0, total, 1)
        offset = _product(weights.T, values) / safe_total
        square = (_product(weights.T, values**2) + pseudo_count * spread) / safe_total
        variance = jnp.maximum(square - offset**2, relative_variance_floor * spread)
        return {
            "mean": jnp.where(total > 0, center + offset, params["mean"]),
            "variance": jnp.where(total > 0, variance, params["variance"]),
        }

    def distribution(params: EmissionParams) -> Distribution:
        return dist.Normal(params["mean"], jnp.sqrt(params["variance"])).to_event(1)

    return Emission(distribution, initialize, maximize)


@functools.cache
def poisson(pseudo_count: float = 0.1) -> Emission:
    """Return D independent Poisson distributions, with parameters `{"log_rate": [K, D]}`.

    The pseudo-count is the number of additional steps with the mean of all data.
    """
    check_pseudo_count(pseudo_count)

    def initialize(key: jax.Array, steps: jax.Array, num_states: int) -> EmissionParams:
        picked, mean = _picked_and_mean(key, steps, num_states)
        return {"log_rate": jnp.log(jnp.maximum(0.5 * picked + 0.5 * mean, _SMALLEST_RATE))}

    def maximize(params: EmissionParams, weights: jax.Array, steps: jax.Array) -> EmissionParams:
        seen, values = _seen_and_values(steps)
        total = _product(weights.T, seen) + pseudo_count
        rate = (_product(weights.T, values) + pseudo_count * _mean(steps)) / jnp.where(total > 0, total, 1)
        return {"log_rate": jnp.where(total > 0, jnp.log(jnp.maximum(rate, _SMALLEST_RATE)), params["log_rate"])}

    return Emission(lambda params: dist.Poisson(jnp.exp(params["log_rate"])).to_event(1), initialize, maximize)


@functools.cache
def categorical(num_values: int, pseudo_count: float = 0.1) -> Emission:
    """Return D independent categorical distributions over 0..`num_values` - 1.

    The parameters are `{"logits": [K, D, num_values]}`. The pseudo-count is the number of additional steps with each
    value. The logits returned by `maximize` and `initialize` are log-probabilities.
    """
    check_counts(2, num_values=num_values)
    check_pseudo_count(pseudo_count)

    def one_hot(steps: jax.Array) -> jax.Array:  # [S, D, C], all zeros where NaN
        return (steps[..., None] == jnp.arange(num_values)).astype(steps.dtype)

    def initialize(key: jax.Array, steps: jax.Array, num_states: int) -> EmissionParams:
        picked, _ = _picked_and_mean(key, steps, num_states, fill=False)
        counts = one_hot(steps).sum(0) + 1
        share = counts / counts.sum(-1, keepdims=True)
        mixed = 0.5 * jnp.where(jnp.isnan(picked)[..., None], share, one_hot(picked)) + 0.5 * share
        return {"logits": jnp.log(jnp.maximum(mixed, 0.01 / num_values))}

    def maximize(params: EmissionParams, weights: jax.Array, steps: jax.Array) -> EmissionParams:
        each = one_hot(steps)
        counts = _product(weights.T, each.reshape(len(steps), -1)).reshape(-1, *each.shape[1:]) + pseudo_count
        total = counts.sum(-1, keepdims=True)
        share = jnp.maximum(counts / jnp.where(total > 0, total, 1), _SMALLEST_PROBABILITY)
        log_share = jnp.log(share / share.sum(-1, keepdims=True))
        return {"logits": jnp.where(total > 0, log_share, params["logits"])}

    def log_prob(params: EmissionParams, steps: jax.Array) -> jax.Array:
        log_share = jax.nn.log_softmax(params["logits"])
        return _product(one_hot(steps).reshape(len(steps), -1), log_share.reshape(len(log_share), -1).T)

    return Emission(lambda params: dist.CategoricalLogits(params["logits"]).to_event(1), initialize, maximize, log_prob)


def _factors(distribution: Distribution) -> Distribution:
    """Return the distribution inside `.to_event()`."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _support(base: Distribution) -> Any:
    return base.support


def _seen_and_values(steps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a mask that is 1 where a value was observed, and the values with 0 where none was."""
    seen = ~jnp.isnan(steps)
    return seen.astype(steps.dtype), jnp.where(seen, steps, 0)


def _picked_and_mean(
    key: jax.Array, steps: jax.Array, num_states: int, fill: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Return K different random steps with an observed value, `[K, D]`, and the mean step `[D]`.

    Missing values of a step are replaced by the mean.
    """
    # The K highest random numbers choose the steps: `jax.random.choice` takes seconds to compile.
    ranks = jnp.where(jnp.isnan(steps).all(-1), -1, jax.random.uniform(key, steps.shape[:1]))
    picked, mean = steps[jax.lax.top_k(ranks, num_states)[1]], _mean(steps)
    return jnp.where(jnp.isnan(picked) & fill, mean, picked), mean


def _mean(steps: jax.Array) -> jax.Array:
    """Return the mean of all data, `[D]`; 0 for values that were never observed."""
    seen, values = _seen_and_values(steps)
    return values.sum(0) / jnp.maximum(seen.sum(0), 1)


def _spread(steps: jax.Array) -> jax.Array:
    """Return the variance of all data, `[D]`; 1 for values that never vary or were never observed."""
    variance = jnp.nanvar(steps, 0)
    return jnp.where(variance > 0, variance, 1)


def _product(one: jax.Array, other: jax.Array) -> jax.Array:
    """Multiply matrices in full single precision, which is not the default on GPUs."""
    return jnp.matmul(one, other, precision=jax.lax.Precision.HIGHEST)


def _logit(probability: jax.Array) -> jax.Array:
    return jnp.log(probability) - jnp.log1p(-probability)
