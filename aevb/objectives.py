"""The stochastic gradient variational Bayes (SGVB) estimators of the paper (section 2.3).

    log p(x) = KL(q(z|x) || p(z|x)) + L(x),      L(x) = E_q[ log p(x|z) ] - KL(q(z|x) || p(z))        (eq. 1, 3)

Every bound is in nats, is a *lower* bound (higher is better) and is a function of one datapoint:
`jax.vmap(elbo, (None, 0, 0, None))(params, keys, xs, model)` gives the bounds of a minibatch and `jax.grad(elbo)` the
gradient. For a datapoint `Given(value, condition)` it is a bound on log p(value | condition).

z is drawn as a differentiable function of noise, so the gradient reaches phi. `aevb.gradients` has the other estimators
of the same gradient.
"""

import dataclasses
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from aevb import gradients, particles
from aevb.arguments import check_choice, check_counts, check_key, describe
from aevb.distributions.levels import ONE_LEVEL, closed_form_kl, sampled_kl
from aevb.gradients import SCORE_FUNCTION, Draws, Gradient, expectation
from aevb.model import Datapoint, Model, Params, check_arguments

KL: TypeAlias = Literal["analytic", "sampled"]
BoundName: TypeAlias = Literal["elbo", "iwae", "fivo"]


@dataclasses.dataclass(frozen=True)
class Estimator:
    """The options of the estimator of a bound, shared by training and evaluation.

    Attributes:
      num_samples: L, draws of z per datapoint; K for the importance weighted bound; K particles for FIVO.
      kl: "analytic" (eq. 7) or "sampled" (eq. 6), as for `elbo`. The importance weighted bound and FIVO have no KL
        term; for them it applies to the ELBO that is reported with them.
      gradient: the gradient estimator; see `aevb.gradients`.
      bound: "elbo", "iwae" for the importance weighted bound, or "fivo" for the filtering one, `fivo_bound`.

    Raises:
      ValueError: a name is unknown, the count is not positive, or the combination would be biased.
      TypeError: `num_samples` is not an integer.
    """

    num_samples: int = 1
    kl: KL = "analytic"
    gradient: Gradient = "pathwise"
    bound: BoundName = "elbo"

    def __post_init__(self) -> None:
        check_counts(1, num_samples=self.num_samples)
        object.__setattr__(self, "num_samples", int(self.num_samples))  # NumPy integers overflow
        check_choice("kl", self.kl, get_args(KL))
        check_choice("gradient", self.gradient, get_args(Gradient))
        check_choice("bound", self.bound, get_args(BoundName))
        _check_unbiased(self)


def check_estimator(estimator: Any, name: str = "estimator") -> None:
    """Raise `TypeError` unless `estimator` is an `Estimator` or `None`."""
    if estimator is not None and not isinstance(estimator, Estimator):
        example = "pass aevb.Estimator(num_samples=10), for example"
        raise TypeError(f"{name} must be an aevb.Estimator, got {describe(estimator)}: {example}")


class ElboTerms(NamedTuple):
    """The two terms of eq. 3, in nats: the bound is `reconstruction - kl`.

    Attributes:
      reconstruction: `[]`, a Monte Carlo estimate of E_q[log p(x|z)].
      kl: `[]`, KL(q(z|x) || p(z)), exact or estimated from the same samples.
      kl_by_level: `kl` by level, `[]` each; for a path by step, `[T]`. Their sum is `kl`. Latents with one level have
        one entry, "z".
      reconstruction_by_step: `[T]` if z is a path and the likelihood an `Observed` with the same number of steps; else
        `None`.
    """

    reconstruction: jax.Array
    kl: jax.Array
    kl_by_level: dict[str, jax.Array]
    reconstruction_by_step: jax.Array | None = None


def elbo_terms(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> ElboTerms:
    """Return the two terms of the evidence lower bound at one datapoint. Arguments as for `elbo`."""
    estimator = Estimator(num_samples, kl, gradient)
    check_arguments(params, key, x, model)
    return elbo_terms_of(gradients.draw(params, key, x, model, estimator.num_samples, gradient), estimator)


def elbo(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> jax.Array:
    """Return an unbiased estimate of the evidence lower bound L(theta, phi; x) at one datapoint.

    With z_l = g(noise_l, x), l = 1..L:

        kl="sampled"   L^A = 1/L sum_l log p(x, z_l) - log q(z_l|x)            (eq. 6)
        kl="analytic"  L^B = 1/L sum_l log p(x|z_l)  - KL(q(z|x) || p(z))      (eq. 7)

    L^B usually has lower variance; L^A needs no closed form. For a `Chain` or a path, "analytic" uses the closed form
    of each level or step given those drawn before it. A level whose ancestors in p come after it in q has no closed
    form, and its term is sampled.

    Args:
      params: parameters of `model`, first so that `jax.grad` needs no `argnums`.
      key: a typed key, consumed.
      x: one datapoint, of the shape that the decoder declares, or a `Given`.
      model: the four functions; static, also under `jax.jit`.
      num_samples: L.
      kl: the estimator, "analytic" or "sampled".
      gradient: the gradient estimator that `jax.grad` uses, for theta and phi together. "pathwise";
        "sticking_the_landing", with `kl="sampled"`, whose noise in phi vanishes if q(z|x) is the exact posterior;
        "score_function", which does not differentiate z, so q(z|x) may be discrete; or
        "score_function_leave_one_out", the same with noise smaller by orders of magnitude, which needs L >= 2.

    Returns:
      `[]`, nats.

    Raises:
      ValueError: `x` has another shape or lies outside the likelihood's support, `num_samples` is not positive, `kl`
        or `gradient` is unknown or cannot be combined with the other arguments, a function of the model returns a batch
        of distributions, or `kl` is "analytic" and no closed form is registered.
      TypeError: the posterior cannot be reparameterized and `gradient` needs it, `num_samples` is not an integer, or
        `key` is not one typed key.
    """
    terms = elbo_terms(params, key, x, model, num_samples, kl, gradient)
    return terms.reconstruction - terms.kl


def iwae_bound(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int,
    gradient: Gradient = "pathwise",
) -> jax.Array:
    """Return an unbiased estimate of the importance weighted bound L_K at one datapoint (Burda et al. 2016, eq. 8).

        L_K = E[ log 1/K sum_k w_k ],     w_k = p(x, z_k) / q(z_k|x),     z_k ~ q(z|x), k = 1..K

    L_1 is the ELBO; L_K rises with K towards log p(x).

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint, or a `Given`.
      model: the four functions.
      num_samples: K.
      gradient: as for `elbo`, with "doubly_reparameterized" instead of "sticking_the_landing".

    Returns:
      `[]`, nats.

    Raises:
      ValueError: as for `elbo`.
      TypeError: as for `elbo`.
    """
    estimator = Estimator(num_samples, "sampled", gradient, "iwae")
    check_arguments(params, key, x, model)
    return tighter_bound(params, key, x, model, estimator)


def fivo_bound(params: Params, key: jax.Array, x: Datapoint, model: Model, num_samples: int) -> jax.Array:
    """Return an unbiased estimate of the filtering variational objective of a sequence (Maddison et al. 2017).

    It is the log of a particle filter's unbiased estimate of p(x), with q(z|x) as the proposal (their section 4 and
    Algorithm 1); see `aevb.particles`. With one particle it is the ELBO. It rises with K towards log p(x), on long
    sequences much sooner than L_K does. It is not tight even if q is the exact posterior, for which the ELBO is: the
    weights at a step depend on the past alone, whereas q also depends on the future.

    `jax.grad` leaves out the score-function term of resampling, as its authors do: the gradient is biased, but has
    lower variance.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one sequence, leaves `[T, ...]`, or a `Given`. NaN after its end contributes nothing.
      model: the four functions. Prior and posterior are `Markov`, and `decode` works step by step.
      num_samples: K, the number of particles.

    Returns:
      `[]`, nats.

    Raises:
      ValueError: as for `elbo`, or the model does not decode step by step.
      TypeError: as for `elbo`, or the prior or the posterior is not a `Markov`.
    """
    estimator = Estimator(num_samples, "sampled", bound="fivo")
    check_arguments(params, key, x, model)
    return tighter_bound(params, key, x, model, estimator)


def tighter_bound(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    estimator: Estimator,
    kl_weight: Any = None,
    differentiable: bool = True,
) -> jax.Array:
    """Return the importance weighted bound or FIVO, whichever the estimator is for, `[]`, nats.

    With `kl_weight` b each weight is p(x|z) (p(z) / q(z|x))^b; `None` is 1.
    """
    if estimator.bound == "fivo":
        options: dict[str, Any] = {"kl_weight": kl_weight, "differentiable": differentiable}
        return jnp.sum(particles.run_filter(params, key, x, model, estimator.num_samples, **options).log_predictive)
    gradient = estimator.gradient if differentiable else None
    draws = gradients.draw(params, key, x, model, estimator.num_samples, gradient)
    return gradients.weighted_bound(params, x, model, draws, gradient, kl_weight)


def minibatch_elbo(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    dataset_size: int,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> jax.Array:
    """Return L^M, the estimate of the bound of a whole data set from one minibatch (eq. 8).

    It is (N / M) times the sum over the minibatch, an estimate of the sum over all `dataset_size` datapoints in nats.

    Args:
      params: parameters of `model`.
      key: a typed key, split into one per datapoint.
      xs: the minibatch, leaves `[M, ...]`.
      model: the four functions.
      dataset_size: N.
      num_samples: L.
      kl: the estimator, as for `elbo`.
      gradient: the gradient estimator, as for `elbo`.

    Returns:
      `[]`, nats per data set; divide by `dataset_size` for nats per datapoint.
    """
    check_counts(1, dataset_size=dataset_size)
    check_key(key)
    batch_size = len(jax.tree.leaves(xs)[0])
    if not 1 <= batch_size <= dataset_size:
        raise ValueError(f"a minibatch of {batch_size} cannot come from a data set of {dataset_size}")
    keys = jax.random.split(key, batch_size)
    bounds = jax.vmap(lambda key, x: elbo(params, key, x, model, num_samples, kl, gradient))(keys, xs)
    return int(dataset_size) / batch_size * jnp.sum(bounds)


def elbo_terms_of(draws: Draws, estimator: Estimator, differentiable: bool = True) -> ElboTerms:
    """Return the two terms from draws of z. If `differentiable`, they have the gradient of the estimator."""
    gradient = estimator.gradient if differentiable else None
    reconstruction = expectation(draws.log_likelihood, draws, gradient)
    by_level = _kl_by_level(draws, estimator.kl, gradient)
    kl = jax.tree.reduce(jnp.add, [jnp.sum(term) if term.ndim else term for term in by_level.values()])
    by_step = draws.log_likelihood_by_step
    return ElboTerms(reconstruction, kl, by_level, None if by_step is None else expectation(by_step, draws, gradient))


def _kl_by_level(draws: Draws, kl: KL, gradient: Gradient | None) -> dict[str, jax.Array]:
    """Return KL(q || p) of each level, `[]` or `[T]`, averaged over the draws if it depends on them."""
    closed = {}
    if kl == "analytic":
        closed = closed_form_kl(draws.posterior, draws.prior, draws.z, draws.intermediates)
    if ONE_LEVEL in closed and closed[ONE_LEVEL].ndim == 0:
        return closed  # the only level, exact and independent of the draws
    log_posterior = draws.log_posterior
    if gradient in SCORE_FUNCTION:
        # At fixed z the mean of grad log q(z|x) is 0: added to the score function it would be pure noise.
        log_posterior = jax.lax.stop_gradient(log_posterior)
    terms = sampled_kl(log_posterior, draws.log_prior) | closed
    return {level: expectation(term, draws, gradient) for level, term in terms.items()}


def _check_unbiased(estimator: Estimator) -> None:
    gradient = estimator.gradient
    if gradient == "score_function_leave_one_out" and estimator.num_samples < 2:
        raise ValueError(
            f"gradient={gradient!r} compares samples with each other: it needs num_samples of at least 2, got "
            f'{estimator.num_samples}; use gradient="score_function" for one sample'
        )
    if estimator.bound == "elbo" and gradient == "doubly_reparameterized":
        raise ValueError(
            f"gradient={gradient!r} is for the importance weighted bound: for the ELBO use "
            f'gradient="sticking_the_landing" with kl="sampled"'
        )
    if estimator.bound == "elbo" and gradient == "sticking_the_landing" and estimator.kl != "sampled":
        raise ValueError(
            f'gradient={gradient!r} leaves out the score of log q(z|x), a term that only kl="sampled" has, got '
            f"kl={estimator.kl!r}"
        )
    if estimator.bound == "iwae" and gradient == "sticking_the_landing":
        raise ValueError(
            f"gradient={gradient!r} is biased for the importance weighted bound, whose score does not average to 0: "
            f'use gradient="doubly_reparameterized"'
        )
    if estimator.bound == "fivo" and gradient != "pathwise":
        raise ValueError(f'bound="fivo" supports only gradient="pathwise", got gradient={gradient!r}')
