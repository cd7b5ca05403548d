"""Draws of what was not observed of a sequence, and how probable what it truly was is."""

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
"""By default, of a filter."""

CHUNK_SIZE = 10
"""By default, sequences in one call of the compiled program."""


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
    """Return draws of the steps that follow the last observed one of every sequence, `[N, S, H, D]` of NumPy.

        z_t ~ p(z_t | x),     z_{t+h} ~ p(z_{t+h} | z_{t+h-1}),     x_{t+h} ~ p(x_{t+h} | z_{t+h}),     h = 1..H

    where t is the last step of which anything was observed; it may be another one in each sequence. A draw is one
    future, whose steps belong together.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: `[N, T, D]`, NaN for what was not observed, or a `Given` of them. T is free for a model that was built by
        name; for another, T + H must not be more than the model's own.
      model: the four functions, its prior a `Markov` and its likelihood `Observed`.
      horizon: H.
      num_samples: S, draws for each sequence.
      method: how z_t is drawn given x: from q(z|x), "posterior", or from a filter, "particle" or "bootstrap".
      num_particles: K, of a filter.
      mean: whether x is the mean of p(x|z) of each draw of z: probabilities, of a Bernoulli. Their mean over draws has
        less noise than that of draws of x.
      chunk_size: sequences in one call of the compiled program; those of filters are taken one after the other.
      on_chunk: called after every chunk with the number of sequences done.

    Raises:
      ValueError: `xs` are of another shape or outside of the likelihood's support, the model is too short, or an option
        is out of range.
      TypeError: the model is not of sequences, or as for `aevb.elbo`.
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
    """Return draws of what is missing in every sequence, in its place, `[N, S, T, D]` of NumPy.

    What was observed is as it was in every draw. Steps after the last observed one stay NaN: they are not missing, and
    `forecast` is for them. A draw is one way to fill all gaps, whose values belong together.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: as of `forecast`.
      model: as of `forecast`.
      num_samples: S, draws for each sequence.
      method: how paths z are drawn given all of x, before and after a gap: through the particles of a filter,
        backwards, or from q(z|x), "posterior". That is better only where q knows gaps: it was trained with such, or is
        exact.
      num_particles: K, of a filter.
      mean: whether missing values are the means of p(x|z) of each draw of z.
      chunk_size: as of `forecast`.
      on_chunk: as of `forecast`.

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
    """Estimate log p of what `truth` has and `xs` have not, given `xs`: each step by itself, `[N, T]`, nats.

        log p(x_t,missing | x_observed) ~= log 1/S sum_s p(x_t,missing | z_t^s),     z^s ~ p(z | x_observed)

    Held-out ends are forecasts of every horizon, held-out stretches and channels are imputed. Steps are looked at each
    alone, so that their sum is not the log p of all of them together. Few draws matter where a step is hard to predict,
    and the estimate is below the truth on average, by less the more draws there are.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: as of `forecast`, `[N, T', D]` with T' up to T.
      truth: `[N, T, D]`; NaN for what is not known either. What `xs` have is not looked at.
      model: as of `forecast`.
      num_samples: S, draws for each sequence.
      method: as of `impute`.
      num_particles: K, of a filter.
      chunk_size: as of `forecast`.
      on_chunk: as of `forecast`.

    Returns:
      `[N, T]` of NumPy; NaN for steps of which nothing was held out.

    Raises:
      ValueError: as for `forecast`, or `truth` does not go with `xs`.
      TypeError: as for `forecast`.
    """
    check_counts(1, chunk_size=chunk_size)
    shapes = np.shape(value_of(xs)), np.shape(truth)
    if any(len(shape) != 3 for shape in shapes) or shapes[0][::2] != shapes[1][::2] or shapes[0][1] > shapes[1][1]:
        raise ValueError(
            f"truth must be [N, T, D], of the same sequences as xs and at least as long, got shapes {shapes[1]} and "
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
    """Return a function of one sequence as one of several: those of filters, which fill memory, one after the other."""
    if draws.method == "posterior":
        return jax.vmap(one)
    return lambda *arguments: jax.lax.map(lambda each: one(*each), arguments)


def _decoded(params: Params, key: jax.Array, x: Datapoint, model: Model, paths: jax.Array, mean: bool) -> jax.Array:
    """Return values of x for paths `[S, T, J]`: draws of p(x|z) or its means, `[S, T, D]`."""
    bound = bind(model, x)[0]

    def one(z: jax.Array, key: jax.Array) -> jax.Array:
        likelihood = likelihood_of(bound, params, z)
        return jnp.asarray(likelihood.mean if mean else likelihood.sample(key), value_of(x).dtype)

    return jax.vmap(one)(paths, jax.random.split(key, len(paths)))
