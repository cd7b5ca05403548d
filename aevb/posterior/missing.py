"""Imputation of unobserved values given the observed ones: their mean, draws, and the log density of each value."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from aevb.arguments import check_counts
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.distributions import Chain
from aevb.distributions.levels import ONE_LEVEL, of_level
from aevb.distributions.observed import filled
from aevb.model import Datapoint, Model, Params, bind, likelihood_of, shapes
from aevb.posterior.batches import OnChunk, chunked
from aevb.posterior.channels import Channel
from aevb.posterior.draws import (
    CHUNK_SIZE,
    NUM_SAMPLES,
    Method,
    Options,
    checked_for,
    checked_options,
    compiled,
    draw_one,
)
from aevb.posterior.seen import as_seen, by_value, value_of, with_value
from aevb.support import check_data


class Imputed(NamedTuple):
    """Estimates under p(x | seen) for each datapoint, as NumPy arrays in the shape of the data.

    Values that were seen without noise are unchanged. In-painted and denoised values are estimates.

    Attributes:
      mean: leaves `[N, ...]`, E[x | seen]; NaN for a class that was not seen.
      draws: leaves `[N, R, ...]`, draws of all of x from p(x | seen); `None` if `num_draws` is 0.
      log_likelihood: leaves `[N, ...]`, log p(x_i | seen) of each value of the truth separately, nats; NaN if the value
        was seen without noise or its truth is not known. `None` if no truth was given.
      r_hat: as in `PosteriorDraws`.
      acceptance: as in `PosteriorDraws`.
    """

    mean: Any
    draws: Any
    log_likelihood: Any
    r_hat: Any
    acceptance: Any


def impute(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    num_samples: int = NUM_SAMPLES,
    *,
    truth: Any = None,
    num_draws: int = 10,
    method: Method = "hmc",
    noise: Channel | None = None,
    num_chains: int = 4,
    num_warmup: int = 200,
    num_transitions: int = 200,
    num_steps: int = 200,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> Imputed:
    """Estimate the values of every datapoint that were not seen: in-paint NaN and remove noise.

        E[x | y] ~= 1/S sum_s E[x | z_s, y],      log p(x_i | y) ~= log 1/S sum_s p(x_i | z_s, y_i),      z_s ~ p(z|y)

    If a value was seen through noise, both estimates use its noisy observation in addition to z. Draws of z are those
    of `draw` with the same key. They do not leave the device.

    In sequences, steps after the end are missing, too. For sequences see `aevb.sequences`, which has particle filters.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: the observed data, leaves `[N, ...]`, with NaN for values that were not seen; or a `Given`.
      model: as for `draw`, with a likelihood of independent values.
      num_samples: S, the number of draws of z per datapoint.
      truth: the true values, leaves `[N, ...]`, without a condition; NaN if not known. Without noise, values seen in
        `xs` are not used.
      num_draws: R, the number of draws of x, at most S.
      method: as for `draw`.
      noise: as for `draw`.
      num_chains: as for `draw`.
      num_warmup: as for `draw`.
      num_transitions: as for `draw`.
      num_steps: as for `draw`.
      chunk_size: as for `draw`.
      on_chunk: as for `draw`.

    Raises:
      ValueError: as for `draw`; or `truth` has another shape or lies outside the likelihood's support.
      TypeError: as for `draw`.
    """
    check_counts(1, chunk_size=chunk_size)
    check_counts(0, num_draws=num_draws)
    options = checked_options(method, noise, num_samples, num_chains, num_warmup, num_transitions, num_steps)
    if num_draws > options.num_samples:
        raise ValueError(f"num_draws={num_draws} of x are more than the num_samples={num_samples} of z")
    xs = checked_for(params, key, xs, model, options)
    truth = None if truth is None else checked_truth(params, xs, truth, model)
    program = compiled(_impute_chunk)
    # Draws of x are evenly spaced among those of z, and thus come from all chains.
    chosen = np.arange(num_draws) * options.num_samples // num_draws if num_draws else None
    return chunked(
        lambda chunk: program(params, key, rows(xs, chunk), chunk, model, options, chosen, rows(truth, chunk)),
        np.arange(num_rows(xs)),
        chunk_size,
        on_chunk,
    )


def checked_truth(params: Params, xs: Datapoint, truth: Any, model: Model) -> Any:
    """Check the truth against the model and the observed data, and return it on the device.

    Raises:
      ValueError: the truth does not have the shape of `xs`, or lies outside the likelihood's support.
    """
    truth = jax.tree.map(jnp.asarray, as_arrays(value_of(truth)))
    found, expected = shapes(truth), shapes(value_of(xs))
    if found != expected:
        raise ValueError(f"truth must have the shape of xs, {expected}, got {found}")
    check_data(params, with_value(xs, truth), as_seen(model), "truth")
    return truth


def _impute_chunk(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    positions: jax.Array,
    model: Model,
    options: Options,
    chosen: jax.Array | None,
    truth: Any,
) -> Imputed:
    def one(x: Datapoint, position: jax.Array, truth: Any) -> Imputed:
        own_key = jax.random.fold_in(key, position)
        z, r_hat, acceptance = draw_one(params, own_key, x, model, options)
        bound, y = bind(model, x)
        restored = lambda z: _restored(likelihood_of(bound, params, z), y, options.noise)
        mean, log_likelihood = _averages(restored, z, y, truth, options)
        draws = None
        if chosen is not None:
            some = jax.tree.map(lambda leaf: leaf[chosen], z)
            keys = jax.random.split(jax.random.fold_in(own_key, 1), len(chosen))
            draws = jax.vmap(lambda z, key: _like(y, _sampled(restored(z), key, y, options.noise)))(some, keys)
        return Imputed(mean, draws, log_likelihood, r_hat, acceptance)

    return jax.vmap(one)(xs, positions, truth)


def _restored(likelihood: Distribution, y: Any, noise: Channel | None) -> dict[str, Distribution]:
    """Return p(x|z, y) elementwise, by level, for values that were not seen or were seen through noise."""
    levels = by_value(likelihood)
    if isinstance(likelihood, Chain):  # the values before a dependent level are not missing, so it is known at y
        levels = {name: levels.get(name) or by_value(level)[ONE_LEVEL] for name, level in likelihood.at(y).items()}
    if noise is None:
        return levels
    return {name: noise.restored(level, of_level(y, name)) for name, level in levels.items()}


def _averages(restored: Any, z: Any, y: Any, truth: Any, options: Options) -> tuple[Any, Any]:
    """Return E[x | y], and log p(x_i | y) of the truth, averaged over draws of z with one in memory at a time."""
    noise = options.noise

    def of(z: Any) -> tuple[Any, Any]:
        levels = restored(z)
        means = {name: jnp.asarray(level.mean) for name, level in levels.items()}
        if truth is None:
            return means, None
        return means, {name: _log_prob(level, of_level(truth, name)) for name, level in levels.items()}

    def add(carry: tuple, z: Any) -> tuple[tuple, None]:
        means, log_probs = of(z)
        return (jax.tree.map(jnp.add, carry[0], means), jax.tree.map(jnp.logaddexp, carry[1], log_probs)), None

    first, rest = jax.tree.map(lambda leaf: leaf[0], z), jax.tree.map(lambda leaf: leaf[1:], z)
    (total, log_total), _ = jax.lax.scan(add, of(first), rest)
    mean = {name: _where_hidden(of / options.num_samples, of_level(y, name), noise) for name, of in total.items()}
    if truth is None:
        return _like(y, mean), None

    def scored(name: str, log_total: jax.Array) -> jax.Array:
        value, true = of_level(y, name), of_level(truth, name)
        counts = ~jnp.isnan(true) & (True if noise is not None else jnp.isnan(value))
        return jnp.where(counts, log_total - jnp.log(options.num_samples), jnp.nan)

    return _like(y, mean), _like(y, {name: scored(name, sums) for name, sums in log_total.items()})


def _log_prob(level: Distribution, truth: jax.Array) -> jax.Array:
    return jnp.asarray(level.log_prob(filled(truth, level.support)))


def _sampled(levels: dict[str, Distribution], key: jax.Array, y: Any, noise: Channel | None) -> dict[str, jax.Array]:
    keys = jax.random.split(key, len(levels))
    return {
        name: _where_hidden(jnp.asarray(level.sample(key)), of_level(y, name), noise)
        for key, (name, level) in zip(keys, levels.items(), strict=True)
    }


def _where_hidden(estimate: jax.Array, y: jax.Array, noise: Channel | None) -> jax.Array:
    """Return the value of `y` if it was seen without noise, and the estimate elsewhere."""
    return estimate if noise is not None else jnp.where(jnp.isnan(y), estimate, y)


def _like(y: Any, levels: dict[str, jax.Array]) -> Any:
    """Return values by level in the structure of a datapoint."""
    return levels if isinstance(y, dict) else levels[ONE_LEVEL]
