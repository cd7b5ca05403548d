"""What was not seen of data, given what was: its mean, draws of it, and how probable each value of it is."""

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
    """What p(x | seen) says of each datapoint, NumPy arrays in the shape of the data.

    What was seen without noise is as it was. In-painted values and denoised ones are estimates.

    Attributes:
      mean: leaves `[N, ...]`, E[x | seen]: NaN of a class that was not seen.
      draws: leaves `[N, R, ...]`, draws of p(x | seen), each a whole; `None` where none were asked for.
      log_likelihood: leaves `[N, ...]`, log p(x_i | seen) of each value of the truth by itself, nats; NaN where it was
        seen without noise, or is not known. `None` where no truth was given.
      r_hat: as of `PosteriorDraws`.
      acceptance: the same.
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
    """Return what was not seen of every datapoint: NaN is in-painted, and noise taken away.

        E[x | y] ~= 1/S sum_s E[x | z_s, y],      log p(x_i | y) ~= log 1/S sum_s p(x_i | z_s, y_i),      z_s ~ p(z|y)

    A value that was seen through noise says something of itself beside what z says of it, and that is in both. Draws of
    z are made as `draw` makes them, and with the same key are the same ones; none of them leaves the device.

    Of sequences, steps after the end are missing too. `aevb.sequences` is about those, and has particle filters.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: what was seen, leaves `[N, ...]`, NaN for what was not, or a `Given`.
      model: as of `draw`, with a likelihood of independent values.
      num_samples: S, draws of z for each datapoint.
      truth: leaves `[N, ...]`, NaN where it is not known; without a condition. Values that `xs` have are not looked at
        unless there was noise.
      num_draws: R, of x, at most S.
      method: as of `draw`.
      noise: as of `draw`.
      num_chains: as of `draw`.
      num_warmup: as of `draw`.
      num_transitions: as of `draw`.
      num_steps: as of `draw`.
      chunk_size: as of `draw`.
      on_chunk: as of `draw`.

    Raises:
      ValueError: as for `draw`; or `truth` is of another shape, or outside of the likelihood's support.
      TypeError: as for `draw`.
    """
    check_counts(1, chunk_size=chunk_size)
    check_counts(0, num_draws=num_draws)
    options = checked_options(method, noise, num_samples, num_chains, num_warmup, num_transitions, num_steps)
    if num_draws > options.num_samples:
        raise ValueError(f"num_draws={num_draws} of x are more than the num_samples={num_samples} draws of z")
    xs = checked_for(params, key, xs, model, options)
    truth = None if truth is None else checked_truth(params, xs, truth, model)
    program = compiled(_impute_chunk)
    # Draws of x are evenly spaced among those of z, and so over all chains.
    chosen = np.arange(num_draws) * options.num_samples // num_draws if num_draws else None
    return chunked(
        lambda chunk: program(params, key, rows(xs, chunk), chunk, model, options, chosen, rows(truth, chunk)),
        np.arange(num_rows(xs)),
        chunk_size,
        on_chunk,
    )


def checked_truth(params: Params, xs: Datapoint, truth: Any, model: Model) -> Any:
    """Return the truth on the device, checked against the model and what was seen.

    Raises:
      ValueError: it is of another shape than `xs`, or outside of the likelihood's support.
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
    """Return p(x|z, y) value by value, by level, of values that were not seen or seen through noise."""
    levels = by_value(likelihood)
    if isinstance(likelihood, Chain):  # of levels that depend on others nothing is missing, so at y they are known
        levels = {name: levels.get(name) or by_value(level)[ONE_LEVEL] for name, level in likelihood.at(y).items()}
    if noise is None:
        return levels
    return {name: noise.restored(level, of_level(y, name)) for name, level in levels.items()}


def _averages(restored: Any, z: Any, y: Any, truth: Any, options: Options) -> tuple[Any, Any]:
    """Return E[x | y], and log p(x_i | y) of the truth, over draws of z, one at a time in memory."""
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
    """Return what was seen as it was, and the estimate elsewhere."""
    return estimate if noise is not None else jnp.where(jnp.isnan(y), estimate, y)


def _like(y: Any, levels: dict[str, jax.Array]) -> Any:
    """Return values by level in the structure of a datapoint."""
    return levels if isinstance(y, dict) else levels[ONE_LEVEL]
