"""The result type of all estimators, and how log weights become an estimate."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp
from numpyro.distributions import Distribution, MultivariateNormal

from aevb.distributions.levels import Raveled
from aevb.hmc import check_continuous
from aevb.model import (
    Datapoint,
    Latents,
    Model,
    Params,
    bind,
    check_arguments,
    check_latents,
    latent_template,
    likelihood_of,
    posterior_of,
    prior_of,
)
from aevb.particles import Filtered
from aevb.support import check_value

T = TypeVar("T")


class Estimate(NamedTuple):
    """An estimate of log p(x) of one datapoint; after `vmap` or `evaluate`, arrays `[N]`.

    Attributes:
      log_marginal: `[]`, nats.
      standard_error: `[]`, nats, the Monte Carlo error of `log_marginal` to first order (the delta method); NaN for a
        single particle filter.
      effective_sample_size: `[]`, the equivalent number of independent draws of equal weight (importance sampling, AIS;
        for a particle filter at its worst step), or the number of independent draws equivalent to the autocorrelated
        ones (HMC).
      acceptance: `[]`, the mean acceptance probability of the chains; `None` without chains.
      r_hat: `[]`, the largest split R-hat of the chains that sample p(z|x), over the coordinates of z and log p(x, z).
        Above about 1.1 the chains disagree, and neither the estimate nor its error can be trusted. `None` without such
        chains.
      by_step: the results of a particle filter at each step, `[T]` each; `None` for other estimators.
    """

    log_marginal: jax.Array
    standard_error: jax.Array
    effective_sample_size: jax.Array
    acceptance: jax.Array | None = None
    r_hat: jax.Array | None = None
    by_step: Filtered | None = None


class Sandwich(NamedTuple, Generic[T]):
    """A stochastic lower and a stochastic upper bound on the same log p(x), each with its own error."""

    lower: T
    upper: T


class LogSums(NamedTuple):
    """Running sums of weights w, kept as logarithms: log sum w and log sum w^2, `[]` each."""

    weights: jax.Array
    squares: jax.Array


def sum_by_blocks(log_weight: Callable[[jax.Array], jax.Array], num_samples: int, block_size: int) -> LogSums:
    """Sum `num_samples` weights, with `block_size` of them in memory at a time.

    Args:
      log_weight: a function from the position of a draw, `[]` integer, to its log weight, `[]`.
      num_samples: the number of draws.
      block_size: the number of draws per block, which affects only memory and speed.

    Returns:
      The sums.
    """
    block_size = min(block_size, num_samples)

    def add_block(sums: LogSums, first: jax.Array) -> tuple[LogSums, None]:
        positions = first + jnp.arange(block_size)
        # The last block may extend beyond the end.
        log_weights = jnp.where(positions < num_samples, jax.vmap(log_weight)(positions), -jnp.inf)
        block = LogSums(logsumexp(log_weights), logsumexp(2 * log_weights))
        return jax.tree.map(jnp.logaddexp, sums, block), None

    dtype = jax.eval_shape(log_weight, jnp.arange(1)[0]).dtype
    nothing = jnp.full((), -jnp.inf, dtype)
    return jax.lax.scan(add_block, LogSums(nothing, nothing), jnp.arange(0, num_samples, block_size))[0]


def log_mean(sums: LogSums, num_samples: int) -> Estimate:
    """Return the log of the mean of independent weights. Its error is the relative standard error of that mean."""
    effective_sample_size = jnp.exp(2 * sums.weights - sums.squares)
    relative_variance = (1 / effective_sample_size - 1 / num_samples) * (num_samples / (num_samples - 1))
    # For equal weights the difference is only rounding error, which may be negative.
    standard_error = jnp.sqrt(jnp.maximum(relative_variance, 0.0))
    return Estimate(sums.weights - jnp.log(num_samples), standard_error, effective_sample_size)


def log_density_of(distribution: Distribution) -> Callable[[jax.Array], jax.Array]:
    """Return `z [..., J] -> log density [...]`, nats.

    The Cholesky factor of a Gaussian is inverted once. Triangular solves inside a loop are slow, and many concurrent
    ones, from a batch of datapoints on a CPU with few cores, have been seen to deadlock.
    """
    if not isinstance(distribution, MultivariateNormal):
        return lambda z: jnp.asarray(distribution.log_prob(z))
    mean, factor = jnp.asarray(distribution.loc), jnp.asarray(distribution.scale_tril)
    size = factor.shape[-1]
    inverse = solve_triangular(factor, jnp.eye(size, dtype=factor.dtype), lower=True)
    constant = -jnp.sum(jnp.log(jnp.diag(factor))) - 0.5 * size * jnp.log(2 * jnp.pi).astype(factor.dtype)
    return lambda z: constant - 0.5 * jnp.sum(jnp.square((z - mean) @ inverse.T), axis=-1)


def drawing(distribution: Distribution) -> Callable[[jax.Array], tuple[Latents, jax.Array]]:
    """Return `key -> z [J], log density []`. The density of a flow is computed from the intermediates of the draw."""
    log_density = log_density_of(distribution)

    def draw(key: jax.Array) -> tuple[Latents, jax.Array]:
        z: Any
        z, intermediates = distribution.sample_with_intermediates(key)
        return z, jnp.asarray(distribution.log_prob(z, intermediates)) if intermediates else log_density(z)

    return draw


def log_joint(params: Params, x: Datapoint, model: Model) -> Callable[[Latents], jax.Array]:
    """Return `z -> log p(x, z)`, `[]`, nats: the posterior's log density up to the constant log p(x), the estimand.

    `model` and `x` are without a condition.
    """
    log_prior, x = log_density_of(prior_of(model, params)), jax.tree.map(jnp.asarray, x)
    return lambda z: log_prior(z) + jnp.asarray(likelihood_of(model, params, z).log_prob(x))


def over_vectors(
    params: Params, key: jax.Array, x: Datapoint, model: Model, method: str, use_encoder: bool = True
) -> tuple[Model, Datapoint]:
    """Return the model at the condition of `x`, with z as a vector, and `x` without its condition.

    Raise an error at trace time, before any compilation, if the arguments are wrong or z is discrete.
    """
    check_arguments(params, key, x, model)
    check_value(params, x, model)
    model, x = bind(model, x)
    prior = prior_of(model, params)
    check_continuous(prior, method)
    if use_encoder:
        check_latents(posterior_of(model, params, x), prior)
    template = latent_template(model, params)
    if isinstance(template, jax.ShapeDtypeStruct) and template.ndim == 1:
        return model, x
    raveled = lambda distribution: Raveled(distribution, template)
    unravel = raveled(prior).unravel
    return Model(
        model.init,
        lambda params, x: raveled(model.encode(params, x)),
        lambda params, z: model.decode(params, unravel(z)),
        lambda params: raveled(model.prior(params)),
    ), x
