"""Importance sampling from a defensive mixture (Hesterberg 1995), for reference values."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import logsumexp

from aevb import hmc
from aevb.arguments import check_counts
from aevb.marginal_likelihood.chains import fit_gaussian, r_hat, warm_up
from aevb.marginal_likelihood.estimate import (
    Estimate,
    log_density_of,
    log_joint,
    log_mean,
    over_vectors,
    sum_by_blocks,
)
from aevb.model import Datapoint, Model, Params, posterior_of, prior_of

_ENCODER_WEIGHT, _ENCODER_SCALE = 0.2, 1.2
_FITTED_WEIGHT, _FITTED_SCALE = 0.6, 1.1
_WIDE_WEIGHT, _WIDE_SCALE = 0.1, 2.0
_PRIOR_WEIGHT = 0.1

_NUM_DRAWS_FOR_CENTRE = 64


class _Component(NamedTuple):
    weight: float
    sample: Callable[[jax.Array], jax.Array]
    log_prob: Callable[[jax.Array], jax.Array]


def mixture_importance_sampling(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int = 5000,
    block_size: int = 100,
    num_fit_samples: int = 100,
    num_chains: int = 8,
    num_warmup: int = 100,
    use_encoder: bool = True,
    num_prior_draws: int = 400,
) -> Estimate:
    """Estimate log p(x) of one datapoint by importance sampling from a mixture that covers the posterior.

        r(z) = 0.2 q(z|x) inflated + 0.6 g(z) inflated + 0.1 g(z) inflated more + 0.1 p(z)
        log p(x) ~= log 1/K sum_k p(x, z_k) / r(z_k),     z_k ~ r

    g is a Gaussian with full covariance, fitted to draws of Hamiltonian Monte Carlo chains as in `hmc_estimator`. The
    R-hat of the chains shows whether they have found the posterior. The estimate is unbiased for p(x) for any g, and no
    weight exceeds ten times the likelihood, because the prior is in the mixture. On average it is below log p(x) by
    half the squared standard error.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed. The noise of a draw depends only on the key and the position of the draw.
      x: one datapoint, or a `Given`.
      model: the four functions; static. Its `encode` is not called without `use_encoder`.
      num_samples: K.
      block_size: the number of draws in memory at a time.
      num_fit_samples: the number of draws per chain to which g is fitted.
      num_chains: the number of Hamiltonian Monte Carlo chains.
      num_warmup: the number of transitions per chain before any draw counts.
      use_encoder: whether to include q(z|x) in the mixture and start half of the chains from it.
      num_prior_draws: the number of draws of the prior, the best of which is the start of each other chain.

    Returns:
      An `Estimate`.

    Raises:
      ValueError: `x` has another shape, or a count is too small.
      TypeError: a count is not an integer.
    """
    model, x = over_vectors(params, key, x, model, "mixture importance sampling", use_encoder)
    check_counts(2, num_samples=num_samples, num_fit_samples=num_fit_samples)
    check_counts(1, block_size=block_size, num_chains=num_chains)
    check_counts(1, num_warmup=num_warmup, num_prior_draws=num_prior_draws)
    warmup_key, *fit_keys, centre_key, sample_key = jax.random.split(key, 5)
    log_density = log_joint(params, x, model)
    chains = warm_up(params, warmup_key, x, model, num_chains, num_warmup, use_encoder, num_prior_draws)
    chains, _, first = fit_gaussian(fit_keys[0], chains, log_density, num_fit_samples)
    _, fitted, second = fit_gaussian(fit_keys[1], chains, log_density, num_fit_samples)
    prior, mean, log_fitted = prior_of(model, params), jnp.asarray(fitted.loc), log_density_of(fitted)
    components = [
        _inflated(_FITTED_WEIGHT, _FITTED_SCALE, mean, fitted, log_fitted),
        _inflated(_WIDE_WEIGHT, _WIDE_SCALE, mean, fitted, log_fitted),
        _Component(_PRIOR_WEIGHT, lambda key: jnp.asarray(prior.sample(key)), log_density_of(prior)),
    ]
    if use_encoder:
        encoder = posterior_of(model, params, x)
        centre = jnp.mean(encoder.sample(centre_key, (_NUM_DRAWS_FOR_CENTRE,)), axis=0)
        components.append(_inflated(_ENCODER_WEIGHT, _ENCODER_SCALE, centre, encoder, log_density_of(encoder)))
    log_weights = jnp.log(jnp.asarray([component.weight for component in components]))
    log_weights = (log_weights - logsumexp(log_weights)).astype(chains.step_size.dtype)

    def log_weight(position: jax.Array) -> jax.Array:
        which_key, draw_key = jax.random.split(jax.random.fold_in(sample_key, position))
        which = jax.random.categorical(which_key, log_weights)
        z = jnp.stack([component.sample(draw_key) for component in components])[which]
        log_probs = jnp.stack([component.log_prob(z) for component in components])
        return log_density(z) - logsumexp(log_weights + log_probs)

    estimate = log_mean(sum_by_blocks(log_weight, num_samples, block_size), num_samples)
    return estimate._replace(acceptance=second.acceptance, r_hat=r_hat(first.moments, second.moments))


def _inflated(
    weight: float, scale: float, centre: jax.Array, distribution: dist.Distribution, log_density: hmc.LogDensity
) -> _Component:
    """Return a component: the distribution, spread out by `scale` about `centre`, which need not be its mean."""
    log_volume = len(centre) * jnp.log(jnp.asarray(scale, centre.dtype))
    return _Component(
        weight,
        lambda key: centre + scale * (jnp.asarray(distribution.sample(key)) - centre),
        lambda z: log_density(centre + (z - centre) / scale) - log_volume,
    )
