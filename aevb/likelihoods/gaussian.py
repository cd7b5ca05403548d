"""Gaussian likelihoods: densities of real values, with a learned variance for each value or a fixed one."""

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.likelihoods.likelihood import Likelihood

FIXED_SCALE = 1 / math.sqrt(2)
"""The standard deviation at which the log-density is the negative squared error, less a constant."""


def _gaussian(mean: jax.Array, log_variance: jax.Array) -> dist.Distribution:
    return dist.Normal(mean, jnp.exp(0.5 * log_variance))


def _fixed_scale(mean: jax.Array) -> dist.Distribution:
    return dist.Normal(mean, jnp.asarray(FIXED_SCALE, mean.dtype))


GAUSSIAN = Likelihood(2, _gaussian)
"""Means and log-variances (C.2)."""

SQUASHED_GAUSSIAN = Likelihood(2, lambda mean, log_variance: _gaussian(jax.nn.sigmoid(mean), log_variance))
"""The same with means in [0, 1], as the paper has it for Frey Face."""

GAUSSIAN_FIXED_SCALE = Likelihood(1, _fixed_scale)
"""Means, at the standard deviation 1 / sqrt(2): log p(x|z) = -(x - mean)^2 - log(pi) / 2 for each value, in nats.

That is the squared error of many tutorials, whose loss leaves out the constant; it is kept here, so that bounds compare
with those of other likelihoods. The unit of x matters: a fixed scale of 0.7 is wide for intensities in [0, 1].
"""
