"""The stochastic gradient variational Bayes estimators of the paper, section 2.3, over one sampling core.

Every bound is in nats, is a *lower* bound (higher is better) and is a function of one datapoint:
`jax.vmap(elbo, (None, 0, 0, None))(params, keys, xs, model)` is a minibatch, `jax.grad(elbo)` its gradient.

That gradient is unbiased for the gradient of the bound's expectation, by one of several estimators:

    "pathwise"                      through z = g(noise, x), the paper's (section 2.4)
    "sticking_the_landing"          without the score, whose mean is 0, in the pathwise one (Roeder et al. 2017)
    "doubly_reparameterized"        the same idea for the importance weighted bound (Tucker et al. 2018)
    "score_function"                f(z) grad log q(z|x): needs no g, varies most (section 2.1; Paisley et al. 2012)
    "score_function_leave_one_out"  with the other samples' mean, or bound, as a baseline (Mnih & Rezende 2016)

Which one it is changes the gradient alone: the value of a bound is the same for all.
"""

import math
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, kl_divergence

from aevb.arguments import check_counts, check_key
from aevb.model import Model, Params, data_shape

KL: TypeAlias = Literal["analytic", "sampled"]
Gradient: TypeAlias = Literal[
    "pathwise",
    "sticking_the_landing",
    "doubly_reparameterized",
    "score_function",
    "score_function_leave_one_out",
]

_SCORE_FUNCTION: tuple[Gradient, ...] = ("score_function", "score_function_leave_one_out")


class ElboTerms(NamedTuple):
    """The two terms of eq. 3, in nats: the bound is `reconstruction - kl`.

    Attributes:
      reconstruction: `[]`, a Monte Carlo estimate of E_q[log p(x|z)].
      kl: `[]`, KL(q(z|x) || p(z)): exact, or its estimate from the same samples.
    """

    reconstruction: jax.Array
    kl: jax.Array


def reparameterize(distribution: Distribution, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
    """Draws z = g(noise), differentiable in the parameters of `distribution` (section 2.4).

    All three of the paper's families are covered: a tractable inverse CDF (exponential, Cauchy, Weibull...), location
    and scale (normal, Laplace, Student t...), and composition (log-normal, gamma, Dirichlet, normalizing flows...).

    Args:
      distribution: what to draw from.
      key: a typed key.
      sample_shape: leading axes of independent draws.

    Returns:
      `sample_shape + distribution.batch_shape + distribution.event_shape`.

    Raises:
      TypeError: the distribution has no differentiable transformation of noise, as a discrete one has none.
    """
    return _reparameterize_with_log_density(distribution, key, sample_shape)[0]


def elbo_terms(
    params: Params,
    key: jax.Array,
    x: jax.Array,
    model: Model,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> ElboTerms:
    """The two terms of the evidence lower bound at one datapoint, apart. Arguments as for `elbo`."""
    _check(params, key, x, model, num_samples, gradient)
    _check_elbo(kl, gradient)
    draws = _draw(params, key, x, model, num_samples, gradient)
    reconstruction = _expectation(draws.log_likelihood, draws.log_posterior, gradient)
    if kl == "analytic":
        return ElboTerms(reconstruction, _analytic_kl(draws.posterior, draws.prior))
    # At fixed z the mean of grad log q(z|x) is 0: beside the score function it would be noise and nothing else.
    fixed_z = gradient in _SCORE_FUNCTION
    log_posterior = jax.lax.stop_gradient(draws.log_posterior) if fixed_z else draws.log_posterior
    return ElboTerms(reconstruction, _expectation(log_posterior - draws.log_prior, draws.log_posterior, gradient))


def elbo(
    params: Params,
    key: jax.Array,
    x: jax.Array,
    model: Model,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> jax.Array:
    """An unbiased estimate of the evidence lower bound L(theta, phi; x) at one datapoint.

    With z_l = g(noise_l, x), l = 1..L:

        kl="sampled"   L^A = 1/L sum_l log p(x, z_l) - log q(z_l|x)            (eq. 6)
        kl="analytic"  L^B = 1/L sum_l log p(x|z_l)  - KL(q(z|x) || p(z))      (eq. 7)

    L^B usually varies less; L^A needs no closed form.

    Args:
      params: parameters of `model`, first so that `jax.grad` needs no `argnums`.
      key: a typed key, consumed.
      x: one datapoint, of the shape that the decoder declares.
      model: the four functions; static, also under `jax.jit`.
      num_samples: L, a Python int.
      kl: which estimator.
      gradient: what `jax.grad` gives, in theta and phi together: "pathwise"; "sticking_the_landing", with
        `kl="sampled"`, whose noise in phi vanishes where q(z|x) is the exact posterior; "score_function", which does
        not differentiate z, so that q(z|x) may be discrete; "score_function_leave_one_out", the same with fewer
        orders of magnitude of noise, from L >= 2.

    Returns:
      `[]`, nats.

    Raises:
      ValueError: `x` has another shape, `num_samples` is not positive, `kl` or `gradient` is unknown or does not go
        with the other arguments, or "analytic" is asked for where no closed form is registered.
      TypeError: the posterior cannot be reparameterized and `gradient` needs it, `num_samples` is no Python int, or
        `key` is not one key.
    """
    reconstruction, divergence = elbo_terms(params, key, x, model, num_samples, kl, gradient)
    return reconstruction - divergence


def iwae_bound(
    params: Params,
    key: jax.Array,
    x: jax.Array,
    model: Model,
    num_samples: int,
    gradient: Gradient = "pathwise",
) -> jax.Array:
    """An unbiased estimate of the importance weighted bound L_K at one datapoint (Burda et al. 2016, eq. 8).

        L_K = E[ log 1/K sum_k w_k ],     w_k = p(x, z_k) / q(z_k|x),     z_k ~ q(z|x), k = 1..K

    L_1 is the ELBO; L_K rises with K towards log p(x).

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint.
      model: the four functions.
      num_samples: K, a Python int.
      gradient: as for `elbo`, with "doubly_reparameterized" in the place of "sticking_the_landing".

    Returns:
      `[]`, nats.

    Raises:
      ValueError: as for `elbo`.
      TypeError: as for `elbo`.
    """
    _check(params, key, x, model, num_samples, gradient)
    _check_iwae(gradient)
    draws = _draw(params, key, x, model, num_samples, gradient)
    log_weights = draws.log_likelihood - (draws.log_posterior - draws.log_prior)
    bound = _log_mean_exp(log_weights)
    if gradient == "doubly_reparameterized":
        return _with_gradient_of(bound, _doubly_reparameterized(params, x, model, draws, log_weights))
    if gradient in _SCORE_FUNCTION:
        # All of the bound answers for each sample; the baseline is the bound that the others make without it.
        baseline = _leave_one_out_bounds(log_weights) if gradient == "score_function_leave_one_out" else 0.0
        signals = jax.lax.stop_gradient(bound - baseline)
        return _with_gradient_of(bound, bound + jnp.sum(signals * draws.log_posterior))
    return bound


def minibatch_elbo(
    params: Params,
    key: jax.Array,
    xs: jax.Array,
    model: Model,
    dataset_size: int,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> jax.Array:
    """L^M, the estimate of the bound of a whole dataset from a minibatch of it (eq. 8).

    (N / M) times the sum over the minibatch: the sum, in nats, over all `dataset_size` points.

    Args:
      params: parameters of `model`.
      key: a typed key, split into one a datapoint.
      xs: `[M, ...]`, the minibatch.
      model: the four functions.
      dataset_size: N.
      num_samples: L.
      kl: which estimator, as for `elbo`.
      gradient: by which estimator, as for `elbo`.

    Returns:
      `[]`, nats a dataset; divide by `dataset_size` for nats a datapoint.
    """
    batch_size = xs.shape[0]
    if not 1 <= batch_size <= dataset_size:
        raise ValueError(f"a minibatch of {batch_size} cannot come from a dataset of {dataset_size}")
    keys = jax.random.split(key, batch_size)
    bounds = jax.vmap(lambda key, x: elbo(params, key, x, model, num_samples, kl, gradient))(keys, xs)
    return dataset_size / batch_size * jnp.sum(bounds)


class _Draws(NamedTuple):
    """Samples of z and the log densities there, in nats.

    Attributes:
      posterior: q(z|x).
      prior: p(z).
      z: `[L, ...]`, differentiable in phi but for the score function's.
      log_likelihood: `[L]`, log p(x|z).
      log_prior: `[L]`, log p(z).
      log_posterior: `[L]`, log q(z|x): differentiable in phi and z ("pathwise"), in z alone ("sticking_the_landing",
        "doubly_reparameterized") or in phi alone, which is the score (the score functions).
    """

    posterior: Distribution
    prior: Distribution
    z: jax.Array
    log_likelihood: jax.Array
    log_prior: jax.Array
    log_posterior: jax.Array


def _draw(params: Params, key: jax.Array, x: jax.Array, model: Model, num_samples: int, gradient: Gradient) -> _Draws:
    """The sampling core: what is differentiated, and in what, is decided here and by what the bounds do with it."""
    posterior, prior = model.encode(params, x), model.prior(params)
    if gradient == "pathwise":
        z, log_posterior = _reparameterize_with_log_density(posterior, key, (num_samples,))
    elif gradient in _SCORE_FUNCTION:
        z = jax.lax.stop_gradient(jnp.asarray(posterior.sample(key, (num_samples,))))
        log_posterior = jnp.asarray(posterior.log_prob(z))
    else:
        z = reparameterize(posterior, key, (num_samples,))
        log_posterior = _log_posterior_of_z_alone(params, x, model, z)
    log_likelihood = _log_likelihood(params, x, model, z)
    return _Draws(posterior, prior, z, log_likelihood, jnp.asarray(prior.log_prob(z)), log_posterior)


def _log_likelihood(params: Params, x: jax.Array, model: Model, z: jax.Array) -> jax.Array:
    """`[L]`, log p(x|z) at each of `z` `[L, ...]`."""
    return jax.vmap(lambda z: jnp.asarray(model.decode(params, z).log_prob(x)))(z)


def _log_posterior_of_z_alone(params: Params, x: jax.Array, model: Model, z: jax.Array) -> jax.Array:
    """`[L]`, log q(z|x) that is a constant in phi: its gradient reaches phi through z and no other way."""
    frozen_params, frozen_x = jax.lax.stop_gradient((params, x))
    return jnp.asarray(model.encode(frozen_params, frozen_x).log_prob(z))


def _expectation(values: jax.Array, log_posterior: jax.Array, gradient: Gradient) -> jax.Array:
    """1/L sum_l f(z_l) from `values` f(z_l) `[L]`, with the term f(z_l) grad log q(z_l|x) where z is not a function."""
    mean = jnp.mean(values)
    if gradient not in _SCORE_FUNCTION:
        return mean
    baseline = 0.0
    if gradient == "score_function_leave_one_out":
        baseline = (jnp.sum(values) - values) / (len(values) - 1)
    signals = jax.lax.stop_gradient(values - baseline)
    return _with_gradient_of(mean, jnp.mean(values + signals * log_posterior))


def _doubly_reparameterized(
    params: Params, x: jax.Array, model: Model, draws: _Draws, log_weights: jax.Array
) -> jax.Array:
    """What to differentiate: theta weighs sample k by its normalized weight, the path through z by its square."""
    weights = jax.nn.softmax(jax.lax.stop_gradient(log_weights))
    z = _with_gradient_of(draws.z, jax.vmap(jnp.multiply)(weights, draws.z))
    # The densities of `_draw` once more, at the same points: a compiler computes them once.
    log_joint = _log_likelihood(params, x, model, z) + jnp.asarray(draws.prior.log_prob(z))
    return jnp.sum(weights * (log_joint - _log_posterior_of_z_alone(params, x, model, z)))


def _log_mean_exp(log_weights: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(log_weights, axis=-1) - math.log(log_weights.shape[-1])


def _leave_one_out_bounds(log_weights: jax.Array) -> jax.Array:
    """`[K]`, for each sample the bound of the other K - 1."""
    size = len(log_weights)
    # Masked, not subtracted from the whole: the largest weight is often all of the sum.
    others = jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, log_weights[None, :])
    return jax.nn.logsumexp(others, axis=-1) - math.log(size - 1)


@jax.custom_jvp
def _with_gradient_of(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    """`value`, bit for bit, whose derivative is that of `surrogate`."""
    del surrogate
    return value


@_with_gradient_of.defjvp
def _(primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return primals[0], tangents[1]


def _reparameterize_with_log_density(
    distribution: Distribution, key: jax.Array, sample_shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Differentiable draws and their log density, which for a flow is known from the way there alone."""
    if not distribution.has_rsample:
        raise TypeError(
            f"{type(distribution).__name__} cannot be reparameterized: no differentiable z = g(noise) is known; "
            f'gradient="score_function" needs none'
        )
    z, intermediates = distribution.sample_with_intermediates(key, sample_shape)
    log_density = distribution.log_prob(z, intermediates) if intermediates else distribution.log_prob(z)
    return jnp.asarray(z), jnp.asarray(log_density)


def _analytic_kl(posterior: Distribution, prior: Distribution) -> jax.Array:
    try:
        return kl_divergence(posterior, prior)
    except NotImplementedError:
        names = f"{type(posterior).__name__} from {type(prior).__name__}"
        raise ValueError(f'no closed-form KL divergence of {names} is registered: use kl="sampled"') from None


def _check(params: Params, key: jax.Array, x: jax.Array, model: Model, num_samples: int, gradient: str) -> None:
    """Fails at trace time, before any compilation, with the offending value and what would be right."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be an aevb.Model, got {type(model).__name__}")
    check_key(key)
    check_counts(1, num_samples=num_samples)
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient must be one of {get_args(Gradient)}, got {gradient!r}")
    if gradient == "score_function_leave_one_out" and num_samples < 2:
        raise ValueError(
            f"gradient={gradient!r} compares samples with each other: it needs num_samples of at least 2, got "
            f'{num_samples}; one sample has gradient="score_function"'
        )
    if jnp.shape(x) != (expected := data_shape(model, params)):
        hint = "; a bound takes one datapoint, jax.vmap it over a batch" if jnp.shape(x)[1:] == expected else ""
        raise ValueError(f"x has shape {jnp.shape(x)}, the model's datapoints have shape {expected}{hint}")


def _check_elbo(kl: str, gradient: str) -> None:
    if kl not in get_args(KL):
        raise ValueError(f"kl must be one of {get_args(KL)}, got {kl!r}")
    if gradient == "doubly_reparameterized":
        raise ValueError(
            f"gradient={gradient!r} is for iwae_bound; of the ELBO it is "
            f'gradient="sticking_the_landing" with kl="sampled"'
        )
    if gradient == "sticking_the_landing" and kl != "sampled":
        raise ValueError(
            f'gradient={gradient!r} leaves the score out of log q(z|x), which is there with kl="sampled" only, got '
            f"kl={kl!r}"
        )


def _check_iwae(gradient: str) -> None:
    if gradient == "sticking_the_landing":
        raise ValueError(
            f"gradient={gradient!r} is biased for the importance weighted bound, where the score does not average to "
            f'0: use gradient="doubly_reparameterized"'
        )
