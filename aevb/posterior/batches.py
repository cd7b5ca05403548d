"""Encode, reconstruct and sample whole data sets in chunks."""

import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import check_counts, check_key, describe
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.distributions.chain import Chain, family_name
from aevb.model import (
    Datapoint,
    Given,
    Latents,
    Model,
    Params,
    bind,
    check_decoder,
    check_latents,
    check_model,
    likelihood_of,
    posterior_of,
    prior_of,
)
from aevb.support import check_data

NUM_SAMPLES = 64
"""The number of draws from which the mean is estimated if the posterior does not know its own."""

OnChunk = Callable[[int], None]
"""A callback that is called after every chunk with the number of datapoints done."""


class Encoded(NamedTuple):
    """The moments and samples of q(z|x) for each datapoint, NumPy arrays `[N, ...]`; for a `Chain`, dicts by level.

    Attributes:
      mean: E_q[z], exact if the family knows it. Otherwise it is the mean of the samples, or of 64 draws if there are
        fewer than two samples.
      scale: the standard deviation of each dimension, exact or estimated in the same way.
      samples: draws, leaves `[N, L, ...]`; `None` if `num_samples` is 0.
    """

    mean: Any
    scale: Any
    samples: Any


def encode(
    params: Params,
    xs: Datapoint,
    model: Model,
    *,
    key: jax.Array | None = None,
    num_samples: int = 0,
    chunk_size: int = 1000,
    on_chunk: OnChunk | None = None,
) -> Encoded:
    """Return the means, scales and, optionally, samples of q(z|x) for every datapoint.

    Args:
      params: parameters of `model`.
      xs: leaves `[N, ...]`, or a `Given` of two.
      model: the four functions.
      key: a typed key, needed for samples and for posteriors that do not know their mean and variance.
      num_samples: L, the number of draws per datapoint.
      chunk_size: the number of datapoints per call of the compiled program.
      on_chunk: called after every chunk with the number of datapoints done.

    Raises:
      ValueError: `xs` are empty, have another shape or lie outside the likelihood's support; or `key` is `None` and
        samples are requested or the posterior does not know its mean and variance.
      TypeError: as for `aevb.elbo`.
    """
    check_counts(0, num_samples=num_samples)
    xs = _checked(params, xs, model)
    if key is None and (num_samples or not _knows(("mean", "variance"), params, xs, model)):
        what = "samples" if num_samples else f"means of this posterior, estimated from {NUM_SAMPLES} draws,"
        raise ValueError(f"{what} need a key: encode(params, xs, model, key=jax.random.key(0))")
    return _in_chunks(_encode_chunk, params, key, xs, model, (int(num_samples),), chunk_size, on_chunk)


def reconstruct(
    params: Params,
    xs: Datapoint,
    model: Model,
    *,
    key: jax.Array | None = None,
    num_samples: int = 0,
    chunk_size: int = 1000,
    on_chunk: OnChunk | None = None,
) -> Any:
    """Return the mean of p(x|z) for every datapoint, NumPy arrays with leaves `[N, ...]`.

    A class (`Categorical`) has no mean: the result is NaN.

    Args:
      params: parameters of `model`.
      xs: leaves `[N, ...]`, or a `Given` of two.
      model: the four functions.
      key: a typed key, needed for samples and for posteriors that do not know their mean.
      num_samples: the number of draws of z over which to average. By default z is the mean of the posterior or, if that
        is not known, one draw.
      chunk_size: the number of datapoints per call of the compiled program.
      on_chunk: called after every chunk with the number of datapoints done.

    Raises:
      ValueError: as for `encode`.
      TypeError: as for `aevb.elbo`.
    """
    check_counts(0, num_samples=num_samples)
    xs = _checked(params, xs, model)
    if not num_samples and not _knows(("mean",), params, xs, model):
        num_samples = 1
    if num_samples and key is None:
        raise ValueError("draws of z need a key: reconstruct(params, xs, model, key=jax.random.key(0))")
    return _in_chunks(_reconstruct_chunk, params, key, xs, model, (int(num_samples),), chunk_size, on_chunk)


def sample(
    params: Params,
    key: jax.Array,
    num_samples: int,
    model: Model,
    *,
    condition: Any = None,
    mean: bool = True,
    fixed: Collection[str] = (),
    chunk_size: int = 1000,
    on_chunk: OnChunk | None = None,
) -> Any:
    """Sample from the generative model: z from the prior, x from p(x|z). Return NumPy arrays with leaves `[n, ...]`.

    If the prior has levels, some can be `fixed`: their noise is drawn once and shared by all samples. The highest
    level, which depends on no other, then has one value. A lower level has one value if those above it are fixed, too.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      num_samples: n.
      model: the four functions.
      condition: the condition of all samples, for a model that takes one.
      mean: whether x is the mean of p(x|z), as usual for pictures, or a draw.
      fixed: names of levels of a prior that is a `Chain`.
      chunk_size: the number of samples per call of the compiled program.
      on_chunk: called after every chunk with the number of samples done.

    Raises:
      ValueError: a count is not positive, or the prior has no such level.
      TypeError: the model takes a condition and none is given, or it takes none and one is given.
    """
    check_model(model)
    check_key(key)
    check_counts(1, num_samples=num_samples, chunk_size=chunk_size)
    given = None if condition is None else Given(None, jax.tree.map(jnp.asarray, as_arrays(condition)))
    check_decoder(params, bind(model, given)[0])
    fixed = _checked_levels(fixed, params, given, model)
    positions = np.arange(num_samples)
    return chunked(
        lambda chunk: _sample_chunk(params, key, chunk, given, model, mean, fixed), positions, chunk_size, on_chunk
    )


def _checked_levels(fixed: Collection[str], params: Params, given: Given | None, model: Model) -> tuple[str, ...]:
    """Return the names of fixed levels in the order of the prior."""
    fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    if not fixed:
        return ()
    names: list[str] = []

    def look(params: Params) -> None:
        prior = prior_of(bind(model, given)[0], params)
        names.extend(prior.levels if isinstance(prior, Chain) else ())

    jax.eval_shape(look, params)
    for name in fixed:
        if name not in names:
            levels = f"whose levels are {', '.join(names)}" if names else "which has no levels"
            raise ValueError(f"fixed must name levels of the prior, {levels}, got {describe(name)}")
    return tuple(name for name in names if name in fixed)


def _knows(moments: tuple[str, ...], params: Params, xs: Datapoint, model: Model) -> bool:
    """Return whether q(z|x) knows all of the `moments`, "mean" and "variance"."""

    def look(x: Datapoint) -> list[bool]:
        bound, value = bind(model, x)
        posterior = posterior_of(bound, params, value)
        return [_moment(posterior, name) is not None for name in moments]

    found = []
    jax.eval_shape(lambda x: found.extend(look(x)), rows(xs, 0))
    return all(found)


def _moment(posterior: Any, name: str) -> Any:
    """Return the "mean" or "variance" of a distribution; `None` if its family does not know it."""
    if family_name(posterior).startswith("Categorical"):  # numpyro returns NaN
        return None
    try:
        return getattr(posterior, name)
    except NotImplementedError:
        return None


def _checked(params: Params, xs: Datapoint, model: Model) -> Datapoint:
    """Check the datapoints against the model and return them on the device."""
    check_model(model)
    if num_rows(xs, "xs") == 0:
        raise ValueError("xs are empty: there is nothing to encode")
    xs = jax.tree.map(jnp.asarray, as_arrays(xs))
    check_data(params, xs, model, "xs")
    jax.eval_shape(lambda x: _check_latents(params, x, model), rows(xs, 0))
    return xs


def _check_latents(params: Params, x: Datapoint, model: Model) -> None:
    bound, value = bind(model, x)
    check_latents(posterior_of(bound, params, value), prior_of(bound, params))


def _in_chunks(
    program: Callable[..., Any],
    params: Params,
    key: jax.Array | None,
    xs: Datapoint,
    model: Model,
    options: tuple,
    chunk_size: int,
    on_chunk: OnChunk | None,
) -> Any:
    """Run a program on all datapoints, one chunk at a time."""
    if key is not None:
        check_key(key)
    check_counts(1, chunk_size=chunk_size)
    noise_key = jax.random.key(0) if key is None else key  # without a key nothing is drawn
    return chunked(
        lambda chunk: program(params, noise_key, rows(xs, chunk), chunk, model, *options),
        np.arange(num_rows(xs)),
        chunk_size,
        on_chunk,
    )


def chunked(program: Callable[[Any], Any], positions: np.ndarray, chunk_size: int, on_chunk: OnChunk | None) -> Any:
    """Call a program with `chunk_size` positions at a time and return its results for all of them as NumPy arrays."""
    size = len(positions)
    chunk_size = min(int(chunk_size), size)
    found = []
    for first in range(0, size, chunk_size):
        # The last chunk is filled up with the first positions, whose values are dropped.
        found.append(jax.device_get(program(positions[np.arange(first, first + chunk_size) % size])))
        if on_chunk is not None:
            on_chunk(min(first + chunk_size, size))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *found)


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _encode_chunk(
    params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, num_samples: int
) -> Encoded:
    def one(x: Datapoint, position: jax.Array) -> Encoded:
        bound, value = bind(model, x)
        posterior, own_key = posterior_of(bound, params, value), jax.random.fold_in(key, position)
        samples = posterior.sample(own_key, (num_samples,)) if num_samples else None
        mean, variance = _moment(posterior, "mean"), _moment(posterior, "variance")
        scale = None if variance is None else jnp.sqrt(variance)
        if mean is None or scale is None:
            draws = samples if num_samples > 1 else posterior.sample(own_key, (NUM_SAMPLES,))
            over_draws = lambda statistic: jax.tree.map(functools.partial(statistic, axis=0), draws)
            mean = over_draws(jnp.mean) if mean is None else mean
            scale = over_draws(jnp.std) if scale is None else scale
        return Encoded(mean, scale, samples)

    return jax.vmap(one)(xs, positions)


@functools.partial(jax.jit, static_argnames=("model", "num_samples"))
def _reconstruct_chunk(
    params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, num_samples: int
) -> Any:
    def one(x: Datapoint, position: jax.Array) -> Any:
        bound, value = bind(model, x)
        posterior = posterior_of(bound, params, value)
        if not num_samples:
            return _mean(likelihood_of(bound, params, posterior.mean))
        draws = posterior.sample(jax.random.fold_in(key, position), (num_samples,))
        means = jax.vmap(lambda z: _mean(likelihood_of(bound, params, z)))(draws)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), means)

    return jax.vmap(one)(xs, positions)


@functools.partial(jax.jit, static_argnames=("model", "mean", "fixed"))
def _sample_chunk(
    params: Params,
    key: jax.Array,
    positions: jax.Array,
    given: Given | None,
    model: Model,
    mean: bool,
    fixed: tuple[str, ...],
) -> Any:
    bound = bind(model, given)[0]
    prior = prior_of(bound, params)
    # The key is split only for fixed levels, so that samples without them do not depend on this option.
    key, shared_key = jax.random.split(key) if fixed else (key, key)

    def one(position: jax.Array) -> Any:
        z_key, x_key = jax.random.split(jax.random.fold_in(key, position))
        z: Latents = _with_fixed(prior, z_key, shared_key, fixed) if fixed else prior.sample(z_key)
        likelihood = likelihood_of(bound, params, z)
        return _mean(likelihood) if mean else likelihood.sample(x_key)

    return jax.vmap(one)(positions)


def _with_fixed(prior: Any, key: jax.Array, shared_key: jax.Array, fixed: tuple[str, ...]) -> Latents:
    """Return a draw of a `Chain` whose `fixed` levels are drawn with `shared_key`."""
    own, shared = (jax.random.split(each, len(prior.levels)) for each in (key, shared_key))
    keys = {name: (shared if name in fixed else own)[number] for number, name in enumerate(prior.levels)}
    return prior.sample_by_keys(keys)


def _mean(likelihood: Any) -> Any:
    """Return the mean of p(x|z); for a `Chain` of modalities, the mean of each given the means of those before it."""
    if not isinstance(likelihood, Chain):
        return likelihood.mean
    return likelihood.means()
