"""Draws of unobserved values of a sequence, and the log-likelihood of their true values."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from aevb.arguments import check_counts
from aevb.data.rows import num_rows, rows
from aevb.data.sequences import lengths_of
from aevb.distributions import Observed
from aevb.model import Datapoint, Model, Params, bind, likelihood_of
from aevb.posterior import OnChunk, chunked
from aevb.sequences.lengths import prepared, value_of, with_value
from aevb.sequences.paths import Draws, Method, checked_draws, draw_paths
from aevb.support import check_data

NUM_PARTICLES = 1000
"""The default number of particles of a filter."""

CHUNK_SIZE = 10
"""The default number of sequences per call of the compiled program."""


def forecast(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    horizon: int,
    num_samples: int = 100,
    *,
    method: Method = "posterior",
    num_particles: int = NUM_PARTICLES,
    mean: bool = False,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> np.ndarray:
    """Return draws of the steps after the last observed step of every sequence, a NumPy array `[N, S, H, D]`.

        z_t ~ p(z_t | x),     z_{t+h} ~ p(z_{t+h} | z_{t+h-1}),     x_{t+h} ~ p(x_{t+h} | z_{t+h}),     h = 1..H

    where t is the last step with an observed value, which may differ between sequences. Each draw is one joint future
    of all H steps.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: sequences `[N, T, D]`, NaN for values that were not observed, or a `Given` of sequences. For a model built by
        name, T is arbitrary; for any other model, T + H must not exceed the model's number of steps.
      model: the four functions. The prior is a `Markov` and the likelihood `Observed`.
      horizon: H.
      num_samples: S, the number of draws per sequence.
      method: how z_t is drawn given x: from q(z|x), "posterior", or from a filter, "particle" or "bootstrap".
      num_particles: K, the number of particles of a filter.
      mean: whether x is the mean of p(x|z) for each draw of z, which are probabilities for a Bernoulli likelihood.
        Their average over draws has less noise than that of draws of x.
      chunk_size: the number of sequences per call of the compiled program. Filters process them one after the other.
      on_chunk: called after every chunk with the number of sequences done.

    Raises:
      ValueError: `xs` has another shape or is outside the likelihood's support, the model is too short, or an option is
        out of range.
      TypeError: the model is not for sequences, or as for `aevb.elbo`.
    """
    check_counts(1, horizon=horizon, chunk_size=chunk_size)
    xs, model = prepared(params, xs, model, horizon)
    draws = checked_draws(params, key, xs, model, method, num_samples, num_particles)
    program = lambda chunk: _forecast(params, key, rows(xs, chunk), chunk, model, draws, int(horizon), bool(mean))
    return chunked(program, np.arange(num_rows(xs)), chunk_size, on_chunk)


def impute(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    num_samples: int = 100,
    *,
    method: Method = "bootstrap",
    num_particles: int = NUM_PARTICLES,
    mean: bool = False,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> np.ndarray:
    """Return sequences with draws in place of their missing values, a NumPy array `[N, S, T, D]`.

    Observed values are the same in every draw. Steps after the last observed one stay NaN: they are not missing values,
    and `forecast` predicts them. Each draw fills all gaps jointly.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: see `forecast`.
      model: see `forecast`.
      num_samples: S, the number of draws per sequence.
      method: how paths z are drawn given all of x, before and after a gap: by backward simulation through the particles
        of a filter, or from q(z|x), "posterior". The latter is better only if q was trained with gaps, or is exact.
      num_particles: K, the number of particles of a filter.
      mean: whether missing values are replaced by the means of p(x|z) for each draw of z.
      chunk_size: see `forecast`.
      on_chunk: see `forecast`.

    Raises:
      ValueError: as for `forecast`.
      TypeError: as for `forecast`.
    """
    check_counts(1, chunk_size=chunk_size)
    size, num_steps = num_rows(xs, "xs"), np.shape(value_of(xs))[1:2]
    xs, model = prepared(params, xs, model)
    draws = checked_draws(params, key, xs, model, method, num_samples, num_particles)
    program = lambda chunk: _impute(params, key, rows(xs, chunk), chunk, model, draws, bool(mean))
    return chunked(program, np.arange(size), chunk_size, on_chunk)[:, :, : num_steps[0]]


def log_likelihood(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    truth: Any,
    model: Model,
    num_samples: int = 1000,
    *,
    method: Method = "bootstrap",
    num_particles: int = NUM_PARTICLES,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> np.ndarray:
    """Estimate log p of the values in `truth` that are missing in `xs`, given `xs`, per step, `[N, T]`, in nats.

        log p(x_t,missing | x_observed) ~= log 1/S sum_s p(x_t,missing | z_t^s),     z^s ~ p(z | x_observed)

    Held-out ends are forecasts of every horizon; held-out stretches and channels are imputed. Each step is evaluated
    alone, so that the sum over steps is not the joint log p. If a step is hard to predict, few draws dominate the
    estimate. On average it is below the true value, by less with more draws.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: sequences `[N, T', D]` with T' up to T; see `forecast`.
      truth: the true values `[N, T, D]`; NaN where they are unknown. Values that are observed in `xs` are ignored.
      model: see `forecast`.
      num_samples: S, the number of draws per sequence.
      method: see `impute`.
      num_particles: K, the number of particles of a filter.
      chunk_size: see `forecast`.
      on_chunk: see `forecast`.

    Returns:
      A NumPy array `[N, T]`; NaN for steps without held-out values.

    Raises:
      ValueError: as for `forecast`, or `truth` does not match `xs`.
      TypeError: as for `forecast`.
    """
    check_counts(1, chunk_size=chunk_size)
    shapes = np.shape(value_of(xs)), np.shape(truth)
    if any(len(shape) != 3 for shape in shapes) or shapes[0][::2] != shapes[1][::2] or shapes[0][1] > shapes[1][1]:
        raise ValueError(
            f"truth must be [N, T, D], for the same sequences as xs and at least as long, got shapes {shapes[1]} and "
            f"{shapes[0]}"
        )
    num_steps = shapes[1][1]
    xs, model = prepared(params, xs, model, num_steps - shapes[0][1])
    values = value_of(xs)
    truth = jnp.asarray(truth, values.dtype)
    truth = jnp.pad(truth, ((0, 0), (0, values.shape[1] - num_steps), (0, 0)), constant_values=jnp.nan)
    check_data(params, with_value(xs, truth), model, "truth")
    truth = jnp.where(jnp.isnan(values), truth, jnp.nan)
    draws = checked_draws(params, key, xs, model, method, num_samples, num_particles)
    program = lambda chunk: _log_likelihood(params, key, rows((xs, truth), chunk), chunk, model, draws)
    return chunked(program, np.arange(len(values)), chunk_size, on_chunk)[:, :num_steps]


@functools.partial(jax.jit, static_argnames=("model", "draws", "horizon", "mean"))
def _forecast(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    positions: jax.Array,
    model: Model,
    draws: Draws,
    horizon: int,
    mean: bool,
) -> jax.Array:
    def one(x: Datapoint, position: jax.Array) -> jax.Array:
        path_key, x_key = jax.random.split(jax.random.fold_in(key, position))
        paths = draw_paths(params, path_key, x, model, draws, only_last=True)
        values = _decoded(params, x_key, x, model, paths, mean)
        return jax.lax.dynamic_slice_in_dim(values, lengths_of(value_of(x)), horizon, axis=1)

    return over_sequences(one, draws)(xs, positions)


@functools.partial(jax.jit, static_argnames=("model", "draws", "mean"))
def _impute(
    params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, draws: Draws, mean: bool
) -> jax.Array:
    def one(x: Datapoint, position: jax.Array) -> jax.Array:
        path_key, x_key = jax.random.split(jax.random.fold_in(key, position))
        values = _decoded(params, x_key, x, model, draw_paths(params, path_key, x, model, draws), mean)
        observed = value_of(x)
        is_missing = jnp.isnan(observed) & (jnp.arange(len(observed)) < lengths_of(observed))[:, None]
        return jnp.where(is_missing, values, observed)

    return over_sequences(one, draws)(xs, positions)


@functools.partial(jax.jit, static_argnames=("model", "draws"))
def _log_likelihood(
    params: Params, key: jax.Array, both: tuple, positions: jax.Array, model: Model, draws: Draws
) -> jax.Array:
    def one(both: tuple, position: jax.Array) -> jax.Array:
        x, truth = both
        bound = bind(model, x)[0]
        paths = draw_paths(params, jax.random.fold_in(key, position), x, model, draws)

        def by_step(z: jax.Array) -> jax.Array:
            likelihood = likelihood_of(bound, params, z)
            assert isinstance(likelihood, Observed)
            return likelihood.log_probs(truth)

        found = logsumexp(jax.vmap(by_step)(paths), axis=0) - jnp.log(draws.num_samples)
        return jnp.where(jnp.all(jnp.isnan(truth), axis=-1), jnp.nan, found)

    return over_sequences(one, draws)(both, positions)


def over_sequences(one: Any, draws: Draws) -> Any:
    """Map a function of one sequence over several. Filters run one after the other, because they need much memory."""
    if draws.method == "posterior":
        return jax.vmap(one)
    return lambda *arguments: jax.lax.map(lambda each: one(*each), arguments)


def _decoded(params: Params, key: jax.Array, x: Datapoint, model: Model, paths: jax.Array, mean: bool) -> jax.Array:
    """Return values of x for paths `[S, T, J]`: draws from p(x|z), or its means, `[S, T, D]`."""
    bound = bind(model, x)[0]

    def one(z: jax.Array, key: jax.Array) -> jax.Array:
        likelihood = likelihood_of(bound, params, z)
        return jnp.asarray(likelihood.mean if mean else likelihood.sample(key), value_of(x).dtype)

    return jax.vmap(one)(paths, jax.random.split(key, len(paths)))
