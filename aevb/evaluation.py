"""Bounds over a whole split, and how many latent dimensions a model uses."""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb import sharding
from aevb.arguments import check_counts, check_floating
from aevb.datasets.binarization import Binarization, binarize_batch
from aevb.model import Model, Params
from aevb.objectives import KL, elbo_terms, reparameterize
from aevb.random_bits import fused
from aevb.streaming import Stream, blocks_in_order

ACTIVE_UNIT_THRESHOLD = 0.01
"""A latent dimension is active when its posterior mean varies by more than this over the data (Burda et al. 2016)."""

_POSTERIOR_MEAN_SAMPLES = 16
_CHUNK_SIZE = 1000


class Bound(NamedTuple):
    """A bound over a split, in nats per datapoint.

    Attributes:
      elbo: the mean evidence lower bound, `reconstruction - kl`.
      reconstruction: the mean of E_q[log p(x|z)].
      kl: the mean KL(q(z|x) || p(z)).
      active_units: how many of the J latent dimensions the model uses.
    """

    elbo: float
    reconstruction: float
    kl: float
    active_units: int


class _PerDatapoint(NamedTuple):
    reconstruction: jax.Array  # [N]
    kl: jax.Array  # [N]
    posterior_means: tuple[jax.Array, jax.Array]  # twice [N, ...]: two estimates, independent where not exact


def evaluate(
    params: Params,
    key: jax.Array,
    data: np.ndarray | jax.Array | Stream,
    model: Model,
    num_samples: int = 1,
    kl: KL = "analytic",
    binarization: Binarization = "grey",
    chunk_size: int = _CHUNK_SIZE,
) -> Bound:
    """The bound over every datapoint of a split, the odd-sized end included.

    The noise of a datapoint depends on `key` and on its position alone, so that `chunk_size`, which bounds memory,
    does not change the result.

    Args:
      params: parameters of `model`.
      key: a typed key.
      data: `[N, ...]`, after `binarize_once`; or a `Stream`, evaluated a block at a time, after nothing.
      model: the four functions.
      num_samples: L, noise draws for each datapoint.
      kl: which estimator, as for `elbo`.
      binarization: "stochastic" redraws the targets by `key`.
      chunk_size: datapoints at a time in the one compiled program.

    Returns:
      A `Bound` of Python numbers, averaged in float64.

    Raises:
      ValueError: `data` is empty or of integers, or as for `elbo`.
      TypeError: as for `elbo`.
    """
    settings = {"num_samples": num_samples, "kl": kl, "binarization": binarization, "chunk_size": chunk_size}
    return evaluate_later(params, key, data, model, **settings)()


def evaluate_later(params: Params, key: jax.Array, data: Any, model: Model, **settings: Any) -> Callable[[], Bound]:
    """`evaluate`, arguments as there, that does not wait for the device: what it returns does, and gives the bound.

    Meanwhile something else can be compiled. A `Stream` is not read before.
    """
    blocks = _blocks(params, key, data, model, **settings)

    def bound() -> Bound:
        total = functools.reduce(_merge, (_moments(block.to_host()) for block in blocks))
        active_units = int(np.sum(total.co_moments / total.size > ACTIVE_UNIT_THRESHOLD))
        return Bound(float(total.reconstruction - total.kl), float(total.reconstruction), float(total.kl), active_units)

    return bound


def non_finite_datapoints(params: Params, key: jax.Array, data: Any, model: Model, **settings: Any) -> list[int]:
    """Where in the data the datapoints are whose bound is NaN or infinite. Arguments as for `evaluate`."""
    found: list[int] = []
    for block in _blocks(params, key, data, model, **settings):
        values = block.to_host()
        found += (block.start + np.flatnonzero(~np.isfinite(values.reconstruction - values.kl))).tolist()
    return found


class _Block(NamedTuple):
    """Datapoints in a row whose evaluation is under way.

    Attributes:
      start: the position of the first of them in the split.
      values: theirs, and after these any number that do not count.
      size: how many there are.
    """

    start: int
    values: _PerDatapoint
    size: int

    def to_host(self) -> _PerDatapoint:
        """The values as NumPy arrays, as soon as they are there."""
        return jax.tree.map(lambda a: np.asarray(a)[: self.size], self.values)


def _blocks(
    params: Params,
    key: jax.Array,
    data: np.ndarray | jax.Array | Stream,
    model: Model,
    num_samples: int,
    kl: KL,
    binarization: Binarization,
    chunk_size: int = _CHUNK_SIZE,
) -> Iterable[_Block]:
    """An array is one block, dispatched at once; of a stream they come one after the other as they are asked for."""
    if len(data) == 0:
        raise ValueError("there is nothing to evaluate: the data are empty")
    check_counts(1, num_samples=num_samples, chunk_size=chunk_size)

    def evaluated(start: int, xs: jax.Array, size: int) -> _Block:
        in_chunk = min(chunk_size, len(xs))
        values = _evaluate_chunks(params, key, xs, start, model, num_samples, kl, binarization, in_chunk)
        return _Block(start, values, size)

    if isinstance(data, Stream):
        return itertools.starmap(evaluated, blocks_in_order(data, binarization))
    data = jnp.asarray(data)
    check_floating(data.dtype)
    return [evaluated(0, data, len(data))]


class _Moments(NamedTuple):
    """What is kept, in float64, of the datapoints evaluated so far: means, but for the last."""

    size: int
    reconstruction: np.ndarray  # []
    kl: np.ndarray  # []
    posterior_means: tuple[np.ndarray, np.ndarray]  # twice [...]
    co_moments: np.ndarray  # [...], the sum of products of the two estimates' deviations from their means


def _moments(values: _PerDatapoint) -> _Moments:
    # Over datapoints, the covariance of two independent estimates of a posterior mean is its variance, without the
    # estimates' own noise. Where the mean is exact the two are equal and this is the plain variance.
    reconstruction, divergence, (first, second) = jax.tree.map(lambda a: a.astype(np.float64), values)
    means = first.mean(0), second.mean(0)
    co_moments = np.sum((first - means[0]) * (second - means[1]), axis=0)
    return _Moments(len(reconstruction), np.mean(reconstruction), np.mean(divergence), means, co_moments)


def _merge(one: _Moments, other: _Moments) -> _Moments:
    """The moments of both together (Chan, Golub and LeVeque 1983)."""
    size = one.size + other.size
    share = other.size / size
    differences = [b - a for a, b in zip(one.posterior_means, other.posterior_means, strict=True)]
    co_moments = one.co_moments + other.co_moments + differences[0] * differences[1] * one.size * share
    reconstruction, kl, posterior_means = jax.tree.map(lambda a, b: a + (b - a) * share, one[1:4], other[1:4])
    return _Moments(size, reconstruction, kl, posterior_means, co_moments)


@functools.partial(jax.jit, static_argnames=("num_samples", "kl", "binarization", "chunk_size"))
def _evaluate_chunks(
    params: Params,
    key: jax.Array,
    data: jax.Array,
    start: int | jax.Array,
    model: Model,
    num_samples: int,
    kl: KL,
    binarization: Binarization,
    chunk_size: int,
) -> _PerDatapoint:
    """Every chunk through one program; the last is filled up with the first datapoints, whose values are cut off.

    `start` is the position of the first of `data` in the split.
    """
    size = data.shape[0]
    num_chunks = -(-size // chunk_size)
    indices = (jnp.arange(num_chunks * chunk_size) % size).reshape(num_chunks, chunk_size)

    def chunk(indices: jax.Array) -> _PerDatapoint:
        indices = sharding.split(indices, sharding.BATCH)
        return _evaluate_chunk(params, key, data[indices], start + indices, model, num_samples, kl, binarization)

    chunks = jax.lax.map(chunk, indices)
    return sharding.gather(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:size], chunks))


@functools.partial(jax.jit, static_argnames=("num_samples", "kl", "binarization"))
def _evaluate_chunk(
    params: Params,
    key: jax.Array,
    xs: jax.Array,
    positions: jax.Array,
    model: Model,
    num_samples: int,
    kl: KL,
    binarization: Binarization,
) -> _PerDatapoint:
    """Compiled for itself, though only called where it is inlined: so that splits of two sizes are traced once."""

    def datapoint(position: jax.Array, x: jax.Array) -> _PerDatapoint:
        binarize_key, elbo_key, mean_key = jax.random.split(jax.random.fold_in(fused(key), position), 3)
        x = binarize_batch(binarize_key, x, binarization)
        reconstruction, divergence = elbo_terms(params, elbo_key, x, model, num_samples, kl)
        return _PerDatapoint(reconstruction, divergence, _posterior_means(params, mean_key, x, model))

    return jax.vmap(datapoint)(positions, xs)


def _posterior_means(params: Params, key: jax.Array, x: jax.Array, model: Model) -> tuple[jax.Array, jax.Array]:
    """E_q[z] twice: exact where the family knows its mean, else two independent Monte Carlo estimates."""
    posterior = model.encode(params, x)
    try:
        return posterior.mean, posterior.mean
    except NotImplementedError:
        z = reparameterize(posterior, key, (2, _POSTERIOR_MEAN_SAMPLES))
        first, second = jnp.mean(z, axis=1)
        return first, second
