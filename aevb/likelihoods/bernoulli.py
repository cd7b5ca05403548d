"""The Bernoulli likelihood of Appendix C.1, for binary pixels and for intensities."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike

from aevb.likelihoods.likelihood import Likelihood


class GreyBernoulli(dist.BernoulliLogits):
    """Bernoulli likelihood, eq. of Appendix C.1, for targets anywhere in [0, 1].

    The paper feeds pixel intensities to the Bernoulli log-density as they are. At targets strictly between 0 and 1
    that is a cross-entropy rather than the log of a probability mass, which is why every result says how its data
    were binarized. At targets 0 and 1 this is `numpyro.distributions.BernoulliLogits` exactly.
    """

    support = dist.constraints.unit_interval

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


BERNOULLI = Likelihood(1, GreyBernoulli)
"""Logits (C.1)."""
