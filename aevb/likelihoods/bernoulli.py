"""The Bernoulli likelihood of Appendix C.1, for binary pixels and for intensities."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike

from aevb.likelihoods.likelihood import Likelihood

_FACTORS = 16  # in (1, 2] each: their product is far from overflow in any type but float16


class GreyBernoulli(dist.BernoulliLogits):
    """Bernoulli likelihood, eq. of Appendix C.1, for targets anywhere in [0, 1].

    The paper feeds pixel intensities to the Bernoulli log-density as they are. At targets strictly between 0 and 1
    that is a cross-entropy rather than the log of a probability mass, which is why every result says how its data
    were binarized. At targets 0 and 1 this is `numpyro.distributions.BernoulliLogits` exactly.
    """

    support = dist.constraints.unit_interval

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> dist.Distribution:
        """Return the distribution of all pixels, or of those along the last axes, as one event."""
        num_axes = len(self.batch_shape) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return _IndependentPixels(self, num_axes) if num_axes else self

    def log_prob(self, value: ArrayLike, intermediates: list | None = None) -> jax.Array:
        """Return the density x log p + (1 - x) log(1 - p) in the softplus form, finite wherever the logits are.

        Of integer targets it is the probability mass, whose logarithm is -inf but at 0 and 1: a pixel of 0..255 cannot
        pass for a probability.
        """
        logits, x = jnp.asarray(self.logits), jnp.asarray(value)
        if jnp.issubdtype(x.dtype, jnp.floating):
            return _log_density(logits, x)
        # Integers have no derivative to multiply.
        density = _log_density(logits, x.astype(logits.dtype))
        return density if x.dtype == jnp.bool_ else jnp.where((x == 0) | (x == 1), density, -jnp.inf)


@jax.custom_jvp
def _log_density(logits: jax.Array, x: jax.Array) -> jax.Array:
    return x * logits - jax.nn.softplus(logits)


@_log_density.defjvp
def _log_density_derivative(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Differentiate: in the logits x - p, which needs no softplus, half the time of a leapfrog."""
    (logits, x), (d_logits, d_x) = primals, tangents
    return _log_density(logits, x), (x - jax.nn.sigmoid(logits)) * d_logits + logits * d_x


class _IndependentPixels(dist.Independent):
    """Independent pixels as one event, whose log-density is computed as a whole."""

    def log_prob(self, value: ArrayLike, intermediates: list | None = None) -> jax.Array:
        """Return the sum over pixels of `GreyBernoulli.log_prob`, equal to it up to rounding."""
        pixels: Any = self.base_dist
        logits, x = jnp.broadcast_arrays(jnp.asarray(pixels.logits), jnp.asarray(value))
        num_leading = logits.ndim - self.reinterpreted_batch_ndims
        flat = (*logits.shape[:num_leading], math.prod(logits.shape[num_leading:]))
        logits, x = jnp.reshape(logits, flat), jnp.reshape(x, flat)
        if jnp.issubdtype(x.dtype, jnp.floating):
            return _event_log_density(logits, x)
        # Integers have no derivative to multiply.
        density = _event_log_density(logits, x.astype(logits.dtype))
        return density if x.dtype == jnp.bool_ else jnp.where(jnp.all((x == 0) | (x == 1), axis=-1), density, -jnp.inf)


@jax.custom_jvp
def _event_log_density(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Return sum_i x_i l_i - max(l_i, 0) - log(1 + exp(-|l_i|)), `[...]` of `[..., D]`."""
    # x is shared by all draws of z at one datapoint: their inner products are one matrix product.
    inner = jnp.einsum("...i,...i->...", logits, x, precision="highest")
    return inner - jnp.sum(jnp.maximum(logits, 0), axis=-1) - _sum_of_log_1p(jnp.exp(-jnp.abs(logits)))


@_event_log_density.defjvp
def _event_log_density_derivative(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Differentiate by x - p; p and the density share their exponential, and inner products would be a pass more."""
    (logits, x), (d_logits, d_x) = primals, tangents
    small = jnp.exp(-jnp.abs(logits))
    mean = jnp.where(logits >= 0, 1, small) / (1 + small)
    density = jnp.sum(x * logits - jnp.maximum(logits, 0), axis=-1) - _sum_of_log_1p(small)
    return density, jnp.sum((x - mean) * d_logits + logits * d_x, axis=-1)


def _sum_of_log_1p(small: jax.Array) -> jax.Array:
    """Return the sum over the last axis of log(1 + t), t in [0, 1]: one logarithm of a product in the place of 16."""
    size = small.shape[-1] // _FACTORS * _FACTORS
    whole, rest = jnp.split(1 + small, [size], axis=-1)
    groups = jnp.reshape(whole, (*small.shape[:-1], _FACTORS, -1))
    return jnp.sum(jnp.log(jnp.prod(groups, axis=-2)), axis=-1) + jnp.log(jnp.prod(rest, axis=-1))


BERNOULLI = Likelihood(1, GreyBernoulli)
"""Logits (C.1)."""
