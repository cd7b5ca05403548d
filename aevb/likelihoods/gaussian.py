"""Gaussian likelihoods for real values, with a learned variance per value or a fixed one."""

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.likelihoods.likelihood import Likelihood

FIXED_SCALE = 1 / math.sqrt(2)
"""The standard deviation for which the log-density is the negative squared error minus a constant."""


def _gaussian(mean: jax.Array, log_variance: jax.Array) -> dist.Distribution:
    return dist.Normal(mean, jnp.exp(0.5 * log_variance))


def _fixed_scale(mean: jax.Array) -> dist.Distribution:
    return dist.Normal(mean, jnp.asarray(FIXED_SCALE, mean.dtype))


GAUSSIAN = Likelihood(2, _gaussian)
"""A Gaussian likelihood whose outputs are means and log-variances (C.2)."""

SQUASHED_GAUSSIAN = Likelihood(2, lambda mean, log_variance: _gaussian(jax.nn.sigmoid(mean), log_variance))
"""The same with means in [0, 1], as the paper uses it for Frey Face."""

GAUSSIAN_FIXED_SCALE = Likelihood(1, _fixed_scale)
"""A Gaussian likelihood with standard deviation 1 / sqrt(2), whose outputs are means.

Per value, log p(x|z) = -(x - mean)^2 - log(pi) / 2, in nats. This is the squared error of many tutorials, which omit
the constant. It is kept here so that bounds are comparable to those of other likelihoods. The unit of x matters: a
fixed scale of 0.7 is wide for intensities in [0, 1].
"""
