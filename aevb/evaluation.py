"""Bounds over a whole split, by level, and the number of latent dimensions that a model uses."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb import gradients, sharding
from aevb.arguments import check_counts, check_key
from aevb.data.binarization import Binarization, binarize_batch, check_intensities, possible_targets
from aevb.data.rows import as_arrays, contiguous, num_rows, rows, rows_of
from aevb.data.stream import Stream, blocks_in_order
from aevb.distributions import Chain
from aevb.distributions.levels import ONE_LEVEL
from aevb.model import Model, Params, bind, check_arguments, check_model, posterior_of
from aevb.objectives import Estimator, check_estimator, elbo_terms_of, tighter_bound
from aevb.precision import at_highest_precision
from aevb.random_bits import fused
from aevb.support import check_data

ACTIVE_UNIT_THRESHOLD = 0.01
"""A latent dimension is active if the variance of its posterior mean over the data is above this (Burda et al. 2016).

This assumes latents of unit scale. If the scale of the prior is learned, the count means little."""

_POSTERIOR_MEAN_SAMPLES = 16
_CHUNK_SIZE = 1000


class Bound(NamedTuple):
    """A bound over a split, in nats per datapoint. Weights on its terms during training have no effect on it.

    Attributes:
      elbo: the mean evidence lower bound, `reconstruction - kl`.
      reconstruction: the mean of E_q[log p(x|z)].
      kl: the mean KL(q(z|x) || p(z)).
      active_units: the number of latent dimensions that the model uses; `None` if they were not counted.
      kl_by_level: the mean KL of each level; for a path, of each step, `[T]`. Their sum is `kl`.
      active_units_by_level: the active units of each level.
      iwae: the mean importance weighted bound; NaN unless the estimator is for that bound.
      fivo: the mean filtering variational objective; NaN unless the estimator is for that bound.
      reconstruction_by_step: the mean of E_q[log p(x_t|z)], `[T]`. Steps after the end of a sequence count as 0. The
        sum is `reconstruction`. `None` unless z is a path and the likelihood an `Observed` with the same number of
        steps.
    """

    elbo: float
    reconstruction: float
    kl: float
    active_units: int | None
    kl_by_level: dict[str, Any]
    active_units_by_level: dict[str, int]
    iwae: float = math.nan
    fivo: float = math.nan
    reconstruction_by_step: Any = None

    @property
    def elbo_by_step(self) -> Any:
        """The contribution of each step to `elbo`, `[T]`; `None` if `reconstruction_by_step` is."""
        reconstruction = self.reconstruction_by_step
        return None if reconstruction is None else reconstruction - self.kl_by_level[ONE_LEVEL]


class _PerDatapoint(NamedTuple):
    """The values computed per datapoint.

    Attributes:
      reconstruction: `[N]`.
      kl: `[N]`.
      kl_by_level: `[N]` per level; for a path, `[N, T]`.
      reconstruction_by_step: `[N, T]`, or `None`.
      iwae: `[N]`, or `None`.
      fivo: `[N]`, or `None`.
      posterior_means: two estimates of E_q[z] by level, leaves `[N, ...]`, independent unless exact; or `None`.
    """

    reconstruction: Any
    kl: Any
    kl_by_level: dict[str, Any]
    reconstruction_by_step: Any
    iwae: Any
    fivo: Any
    posterior_means: tuple[Any, Any] | None


def evaluate(
    params: Params,
    key: jax.Array,
    data: Any,
    model: Model,
    estimator: Estimator | None = None,
    *,
    binarization: Binarization = "grey",
    chunk_size: int = _CHUNK_SIZE,
    active_units: bool | None = None,
) -> Bound:
    """Return the bound averaged over all datapoints of a split, an incomplete last chunk included.

    The noise of a datapoint depends only on `key` and its position, so `chunk_size`, which limits memory, does not
    change the result.

    Args:
      params: parameters of `model`.
      key: a typed key.
      data: a pytree of arrays `[N, ...]`, after `binarize_once`; or a `Stream`, which is evaluated block by block and
        whose datapoints are not binarized once.
      model: the four functions.
      estimator: the estimator of the bound; by default one draw of z and the analytic KL. Its gradient is not used, so
        any posterior is allowed.
      binarization: "stochastic" redraws the targets with `key`.
      chunk_size: the number of datapoints per call of the compiled program.
      active_units: whether to count active units. By default they are counted if the mean of the posterior is known;
        otherwise they need 32 more draws per datapoint.

    Returns:
      A `Bound` of Python numbers, averaged in float64.

    Raises:
      ValueError: `data` are empty, have leaves of different lengths or values outside the likelihood's support (outside
        [0, 1] if targets are to be drawn); or as for `elbo`.
      TypeError: as for `elbo`.
    """
    check_model(model)
    check_key(key)
    check_estimator(estimator)
    settings = {"estimator": estimator or Estimator(), "binarization": binarization, "active_units": active_units}
    return start_evaluation(params, key, data, model, chunk_size=chunk_size, check_values=True, **settings)()


def start_evaluation(params: Params, key: jax.Array, data: Any, model: Model, **settings: Any) -> Callable[[], Bound]:
    """Start an evaluation and return a function that waits for its result. Arguments as for `evaluate`.

    The caller can compile something else in the meantime. A `Stream` is not read until the function is called.
    """
    blocks = _blocks(params, key, data, model, **settings)

    def finish() -> Bound:
        total = functools.reduce(_merge, (_moments(block.to_host()) for block in blocks))
        variances = jax.tree.map(lambda moment: moment / total.size, total.co_moments or {})
        is_path = {level: mean.ndim > 0 for level, mean in total.means.kl_by_level.items()}
        units_by_level = {level: _count_active(each, is_path[level]) for level, each in variances.items()}
        return Bound(
            float(total.means.reconstruction - total.means.kl),
            float(total.means.reconstruction),
            float(total.means.kl),
            sum(units_by_level.values()) if units_by_level else None,
            {level: float(mean) if mean.ndim == 0 else mean for level, mean in total.means.kl_by_level.items()},
            units_by_level,
            math.nan if total.means.iwae is None else float(total.means.iwae),
            math.nan if total.means.fivo is None else float(total.means.fivo),
            total.means.reconstruction_by_step,
        )

    return finish


def non_finite_datapoints(params: Params, key: jax.Array, data: Any, model: Model, **settings: Any) -> list[int]:
    """Return the positions of the datapoints whose bound is NaN or infinite. Arguments as for `evaluate`."""
    found: list[int] = []
    for block in _blocks(params, key, data, model, **settings):
        values = block.to_host()
        found += (block.start + np.flatnonzero(~np.isfinite(values.reconstruction - values.kl))).tolist()
    return found


class _Block(NamedTuple):
    """Consecutive datapoints whose evaluation has been started.

    Attributes:
      start: the position of the first datapoint in the split.
      values: the values of the datapoints, followed by any number that do not count.
      size: the number of datapoints.
    """

    start: int
    values: _PerDatapoint
    size: int

    def to_host(self) -> _PerDatapoint:
        """Wait for the values and return them as NumPy arrays."""
        return jax.tree.map(lambda a: np.asarray(a)[: self.size], self.values)


def _blocks(
    params: Params,
    key: jax.Array,
    data: Any,
    model: Model,
    estimator: Estimator,
    binarization: Binarization,
    active_units: bool | None = None,
    chunk_size: int = _CHUNK_SIZE,
    check_values: bool = False,
) -> Iterable[_Block]:
    """Evaluate an array as one block, dispatched immediately; evaluate a stream block by block, lazily."""
    if num_rows(data) == 0:
        raise ValueError("there is nothing to evaluate: the data are empty")
    check_counts(1, chunk_size=chunk_size)

    def evaluated(start: int, xs: Any, size: int) -> _Block:
        if check_values:
            counting = xs if size == num_rows(xs) else rows(xs, slice(size))
            check_intensities(counting, binarization)
            check_data(params, counting, model, targets=possible_targets(binarization))
        in_chunk = min(int(chunk_size), num_rows(xs))
        values = _evaluate_chunks(params, key, xs, start, model, estimator, binarization, active_units, in_chunk)
        return _Block(start, values, size)

    if isinstance(data, Stream):
        return itertools.starmap(evaluated, blocks_in_order(data, binarization))
    data = jax.tree.map(jnp.asarray, as_arrays(data))
    return [evaluated(0, data, num_rows(data))]


class _Moments(NamedTuple):
    """Running moments, in float64, of the datapoints evaluated so far.

    Attributes:
      size: the number of datapoints.
      means: the mean of every value, without the leading axis.
      co_moments: by level, the sum of products of the two estimates' deviations from their means; or `None`.
    """

    size: int
    means: _PerDatapoint
    co_moments: dict[str, Any] | None


def _moments(values: _PerDatapoint) -> _Moments:
    # The covariance over datapoints of two independent estimates of the posterior mean is the variance of that mean,
    # without the noise of the estimates. If the mean is exact, both are equal and this is the plain variance.
    values = jax.tree.map(lambda a: a.astype(np.float64), values)
    means = jax.tree.map(lambda a: np.mean(a, axis=0), values)
    co_moments = None
    if values.posterior_means is not None:
        co_moments = jax.tree.map(
            lambda one, other: np.sum((one - one.mean(0)) * (other - other.mean(0)), axis=0), *values.posterior_means
        )
    return _Moments(len(values.reconstruction), means, co_moments)


def _merge(one: _Moments, other: _Moments) -> _Moments:
    """Return the moments of the union of both sets (Chan, Golub and LeVeque 1983)."""
    size = one.size + other.size
    share = other.size / size
    differences = jax.tree.map(lambda a, b: b - a, one.means, other.means)
    co_moments = None
    if one.co_moments is not None:
        assert differences.posterior_means is not None
        co_moments = jax.tree.map(
            lambda a, b, first, second: a + b + first * second * one.size * share,
            one.co_moments,
            other.co_moments,
            *differences.posterior_means,
        )
    return _Moments(size, jax.tree.map(lambda a, d: a + d * share, one.means, differences), co_moments)


def _count_active(variances: Any, is_path: bool) -> int:
    """Count the active dimensions. A dimension of a path `[T, J]` counts once, not once per step."""
    leaves = (leaf.sum(0) if is_path else leaf for leaf in jax.tree.leaves(variances))
    return sum(int(np.sum(leaf > ACTIVE_UNIT_THRESHOLD)) for leaf in leaves)


@functools.partial(jax.jit, static_argnames=("model", "estimator", "binarization", "active_units", "chunk_size"))
def _evaluate_chunks(
    params: Params,
    key: jax.Array,
    data: Any,
    start: int | jax.Array,
    model: Model,
    estimator: Estimator,
    binarization: Binarization,
    active_units: bool | None,
    chunk_size: int,
) -> _PerDatapoint:
    """Evaluate every chunk with one program. The last is filled up with the first datapoints, whose values are dropped.

    `start` is the position of the first of `data` in the split.
    """
    size = num_rows(data)
    num_chunks = -(-size // chunk_size)
    indices = (jnp.arange(num_chunks * chunk_size) % size).reshape(num_chunks, chunk_size)
    tables = contiguous(data)

    def chunk(indices: jax.Array) -> _PerDatapoint:
        indices = sharding.split(indices, sharding.BATCH)
        xs, positions = rows_of(tables, data, indices), start + indices
        return _evaluate_chunk(params, key, xs, positions, model, estimator, binarization, active_units)

    chunks = jax.lax.map(chunk, indices)
    return sharding.gather(jax.tree.map(lambda a: jax.lax.collapse(a, 0, 2)[:size], chunks))


@functools.partial(jax.jit, static_argnames=("model", "estimator", "binarization", "active_units"))
@at_highest_precision
def _evaluate_chunk(
    params: Params,
    key: jax.Array,
    xs: Any,
    positions: jax.Array,
    model: Model,
    estimator: Estimator,
    binarization: Binarization,
    active_units: bool | None,
) -> _PerDatapoint:
    """Evaluate one chunk. It is jitted, though only called inside a jitted function, so that it is traced only once."""

    def datapoint(position: jax.Array, x: Any) -> _PerDatapoint:
        binarize_key, bound_key, mean_key = jax.random.split(jax.random.fold_in(fused(key), position), 3)
        x = binarize_batch(binarize_key, x, binarization)
        check_arguments(params, bound_key, x, model)
        fivo = None
        if estimator.bound == "fivo":
            bound_key, filter_key = jax.random.split(bound_key)
            fivo = tighter_bound(params, filter_key, x, model, estimator, differentiable=False)
        draws = gradients.draw(params, bound_key, x, model, estimator.num_samples, None)
        terms = elbo_terms_of(draws, estimator, differentiable=False)
        iwae = gradients.weighted_bound(params, x, model, draws, None) if estimator.bound == "iwae" else None
        return _PerDatapoint(*terms, iwae, fivo, _posterior_means(params, mean_key, x, model, active_units))

    return jax.vmap(datapoint)(positions, xs)


def _posterior_means(
    params: Params, key: jax.Array, x: Any, model: Model, active_units: bool | None
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return E_q[z] by level twice: exact if the family knows its mean, else two independent estimates on request."""
    if active_units is False:
        return None
    bound, value = bind(model, x)
    posterior = posterior_of(bound, params, value)
    by_level = lambda z: z if isinstance(posterior, Chain) else {ONE_LEVEL: z}
    try:
        mean = by_level(posterior.mean)
        return mean, mean
    except NotImplementedError:
        if active_units is None:
            return None
    z = posterior.sample(key, (2, _POSTERIOR_MEAN_SAMPLES))
    means = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=1), z)
    return by_level(rows(means, 0)), by_level(rows(means, 1))
