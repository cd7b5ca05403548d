"""Auto-Encoding Variational Bayes, Algorithm 1 of the paper.

    theta, phi <- initial parameters                        `descent(...).init`
    repeat
        X^M   <- random minibatch of M datapoints           `training.epochs`
        noise <- random draws of p(noise)                   the key of `loss`
        g     <- gradient of L^M(theta, phi; X^M, noise)    `jax.value_and_grad(loss)`
        theta, phi <- updated by g, by SGD or Adagrad       any optax transformation
    until convergence of theta, phi

`make_loss` implements -L^M, `descent` the rest.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from aevb import gradients
from aevb.algorithms.base import Algorithm, Loss, descent, standard_normal_log_prior
from aevb.arguments import check_counts, check_key
from aevb.model import Datapoint, Model, Params, check_arguments, check_model
from aevb.objectives import Estimator, check_estimator, elbo_terms_of, minibatch_elbo, tighter_bound

KLWeight: TypeAlias = float | Callable[[jax.Array], Any]
"""A number, or an optax schedule that maps the step to a number."""


def auto_encoding(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset_size: int,
    map_prior: bool = True,
    estimator: Estimator | None = None,
    kl_weight: KLWeight = 1.0,
    free_bits: float = 0.0,
) -> Algorithm:
    """Return AEVB, Algorithm 1: train both networks at once by the gradient of the bound. Arguments as for `make_loss`.

    The bounds reported during training are never weighted.
    """
    loss = make_loss(model, dataset_size, estimator, map_prior, kl_weight, free_bits)
    return descent(model, loss, optimizer, estimator)


def make_loss(
    model: Model,
    dataset_size: int,
    estimator: Estimator | None = None,
    map_prior: bool = False,
    kl_weight: KLWeight = 1.0,
    free_bits: float = 0.0,
) -> Loss:
    """Return the negative of the objective that AEVB maximizes, in nats per datapoint.

        -(L^M(theta, phi; X^M) + log p(theta)) / N

    Because it is per datapoint, the size of a step depends on neither N nor M, and the prior has the weight 1/N.

    Args:
      model: the four functions.
      dataset_size: N.
      estimator: the estimator of the bound and its gradient; by default the ELBO with one draw and the analytic KL.
      map_prior: whether to include log p(theta).
      kl_weight: the weight of KL(q(z|x) || p(z)) in the objective: above 1 as in the beta-VAE (Higgins et al. 2017), or
        an optax schedule that rises to 1 for KL warm-up (Sonderby et al. 2016). For the importance weighted bound and
        FIVO, it is the exponent of p(z) / q(z|x) in each weight.
      free_bits: the nats of each level's KL, averaged over the minibatch, that are free (Kingma et al. 2016).

    Returns:
      `(params, key, xs, step) -> []`; the optional `step` is the argument of a schedule.

    Raises:
      ValueError: `kl_weight` or `free_bits` is negative or not finite, or `free_bits` is used with the importance
        weighted bound or FIVO, which have no KL.
    """
    objective = make_objective(model, dataset_size, estimator, kl_weight, free_bits)

    def loss(params: Params, key: jax.Array, xs: Datapoint, step: Any = 0) -> jax.Array:
        value = objective(params, key, xs, step)
        if map_prior:
            value += standard_normal_log_prior(params)
        return -value / dataset_size

    return loss


def make_objective(
    model: Model,
    dataset_size: int,
    estimator: Estimator | None = None,
    kl_weight: KLWeight = 1.0,
    free_bits: float = 0.0,
) -> Callable[..., jax.Array]:
    """Return L^M, `(params, key, xs, step) -> []`, in nats per data set. Arguments as for `make_loss`."""
    check_model(model)
    check_counts(1, dataset_size=dataset_size)
    check_estimator(estimator)
    estimator = estimator or Estimator()
    _check_weights(estimator, kl_weight, free_bits)
    is_plain = kl_weight == 1.0 and free_bits == 0.0 and estimator.bound == "elbo"

    def objective(params: Params, key: jax.Array, xs: Datapoint, step: Any = 0) -> jax.Array:
        if is_plain:
            options = (estimator.num_samples, estimator.kl, estimator.gradient)
            return minibatch_elbo(params, key, xs, model, dataset_size, *options)
        weight = kl_weight(jnp.asarray(step)) if callable(kl_weight) else kl_weight
        return dataset_size * _mean_objective(params, key, xs, model, estimator, weight, free_bits)

    return objective


def _mean_objective(
    params: Params, key: jax.Array, xs: Datapoint, model: Model, estimator: Estimator, kl_weight: Any, free_bits: float
) -> jax.Array:
    """Return the mean over a minibatch of the bound with a weighted KL, `[]`, nats per datapoint."""

    def of_datapoint(key: jax.Array, x: Datapoint) -> Any:
        check_arguments(params, key, x, model)
        if estimator.bound != "elbo":
            weight = None if isinstance(kl_weight, float) and kl_weight == 1.0 else kl_weight
            return tighter_bound(params, key, x, model, estimator, weight)
        draws = gradients.draw(params, key, x, model, estimator.num_samples, estimator.gradient)
        return elbo_terms_of(draws, estimator)

    check_key(key)
    keys = jax.random.split(key, len(jax.tree.leaves(xs)[0]))
    means = jax.tree.map(lambda values: jnp.mean(values, axis=0), jax.vmap(of_datapoint)(keys, xs))
    if estimator.bound != "elbo":
        return means
    # Free bits apply to the mean over the minibatch, because datapoints may need different amounts.
    charged = [jnp.maximum(jnp.sum(kl), free_bits) for kl in means.kl_by_level.values()] if free_bits else [means.kl]
    return means.reconstruction - kl_weight * jax.tree.reduce(jnp.add, charged)


def _check_weights(estimator: Estimator, kl_weight: KLWeight, free_bits: float) -> None:
    for name, value in (("kl_weight", kl_weight), ("free_bits", free_bits)):
        if not callable(value) and not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be non-negative and finite, got {value}")
    if estimator.bound != "elbo" and free_bits:
        name = "the importance weighted bound" if estimator.bound == "iwae" else "FIVO"
        raise ValueError(f"free_bits need a KL, which {name} does not have: use kl_weight")
