"""The stochastic gradient variational Bayes estimators of the paper, section 2.3, over one sampling core.

Every bound is in nats, is a *lower* bound (higher is better) and is a function of one datapoint:
`jax.vmap(elbo, (None, 0, 0, None))(params, keys, xs, model)` is a minibatch, `jax.grad(elbo)` its gradient.
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, kl_divergence

from aevb.model import Model, Params, data_shape

KL: TypeAlias = Literal["analytic", "sampled"]


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
    params: Params, key: jax.Array, x: jax.Array, model: Model, num_samples: int = 1, kl: KL = "analytic"
) -> ElboTerms:
    """The two terms of the evidence lower bound at one datapoint, apart. Arguments as for `elbo`."""
    _check(params, x, model, num_samples, kl)
    posterior, prior = model.encode(params, x), model.prior(params)
    z, log_posterior = _reparameterize_with_log_density(posterior, key, (num_samples,))
    log_likelihood = jax.vmap(lambda z: model.decode(params, z).log_prob(x))(z)
    sampled_kl = jnp.mean(log_posterior - prior.log_prob(z))
    divergence = _analytic_kl(posterior, prior) if kl == "analytic" else sampled_kl
    return ElboTerms(jnp.mean(log_likelihood), divergence)


def elbo(
    params: Params, key: jax.Array, x: jax.Array, model: Model, num_samples: int = 1, kl: KL = "analytic"
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

    Returns:
      `[]`, nats.

    Raises:
      ValueError: `x` has another shape, `num_samples` is not positive, `kl` is unknown, or "analytic" is asked for
        where no closed form is registered.
      TypeError: the posterior cannot be reparameterized, or `num_samples` is no Python int.
    """
    reconstruction, divergence = elbo_terms(params, key, x, model, num_samples, kl)
    return reconstruction - divergence


def minibatch_elbo(
    params: Params,
    key: jax.Array,
    xs: jax.Array,
    model: Model,
    dataset_size: int,
    num_samples: int = 1,
    kl: KL = "analytic",
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

    Returns:
      `[]`, nats a dataset; divide by `dataset_size` for nats a datapoint.
    """
    batch_size = xs.shape[0]
    if not 1 <= batch_size <= dataset_size:
        raise ValueError(f"a minibatch of {batch_size} cannot come from a dataset of {dataset_size}")
    keys = jax.random.split(key, batch_size)
    bounds = jax.vmap(lambda key, x: elbo(params, key, x, model, num_samples, kl))(keys, xs)
    return dataset_size / batch_size * jnp.sum(bounds)


def _reparameterize_with_log_density(
    distribution: Distribution, key: jax.Array, sample_shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Differentiable draws and their log density, which for a flow is known from the way there alone."""
    if not distribution.has_rsample:
        raise TypeError(
            f"{type(distribution).__name__} cannot be reparameterized: no differentiable z = g(noise) is known"
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


def _check(params: Params, x: jax.Array, model: Model, num_samples: int, kl: str) -> None:
    """Fails at trace time, before any compilation, with the offending value and what would be right."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be an aevb.Model, got {type(model).__name__}")
    if not isinstance(num_samples, int) or isinstance(num_samples, bool):
        raise TypeError(
            f"num_samples must be a Python int, got {num_samples!r}: bind it with functools.partial before jax.jit"
        )
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    if kl not in get_args(KL):
        raise ValueError(f"kl must be one of {get_args(KL)}, got {kl!r}")
    if jnp.shape(x) != (expected := data_shape(model, params)):
        hint = "; elbo takes one datapoint, jax.vmap it over a batch" if jnp.shape(x)[1:] == expected else ""
        raise ValueError(f"x has shape {jnp.shape(x)}, the model's datapoints have shape {expected}{hint}")
