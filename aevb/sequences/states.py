"""The latents of each step, given all of a sequence (smoothing) or the steps up to it (filtering)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import check_counts
from aevb.data.rows import num_rows, rows
from aevb.data.sequences import lengths_of
from aevb.model import Datapoint, Model, Params
from aevb.particles import run_filter
from aevb.posterior import OnChunk, chunked
from aevb.sequences.lengths import prepared, value_of
from aevb.sequences.paths import Draws, Method, checked_draws, draw_paths
from aevb.sequences.predictions import CHUNK_SIZE, NUM_PARTICLES, over_sequences


class States(NamedTuple):
    """Moments of p(z_t | x), NumPy arrays `[N, T, J]`; NaN after the last observed step of a sequence.

    Attributes:
      mean: the mean of z_t.
      scale: the standard deviation of each dimension of z_t.
    """

    mean: Any
    scale: Any


class FilteredStates(NamedTuple):
    """Moments of p(z_t | x_1, ..., x_t), and log-densities of predictions; NaN after the last observed step.

    Attributes:
      mean: `[N, T, J]`, the mean of z_t.
      scale: `[N, T, J]`, the standard deviation of each dimension of z_t.
      log_predictive: `[N, T]`, nats, estimates of log p(x_t | x_1, ..., x_{t-1}).
      effective_sample_size: `[N, T]`, between 1 and the number of particles.
    """

    mean: Any
    scale: Any
    log_predictive: Any
    effective_sample_size: Any


def smooth_states(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    num_samples: int = 100,
    *,
    method: Method = "posterior",
    num_particles: int = NUM_PARTICLES,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> States:
    """Return the moments of every step's latents given the whole sequence, estimated from draws of paths.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: sequences `[N, T, D]`; see `forecast`.
      model: see `forecast`.
      num_samples: S, the number of paths per sequence, at least 2. The standard error of a mean is the scale divided by
        the square root of S.
      method: "posterior", from q(z|x); or by backward simulation through the particles of a filter, see `impute`.
      num_particles: K, the number of particles of a filter.
      chunk_size: see `forecast`.
      on_chunk: see `forecast`.

    Raises:
      ValueError: as for `forecast`.
      TypeError: as for `forecast`.
    """
    check_counts(2, num_samples=num_samples)
    check_counts(1, chunk_size=chunk_size)
    num_steps = np.shape(value_of(xs))[1:2]
    xs, model = prepared(params, xs, model)
    draws = checked_draws(params, key, xs, model, method, num_samples, num_particles)
    program = lambda chunk: _smooth(params, key, rows(xs, chunk), chunk, model, draws)
    found = chunked(program, np.arange(num_rows(xs)), chunk_size, on_chunk)
    return States(*(each[:, : num_steps[0]] for each in found))


def filter_states(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    *,
    method: Method = "bootstrap",
    num_particles: int = NUM_PARTICLES,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> FilteredStates:
    """Return the moments of every step's latents given the observations up to it, from a particle filter.

    The default proposal is the prior, because q depends on later observations and is narrower than the filtering
    distribution.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: sequences `[N, T, D]`; see `forecast`.
      model: see `forecast`.
      method: the proposal of the particles, "bootstrap" or "particle".
      num_particles: K.
      chunk_size: see `forecast`.
      on_chunk: see `forecast`.

    Raises:
      ValueError: as for `forecast`, or the method is not a filter.
      TypeError: as for `forecast`.
    """
    check_counts(1, chunk_size=chunk_size)
    if method == "posterior":
        raise ValueError('filtering needs particles: method must be "bootstrap" or "particle"')
    num_steps = np.shape(value_of(xs))[1:2]
    xs, model = prepared(params, xs, model)
    draws = checked_draws(params, key, xs, model, method, 1, num_particles)
    program = lambda chunk: _filter(params, key, rows(xs, chunk), chunk, model, draws)
    found = chunked(program, np.arange(num_rows(xs)), chunk_size, on_chunk)
    return FilteredStates(*(each[:, : num_steps[0]] for each in found))


@functools.partial(jax.jit, static_argnames=("model", "draws"))
def _smooth(params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, draws: Draws) -> States:
    def one(x: Datapoint, position: jax.Array) -> States:
        paths = draw_paths(params, jax.random.fold_in(key, position), x, model, draws)
        return States(*(_until_the_end(x, each) for each in (jnp.mean(paths, axis=0), jnp.std(paths, axis=0))))

    return over_sequences(one, draws)(xs, positions)


@functools.partial(jax.jit, static_argnames=("model", "draws"))
def _filter(
    params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, draws: Draws
) -> FilteredStates:
    proposal = "prior" if draws.method == "bootstrap" else "posterior"

    def one(x: Datapoint, position: jax.Array) -> FilteredStates:
        own_key = jax.random.fold_in(key, position)
        found = run_filter(params, own_key, x, model, draws.num_particles, proposal, keeps_particles=True)
        assert found.particles is not None
        z, weights = found.particles.z, jnp.exp(found.particles.log_weights)
        mean = jnp.einsum("tk,tk...->t...", weights, z)
        variance = jnp.einsum("tk,tk...->t...", weights, jnp.square(z - mean[:, None]))
        moments = mean, jnp.sqrt(variance), found.log_predictive, found.effective_sample_size
        return FilteredStates(*(_until_the_end(x, each) for each in moments))

    return over_sequences(one, draws)(xs, positions)


def _until_the_end(x: Datapoint, by_step: jax.Array) -> jax.Array:
    value = value_of(x)
    is_before = jnp.arange(len(value)) < lengths_of(value)
    return jnp.where(is_before.reshape(-1, *[1] * (by_step.ndim - 1)), by_step, jnp.nan)
