"""Monte Carlo EM with Hamiltonian Monte Carlo (Appendix E): no recognition model, one chain for each datapoint.

At each visit of a minibatch:

    E-step    one HMC transition of each datapoint's z, which stays where it is between visits
    M-step    a few updates of theta by the gradient of log p(x, z) + log p(theta) / N at those z
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from aevb import hmc
from aevb.model import Model, Params
from aevb.training import Algorithm, TrainState, init_train_state, standard_normal_log_prior, update

NUM_LEAPFROGS = 10
NUM_UPDATES = 5
TARGET_ACCEPTANCE = 0.9


class Chains(NamedTuple):
    """The carry of Monte Carlo EM.

    Attributes:
      z: `[N, J]`, where the chain of each datapoint is.
      step_size: `[]`, of one leapfrog step, shared.
      acceptance: `[]`, the mean acceptance probability over the last minibatch.
    """

    z: jax.Array
    step_size: jax.Array
    acceptance: jax.Array


def monte_carlo_em(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset_size: int,
    map_prior: bool = True,
    initial_step_size: float = 0.1,
) -> Algorithm:
    """Monte Carlo EM as in Appendix E: 10 leapfrog steps, 90 % acceptance, 5 updates of the weights a visit.

    A visit of a datapoint costs 11 gradients with respect to z and 5 with respect to theta, where AEVB's costs one with
    respect to both networks.

    Args:
      model: `prior` and `decode` are trained; `encode` is not used and its parameters stay as they begin.
      optimizer: any optax transformation.
      dataset_size: N, for each of whose datapoints a z is kept.
      map_prior: whether to include log p(theta).
      initial_step_size: of one leapfrog step, before it is adapted.

    Returns:
      The algorithm. It has no bound to report: estimate log p(x) with `aevb.marginal_likelihood` instead.
    """
    log_joint = functools.partial(_log_joint, model=model)

    def init(key: jax.Array) -> TrainState:
        key, z_key = jax.random.split(key)
        state = init_train_state(key, model, optimizer)
        z = model.prior(state.params).sample(z_key, (dataset_size,))
        return state._replace(carry=Chains(jnp.asarray(z), jnp.float32(initial_step_size), jnp.float32(0)))

    def move(key: jax.Array, params: Params, chains: Chains, xs: jax.Array, indices: jax.Array) -> Chains:
        def one(key: jax.Array, z: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            target = functools.partial(log_joint, params, x)
            chain, acceptance = hmc.transition(key, hmc.init(z, target), target, chains.step_size, NUM_LEAPFROGS)
            return chain.position, acceptance

        z, acceptances = jax.vmap(one)(jax.random.split(key, len(indices)), chains.z[indices], xs)
        acceptance = jnp.mean(acceptances).astype(jnp.float32)
        step_size = hmc.adapted(chains.step_size, acceptance, TARGET_ACCEPTANCE)
        return Chains(chains.z.at[indices].set(z), step_size, acceptance)

    def step(state: TrainState, xs: jax.Array, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        key, move_key = jax.random.split(state.key)
        chains = move(move_key, state.params, state.carry, xs, indices)
        z = chains.z[indices]

        def loss(params: Params) -> jax.Array:
            value = -jnp.mean(jax.vmap(functools.partial(log_joint, params))(xs, z))
            return value - standard_normal_log_prior(params) / dataset_size if map_prior else value

        (state, losses) = jax.lax.scan(
            lambda state, _: update(optimizer, state, loss), state._replace(carry=chains), length=NUM_UPDATES
        )
        return state._replace(key=key, step=state.step + 1), losses[-1]

    return Algorithm(init, step, evaluated_params=None)


def _log_joint(params: Params, x: jax.Array, z: jax.Array, model: Model) -> jax.Array:
    """Log p(x, z) in nats, `[]`: up to a constant in z, the log density of p(z|x)."""
    return jnp.asarray(model.prior(params).log_prob(z)) + model.decode(params, z).log_prob(x)
