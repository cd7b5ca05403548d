"""The estimator of Appendix D: Hamiltonian Monte Carlo draws of p(z|x), and a density fitted to them."""

import jax
import jax.numpy as jnp
from blackjax.diagnostics import effective_sample_size
from jax.scipy.special import logsumexp

from aevb.arguments import check_counts
from aevb.marginal_likelihood.chains import fit_gaussian, r_hat, sample, warm_up
from aevb.marginal_likelihood.estimate import Estimate, log_density_of, log_joint, over_vectors
from aevb.model import Datapoint, Model, Params

NUM_DISCARDED = 20
"""Transitions of each chain between the fit and the weighted draws. The weights are right on average only for draws
that are independent of the fit: the draws right after it lie where q has just been made high, and pull log p(x) down by
more than Jensen's inequality pushes it up."""

_MAX_BLOCKS = 256
"""The largest number of blocks into which the weights of a chain are averaged, so that memory does not grow with the
number of draws."""


def hmc_estimator(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int = 200,
    num_fit_samples: int = 100,
    num_chains: int = 8,
    num_warmup: int = 100,
    use_encoder: bool = True,
    num_prior_draws: int = 400,
) -> Estimate:
    """Estimate log p(x) of one datapoint by the paper's estimator for low-dimensional latent spaces (Appendix D).

    1. Hamiltonian Monte Carlo chains draw from p(z|x).
    2. A density q(z), here a Gaussian with full covariance, is fitted to their draws.
    3. From L = `num_chains` x `num_samples` new draws, made some transitions later,

        log p(x) ~= -log 1/L sum_l q(z_l) / (p(z_l) p(x|z_l)),     z_l ~ p(z|x)

    The mean is unbiased for 1 / p(x), hence the estimate is *above* log p(x) on average (Jensen), by about half the
    squared standard error. It is a stochastic upper bound and gets worse with the number of latent dimensions. Several
    modes of the posterior, if the chains visit them, increase the variance but do not affect consistency.

    Chains that are stuck in a wrong mode have normal acceptance rates. Therefore several chains start far apart, those
    in modes without mass are moved during warm-up (`chains.NEGLIGIBLE`), and the R-hat of all is returned. If it is
    large, modes with some mass have the wrong shares of the draws, and the value is off, mostly downwards. Chains that
    all start from the prior (`use_encoder=False`) can all miss the same mode, which R-hat cannot detect.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint, or a `Given`.
      model: the four functions; static. Its `encode` is not called without `use_encoder`.
      num_samples: the number of draws per chain for step 3.
      num_fit_samples: the number of draws per chain for step 2.
      num_chains: C. The chains share one step size, adapted to an acceptance of 0.9.
      num_warmup: the number of transitions per chain before any draw counts.
      use_encoder: whether to start half of the chains at draws from q(z|x).
      num_prior_draws: the number of draws of the prior, the best of which is the start of each other chain.

    Returns:
      An `Estimate`. Its error accounts for autocorrelation within chains and for disagreement between them.

    Raises:
      ValueError: `x` has another shape, or a count is too small.
      TypeError: a count is not an integer.
    """
    model, x = over_vectors(params, key, x, model, "the HMC estimator", use_encoder)
    check_counts(2, num_samples=num_samples, num_fit_samples=num_fit_samples)
    check_counts(1, num_chains=num_chains, num_warmup=num_warmup, num_prior_draws=num_prior_draws)
    warmup_key, fit_key, sample_key = jax.random.split(key, 3)
    log_density = log_joint(params, x, model)
    chains = warm_up(params, warmup_key, x, model, num_chains, num_warmup, use_encoder, num_prior_draws)
    chains, fitted, fit_run = fit_gaussian(fit_key, chains, log_density, num_fit_samples)
    log_fitted = log_density_of(fitted)
    num_blocks = min(num_samples, _MAX_BLOCKS)

    def accumulate(sums: tuple, index: jax.Array, states) -> tuple:
        blocks, squares = sums
        log_weights = log_fitted(states.position) - states.log_density  # [C]
        block = index * num_blocks // num_samples
        blocks = blocks.at[:, block].set(jnp.logaddexp(blocks[:, block], log_weights))
        return blocks, jnp.logaddexp(squares, logsumexp(2 * log_weights))

    nothing = jnp.full((num_chains, num_blocks), -jnp.inf, chains.step_size.dtype)
    chains, (blocks, squares), run = sample(
        sample_key, chains, log_density, num_samples, accumulate, (nothing, nothing[0, 0]), NUM_DISCARDED
    )
    estimate = _reciprocal_of_mean(blocks, squares, num_samples)
    return estimate._replace(acceptance=run.acceptance, r_hat=r_hat(fit_run.moments, run.moments))


def _reciprocal_of_mean(blocks: jax.Array, squares: jax.Array, num_samples: int) -> Estimate:
    """Return -log of the mean weight, with an error that accounts for autocorrelation.

    Args:
      blocks: `[C, B]`, the log of the sum of the weights in each block of consecutive draws.
      squares: `[]`, the log of the sum of all squared weights.
      num_samples: the number of draws per chain.
    """
    num_chains, num_blocks = blocks.shape
    num_draws = num_chains * num_samples
    log_mean = logsumexp(blocks) - jnp.log(num_draws)
    counts = jnp.bincount(jnp.arange(num_samples) * num_blocks // num_samples, length=num_blocks)
    means = jnp.exp(blocks - log_mean - jnp.log(counts))  # [C, B], in units of the mean weight
    standard_error = jnp.std(means) / jnp.sqrt(effective_sample_size(means))
    variance = jnp.exp(squares - jnp.log(num_draws) - 2 * log_mean) - 1
    return Estimate(-log_mean, standard_error, variance / standard_error**2)
