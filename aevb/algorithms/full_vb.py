"""Full variational Bayes: a posterior over theta as well as z, with the same estimator (section 2.1, Appendix F).

    L(phi; X) = E_{q(theta)}[ sum_i L(theta, phi; x_i) ] - KL(q(theta) || p(theta))  <=  log p(X)

q(theta) is Gaussian, with a mean and a variance for each parameter, and p(theta) = N(0, I). `params["decoder"]` becomes
`{"mean": ..., "log_scale": ...}`, both with the shapes of the model's own decoder parameters. The other parameters
remain point estimates.
"""

import jax
import jax.numpy as jnp
import optax

from aevb.algorithms.auto_encoding import make_objective
from aevb.algorithms.base import Algorithm, TrainState, descent
from aevb.arguments import check_key
from aevb.model import Datapoint, Model, Params
from aevb.objectives import Estimator

INITIAL_SCALE = 0.01


def full_vb(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset_size: int,
    map_prior: bool = True,
    estimator: Estimator | None = None,
) -> Algorithm:
    """Return stochastic gradient ascent on the bound on log p(X), for any model whose `params["decoder"]` is theta.

    One theta is drawn per minibatch; KL(q(theta) || p(theta)) is exact (Appendix F.1). The bound reported during
    training is that of the latents, at a theta drawn anew from q(theta) for each evaluation.

    Args:
      model: the four functions; the initial theta is the initial mean.
      optimizer: any optax transformation.
      dataset_size: N.
      map_prior: must be true, because p(theta) is part of the method.
      estimator: the estimator of the bound of the latents, as for `make_loss`.

    Returns:
      The algorithm, for `aevb.fit` or `aevb.make_train_epochs`.

    Raises:
      ValueError: `map_prior` is false.
    """
    if not map_prior:
        raise ValueError("full variational Bayes has a prior over theta: map_prior must be true")
    bound_of_latents = make_objective(model, dataset_size, estimator)

    def loss(params: Params, key: jax.Array, xs: Datapoint) -> jax.Array:
        theta_key, bound_key = jax.random.split(key)
        bound = bound_of_latents(draw(params, theta_key), bound_key, xs)
        return -(bound - kl_from_prior(params)) / dataset_size

    def init(key: jax.Array, x: Datapoint | None = None) -> TrainState:
        del x
        check_key(key)
        init_key, train_key = jax.random.split(key)
        params = spread(model.init(init_key))
        return TrainState(params, optimizer.init(params), train_key, jnp.zeros((), jnp.int32))

    return descent(model, loss, optimizer, estimator)._replace(init=init, evaluated_params=draw)


def spread(params: Params) -> Params:
    """Return a model's parameters with `params["decoder"]` replaced by a narrow q(theta) around it."""
    mean = params["decoder"]
    log_scale = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.log(INITIAL_SCALE)), mean)
    return {**params, "decoder": {"mean": mean, "log_scale": log_scale}}


def draw(params: Params, key: jax.Array) -> Params:
    """Return a model's parameters with theta = mean + scale * noise drawn from q(theta) (section 2.4)."""
    mean, log_scale = params["decoder"]["mean"], params["decoder"]["log_scale"]
    noise = optax.tree.random_like(key, mean, jax.random.normal)
    theta = jax.tree.map(lambda m, s, n: m + jnp.exp(s) * n, mean, log_scale, noise)
    return {**params, "decoder": theta}


def posterior_mean(params: Params) -> Params:
    """Return a model's parameters with theta at the mean of q(theta)."""
    return {**params, "decoder": params["decoder"]["mean"]}


def kl_from_prior(params: Params) -> jax.Array:
    """Return KL(q(theta) || N(0, I)) in nats, `[]` (Appendix F.1, as in Appendix B)."""

    def divergence(mean: jax.Array, log_scale: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale)

    terms = jax.tree.map(divergence, params["decoder"]["mean"], params["decoder"]["log_scale"])
    return jax.tree.reduce(jnp.add, terms)
