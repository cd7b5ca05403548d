"""Importance sampling from the recognition model (Burda et al. 2016, section 5)."""

import jax

from aevb.arguments import check_counts
from aevb.marginal_likelihood.estimate import Estimate, drawing, log_joint, log_mean, sum_by_blocks
from aevb.model import Datapoint, Model, Params, bind, check_arguments, check_latents, posterior_of, prior_of
from aevb.support import check_value


def importance_sampling(
    params: Params, key: jax.Array, x: Datapoint, model: Model, num_samples: int = 5000, block_size: int = 100
) -> Estimate:
    """Estimate log p(x) of one datapoint from K = `num_samples` draws from the encoder.

        log p(x) ~= log 1/K sum_k p(x, z_k) / q(z_k|x),     z_k ~ q(z|x)

    The estimate is unbiased for p(x), hence *below* log p(x) on average (Jensen), by about half the squared standard
    error. That error is estimated from the same weights. If the encoder misses a part of the posterior, both are too
    low, and an effective sample size of a few draws is the warning.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed. The noise of a draw depends only on the key and the position of the draw.
      x: one datapoint, or a `Given`.
      model: the four functions; static.
      num_samples: K.
      block_size: the number of draws in memory at a time.

    Returns:
      An `Estimate`, without chains.

    Raises:
      ValueError: `x` has another shape, or a count is too small.
      TypeError: a count is not an integer.
    """
    check_counts(2, num_samples=num_samples)
    check_counts(1, block_size=block_size)
    check_arguments(params, key, x, model)
    check_value(params, x, model)
    model, x = bind(model, x)
    posterior = posterior_of(model, params, x)
    check_latents(posterior, prior_of(model, params))
    draw, log_density = drawing(posterior), log_joint(params, x, model)

    def log_weight(position: jax.Array) -> jax.Array:
        z, log_posterior = draw(jax.random.fold_in(key, position))
        return log_density(z) - log_posterior

    return log_mean(sum_by_blocks(log_weight, num_samples, block_size), num_samples)
