"""The Bernoulli likelihood of Appendix C.1, for binary pixels and for intensities."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike

from aevb.likelihoods.likelihood import Likelihood

_FACTORS = 16  # each in (1, 2]: their product is far from overflow in every type except float16


class GreyBernoulli(dist.BernoulliLogits):
    """The Bernoulli likelihood of Appendix C.1, for targets anywhere in [0, 1].

    The paper evaluates the Bernoulli log-density at pixel intensities without binarizing them. For targets strictly
    between 0 and 1 this is a cross-entropy and not the log of a probability mass. Therefore every result states how its
    data were binarized. For targets 0 and 1 this is exactly `numpyro.distributions.BernoulliLogits`.
    """

    support = dist.constraints.unit_interval

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> dist.Distribution:
        """Return the distribution with all pixels, or those along the last axes, as one event."""
        num_axes = len(self.batch_shape) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        return _IndependentPixels(self, num_axes) if num_axes else self

    def log_prob(self, value: ArrayLike, intermediates: list | None = None) -> jax.Array:
        """Return the log-density x log p + (1 - x) log(1 - p) in softplus form, which is finite for finite logits.

        For integer targets, it is the log of a probability mass, -inf except at 0 and 1, so that a pixel of 0..255
        cannot be mistaken for a probability.
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
    """Differentiate. The derivative in the logits, x - p, needs no softplus, half the time of a leapfrog step."""
    (logits, x), (d_logits, d_x) = primals, tangents
    return _log_density(logits, x), (x - jax.nn.sigmoid(logits)) * d_logits + logits * d_x


class _IndependentPixels(dist.Independent):
    """Independent pixels as one event, with one log-density computed for the whole event."""

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
    """Return sum_i x_i l_i - log(1 + exp(l_i)), `[...]` for `[..., D]`.

    On a CPU, whose logarithms are slow, in products of factors. Accelerators, which wait for memory, need one pass.
    """
    return jax.lax.platform_dependent(logits, x, cpu=_by_products, default=_in_one_pass)


@_event_log_density.defjvp
def _event_log_density_derivative(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Differentiate with x - p."""
    (logits, x), (d_logits, d_x) = primals, tangents
    density, mean = jax.lax.platform_dependent(logits, x, cpu=_by_products_with_mean, default=_in_one_pass_with_mean)
    return density, jnp.sum((x - mean) * d_logits + logits * d_x, axis=-1)


def _in_one_pass(logits: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)


def _in_one_pass_with_mean(logits: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _in_one_pass(logits, x), jax.nn.sigmoid(logits)


def _by_products(logits: jax.Array, x: jax.Array) -> jax.Array:
    # All draws of z at one datapoint share x, so that their inner products are one matrix product.
    inner = jnp.einsum("...i,...i->...", logits, x, precision="highest")
    return inner - jnp.sum(jnp.maximum(logits, 0), axis=-1) - _sum_of_log_1p(jnp.exp(-jnp.abs(logits)))


def _by_products_with_mean(logits: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the density and p, which share their exponential; inner products would need another pass."""
    small = jnp.exp(-jnp.abs(logits))
    mean = jnp.where(logits >= 0, 1, small) / (1 + small)
    return jnp.sum(x * logits - jnp.maximum(logits, 0), axis=-1) - _sum_of_log_1p(small), mean


def _sum_of_log_1p(small: jax.Array) -> jax.Array:
    """Return the sum over the last axis of log(1 + t), t in [0, 1], with one logarithm per product of 16 factors."""
    size = small.shape[-1] // _FACTORS * _FACTORS
    whole, rest = jnp.split(1 + small, [size], axis=-1)
    groups = jnp.reshape(whole, (*small.shape[:-1], _FACTORS, -1))
    return jnp.sum(jnp.log(jnp.prod(groups, axis=-2)), axis=-1) + jnp.log(jnp.prod(rest, axis=-1))


BERNOULLI = Likelihood(1, GreyBernoulli)
"""A Bernoulli likelihood whose outputs are logits (C.1)."""
