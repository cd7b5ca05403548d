"""Estimators of the gradient of a bound, over one sampling core.

The choice changes only the gradient: all are unbiased, and the value of the bound is the same for all.

    "pathwise"                      through z = g(noise, x), as in the paper (section 2.4)
    "sticking_the_landing"          pathwise without the score term, whose mean is 0 (Roeder et al. 2017)
    "doubly_reparameterized"        the same idea for the importance weighted bound (Tucker et al. 2018)
    "score_function"                f(z) grad log q(z|x): no g, highest variance (section 2.1; Paisley et al. 2012)
    "score_function_leave_one_out"  with the mean, or bound, of the other samples as baseline (Mnih & Rezende 2016)
"""

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from aevb.arguments import check_key
from aevb.distributions import Chain, Markov, Observed
from aevb.distributions.chain import family_name
from aevb.distributions.levels import log_densities, total
from aevb.model import Datapoint, Latents, Model, Params, bind, check_latents, likelihood_of, posterior_of, prior_of
from aevb.support import check_value

Gradient: TypeAlias = Literal[
    "pathwise",
    "sticking_the_landing",
    "doubly_reparameterized",
    "score_function",
    "score_function_leave_one_out",
]

SCORE_FUNCTION: tuple[Gradient, ...] = ("score_function", "score_function_leave_one_out")


class Draws(NamedTuple):
    """Samples of z and the log densities at them, in nats.

    Attributes:
      posterior: q(z|x).
      prior: p(z).
      z: leaves `[L, ...]`, differentiable in phi unless the gradient estimator is a score function.
      log_likelihood: `[L]`, log p(x|z).
      log_prior: log p(z) by level, `[L]` per level; for a path, `[L, T]`.
      log_posterior: log q(z|x) by level. It is differentiable in phi and z ("pathwise"), in z only
        ("sticking_the_landing", "doubly_reparameterized"), or in phi only (score functions; this is the score).
      log_likelihood_by_step: `[L, T]`, log p(x_t|z), if z is a path and the likelihood an `Observed` of its length.
      intermediates: what q computed to draw z, differentiable as z is; `None` for gradients other than "pathwise".
    """

    posterior: Distribution
    prior: Distribution
    z: Latents
    log_likelihood: jax.Array
    log_prior: dict[str, jax.Array]
    log_posterior: dict[str, jax.Array]
    log_likelihood_by_step: jax.Array | None = None
    intermediates: Any = None


def reparameterize(distribution: Distribution, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> Any:
    """Draw z = g(noise), differentiable in the parameters of `distribution` (section 2.4).

    All three of the paper's approaches are covered: a tractable inverse CDF (exponential, Cauchy, Weibull...), location
    and scale (normal, Laplace, Student t...), and composition (log-normal, gamma, Dirichlet, normalizing flows...).

    Args:
      distribution: the distribution to draw from.
      key: a typed key.
      sample_shape: leading axes of independent draws.

    Returns:
      An array of shape `sample_shape + distribution.batch_shape + distribution.event_shape`; for a `Chain`, a dict of
      such arrays by level.

    Raises:
      TypeError: the distribution, or a level of it, is no differentiable transformation of noise, for example because
        it is discrete; or `key` is not one typed key.
    """
    check_key(key)
    return _reparameterize(distribution, key, sample_shape)[0]


def draw(
    params: Params, key: jax.Array, x: Datapoint, model: Model, num_samples: int, gradient: Gradient | None
) -> Draws:
    """Draw `num_samples` z from q(z|x). The gradient estimator decides which terms are differentiable, and in what.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint, with its condition if it has one.
      model: the four functions.
      num_samples: L.
      gradient: the gradient estimator; `None` if the result is not differentiated, which any posterior allows.
    """
    check_value(params, x, model)
    bound, value = bind(model, x)
    posterior, prior = posterior_of(bound, params, value), prior_of(bound, params)
    check_latents(posterior, prior)
    intermediates = None
    if gradient is None or gradient == "pathwise":
        sample = posterior.sample_with_intermediates if gradient is None else _reparameterizable(posterior)
        z, intermediates = sample(key, (num_samples,))
        log_posterior = log_densities(posterior, z, intermediates)
    elif gradient in SCORE_FUNCTION:
        z = jax.lax.stop_gradient(posterior.sample(key, (num_samples,)))
        log_posterior = log_densities(posterior, z)
    else:
        z = reparameterize(posterior, key, (num_samples,))
        log_posterior = log_posterior_of_z_alone(params, x, model, z)
    log_likelihood = _log_likelihood(params, value, bound, z)
    by_step = _log_likelihood_by_step(params, value, bound, z, prior)
    log_prior = log_densities(prior, z)
    return Draws(posterior, prior, z, log_likelihood, log_prior, log_posterior, by_step, intermediates)


def log_posterior_of_z_alone(params: Params, x: Datapoint, model: Model, z: Latents) -> dict[str, jax.Array]:
    """Return log q(z|x) by level, differentiable in z only: its gradient reaches phi through z alone.

    Gradients through the datapoint and its condition are stopped, too.
    """
    frozen_params, frozen_x = jax.lax.stop_gradient((params, x))
    model, value = bind(model, frozen_x)
    return log_densities(posterior_of(model, frozen_params, value), z)


def expectation(values: jax.Array, draws: Draws, gradient: Gradient | None) -> jax.Array:
    """Return the mean over draws of `values` f(z_l), `[L, ...]`, with the gradient of the given estimator.

    For a score function, the gradient includes the term f(z_l) grad log q(z_l|x).
    """
    mean = jnp.mean(values, axis=0)
    if gradient not in SCORE_FUNCTION:
        return mean
    baseline: Any = 0.0
    if gradient == "score_function_leave_one_out":
        baseline = (jnp.sum(values, axis=0) - values) / (len(values) - 1)
    signals = jax.lax.stop_gradient(values - baseline)
    score = total(draws.log_posterior).reshape(-1, *[1] * (values.ndim - 1))
    return with_gradient_of(mean, jnp.mean(values + signals * score, axis=0))


def weighted_bound(
    params: Params, x: Datapoint, model: Model, draws: Draws, gradient: Gradient | None, kl_weight: Any = None
) -> jax.Array:
    """Return log 1/K sum_k w_k, `[]`, with the gradient of the given estimator.

    Args:
      params: parameters of `model`.
      x: one datapoint, with its condition if it has one.
      model: the four functions.
      draws: K draws.
      gradient: the gradient estimator.
      kl_weight: the exponent b in the weights w = p(x|z) (p(z) / q(z|x))^b; `None` is 1.
    """
    log_weights = _log_weights(draws.log_likelihood, draws.log_posterior, draws.log_prior, kl_weight)
    bound = _log_mean_exp(log_weights)
    if gradient == "doubly_reparameterized":
        return with_gradient_of(bound, _doubly_reparameterized(params, x, model, draws, log_weights, kl_weight))
    if gradient in SCORE_FUNCTION:
        # The learning signal of each sample is the whole bound; the baseline is the bound from the other samples.
        baseline = _leave_one_out_bounds(log_weights) if gradient == "score_function_leave_one_out" else 0.0
        signals = jax.lax.stop_gradient(bound - baseline)
        return with_gradient_of(bound, bound + jnp.sum(signals * total(draws.log_posterior)))
    return bound


def _log_weights(log_likelihood: jax.Array, log_posterior: dict, log_prior: dict, kl_weight: Any) -> jax.Array:
    divergence = total(log_posterior) - total(log_prior)
    return log_likelihood - (divergence if kl_weight is None else kl_weight * divergence)


def _doubly_reparameterized(
    params: Params, x: Datapoint, model: Model, draws: Draws, log_weights: jax.Array, kl_weight: Any
) -> jax.Array:
    """Return a surrogate whose gradient is the doubly reparameterized one.

    Sample k has its normalized weight v_k in the gradient in theta, and v_k^2 in the gradient through z. With an
    exponent b, the omitted score term has the factor b, so the weight through z is (1 - b) v_k + b v_k^2.
    """
    weights = jax.nn.softmax(jax.lax.stop_gradient(log_weights))
    of_path = weights if kl_weight is None else (1 - kl_weight) + kl_weight * weights
    z = jax.tree.map(lambda z: with_gradient_of(z, jax.vmap(jnp.multiply)(of_path, z)), draws.z)
    bound, value = bind(model, x)
    # The same densities at the same points as in `draw`: the compiler computes them only once.
    log_likelihood, log_prior = _log_likelihood(params, value, bound, z), log_densities(draws.prior, z)
    if kl_weight is None:
        log_joint = log_likelihood + total(log_prior)
        return jnp.sum(weights * (log_joint - total(log_posterior_of_z_alone(params, x, model, z))))
    log_posterior = log_posterior_of_z_alone(params, x, model, z)
    return jnp.sum(weights * _log_weights(log_likelihood, log_posterior, log_prior, kl_weight))


def _log_likelihood(params: Params, x: Datapoint, model: Model, z: Latents) -> jax.Array:
    """Return log p(x|z), `[L]`, for each of `z`, `[L, ...]`. `model` and `x` are without a condition."""
    x = jax.tree.map(jnp.asarray, x)  # numpyro assumes that the support of a NumPy array is known without tracing
    return jax.vmap(lambda z: jnp.asarray(likelihood_of(model, params, z).log_prob(x)))(z)


def _log_likelihood_by_step(
    params: Params, x: Datapoint, model: Model, z: Latents, prior: Distribution
) -> jax.Array | None:
    """Return log p(x_t|z), `[L, T]`, if it is known. The compiler removes the computation if it is not used."""
    if not isinstance(prior, Markov):
        return None

    def of_path(z: jax.Array) -> jax.Array | None:
        likelihood = likelihood_of(model, params, z)
        if isinstance(likelihood, Observed) and likelihood.event_shape[:1] == prior.event_shape[:1]:
            return likelihood.log_probs(x)
        return None

    return jax.vmap(of_path)(z)


def _log_mean_exp(log_weights: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(log_weights, axis=-1) - math.log(log_weights.shape[-1])


def _leave_one_out_bounds(log_weights: jax.Array) -> jax.Array:
    """Return the bound from the other K - 1 samples for each of K samples, `[K]`."""
    size = len(log_weights)
    # Masked rather than subtracted from the sum, because the largest weight often makes up nearly the whole sum.
    others = jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, log_weights[None, :])
    return jax.nn.logsumexp(others, axis=-1) - math.log(size - 1)


@jax.custom_jvp
def with_gradient_of(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    """Return `value`, bit for bit, with the derivative of `surrogate`."""
    del surrogate
    return value


@with_gradient_of.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return primals[0], tangents[1]


def _reparameterize(distribution: Distribution, key: jax.Array, sample_shape: tuple[int, ...]) -> tuple[Any, Any]:
    return _reparameterizable(distribution)(key, sample_shape)


def _reparameterizable(distribution: Distribution) -> Any:
    """Return the distribution's sampling function, which also returns intermediates for the density of a flow."""
    if not distribution.has_rsample:
        name = family_name(distribution)
        if isinstance(distribution, Chain):
            levels = distribution.levels_without_rsample.items()
            name = ", ".join(f"level {level!r} ({family})" for level, family in levels)
        raise TypeError(
            f"{name} cannot be reparameterized: no differentiable z = g(noise) is known; use "
            f'gradient="score_function", which needs none'
        )
    return distribution.sample_with_intermediates
