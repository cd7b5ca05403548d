"""Monte Carlo EM with Hamiltonian Monte Carlo (Appendix E): no recognition model, one chain per datapoint.

At each visit of a minibatch:

    E-step    one HMC transition of z for each datapoint; z is kept between visits
    M-step    a few updates of theta by the gradient of log p(x, z) + log p(theta) / N at those z
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from aevb import hmc
from aevb.algorithms.base import Algorithm, TrainState, init_train_state, standard_normal_log_prior, update
from aevb.arguments import check_counts, check_key, check_optimizer
from aevb.model import Datapoint, Latents, Model, Params, bind, check_model, likelihood_of, prior_of

NUM_LEAPFROGS = 10
NUM_UPDATES = 5
TARGET_ACCEPTANCE = 0.9


class PosteriorDraws(NamedTuple):
    """The state that Monte Carlo EM carries from step to step.

    Attributes:
      z: leaves `[N, ...]`, the current position of the chain of each datapoint.
      step_size: `[]`, the size of a leapfrog step, shared by all chains.
      acceptance: `[]`, the mean acceptance probability over the last minibatch.
    """

    z: Latents
    step_size: jax.Array
    acceptance: jax.Array


def monte_carlo_em(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset_size: int,
    map_prior: bool = True,
    initial_step_size: float = 0.1,
) -> Algorithm:
    """Return Monte Carlo EM as in Appendix E: 10 leapfrog steps, 90 % acceptance, 5 updates of the weights per visit.

    A visit of a datapoint costs 11 gradients with respect to z and 5 with respect to theta. In AEVB it costs one
    gradient with respect to both networks.

    Args:
      model: the model. `prior` and `decode` are trained; `encode` is not used and its parameters do not change.
      optimizer: any optax transformation.
      dataset_size: N. One z is kept per datapoint.
      map_prior: whether to include log p(theta).
      initial_step_size: the size of a leapfrog step before adaptation.

    Returns:
      The algorithm. It has no bound to report: estimate log p(x) with `aevb.marginal_likelihood` instead. If the model
      takes a condition, `init` needs a datapoint, and all chains start at draws of the prior given its condition.

    Raises:
      TypeError: a level of z is discrete, or `init` needs a datapoint and has none.
    """
    check_model(model)
    check_optimizer(optimizer)
    check_counts(1, dataset_size=dataset_size)

    def init(key: jax.Array, x: Datapoint | None = None) -> TrainState:
        check_key(key)
        key, z_key = jax.random.split(key)
        state = init_train_state(key, model, optimizer)
        prior = prior_of(bind(model, x)[0], state.params)
        hmc.check_continuous(prior, "Monte Carlo EM")
        z = jax.tree.map(jnp.asarray, prior.sample(z_key, (dataset_size,)))
        return state._replace(carry=PosteriorDraws(z, jnp.float32(initial_step_size), jnp.float32(0)))

    def move(
        key: jax.Array, params: Params, draws: PosteriorDraws, xs: Datapoint, indices: jax.Array
    ) -> PosteriorDraws:
        def one(key: jax.Array, z: Latents, x: Datapoint) -> tuple[Latents, jax.Array]:
            position, unravel = ravel_pytree(z)
            target = lambda position: _log_joint(params, x, unravel(position), model)
            state, acceptance = hmc.transition(key, hmc.init(position, target), target, draws.step_size, NUM_LEAPFROGS)
            return unravel(state.position), acceptance

        before = jax.tree.map(lambda leaf: leaf[indices], draws.z)
        z, acceptances = jax.vmap(one)(jax.random.split(key, len(indices)), before, xs)
        acceptance = jnp.mean(acceptances).astype(jnp.float32)
        step_size = hmc.adapted(draws.step_size, acceptance, TARGET_ACCEPTANCE)
        moved = jax.tree.map(lambda all_of_them, these: all_of_them.at[indices].set(these), draws.z, z)
        return PosteriorDraws(moved, step_size, acceptance)

    def step(state: TrainState, xs: Datapoint, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        key, move_key = jax.random.split(state.key)
        draws = move(move_key, state.params, state.carry, xs, indices)
        z = jax.tree.map(lambda leaf: leaf[indices], draws.z)

        def loss(params: Params) -> jax.Array:
            value = -jnp.mean(jax.vmap(lambda x, z: _log_joint(params, x, z, model))(xs, z))
            return value - standard_normal_log_prior(params) / dataset_size if map_prior else value

        (state, losses) = jax.lax.scan(
            lambda state, _: update(optimizer, state, loss), state._replace(carry=draws), length=NUM_UPDATES
        )
        return state._replace(key=key, step=state.step + 1), losses[-1]

    return Algorithm(init, step, evaluated_params=None)


def _log_joint(params: Params, x: Datapoint, z: Latents, model: Model) -> jax.Array:
    """Return log p(x, z) in nats, `[]`, which is log p(z|x) up to a constant in z."""
    model, x = bind(model, x)
    return jnp.asarray(prior_of(model, params).log_prob(z)) + likelihood_of(model, params, z).log_prob(x)
