"""Gaussians from the outputs of networks: a mean followed by a log-variance."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist


def diagonal_gaussian(outputs: jax.Array) -> dist.Distribution:
    """Return N(mean, sigma^2 I) over `[J]` from outputs `[2 J]`, the mean and log sigma^2 (C.2)."""
    mean, log_variance = jnp.split(outputs, 2)
    return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)
