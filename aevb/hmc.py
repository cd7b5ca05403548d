"""Hamiltonian Monte Carlo over z as a vector, one chain of one datapoint; callers `vmap` it.

Monte Carlo EM (Appendix E) and the estimators of the marginal likelihood (Appendix D) draw from p(z|x) with it. Written
out rather than taken from BlackJAX, whose leapfrog computes the density at every step: only the last one's is used, and
of a Bernoulli decoder it costs more than the gradient does.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from aevb.distributions.levels import ONE_LEVEL, is_discrete

LogDensity: TypeAlias = Callable[[jax.Array], jax.Array]
"""`z [J] -> []`, nats, up to a constant."""


class HMCState(NamedTuple):
    """Where a chain is.

    Attributes:
      position: `[J]`.
      log_density: `[]`, there.
      gradient: `[J]`, of it.
    """

    position: jax.Array
    log_density: jax.Array
    gradient: jax.Array


def init(position: jax.Array, log_density: LogDensity) -> HMCState:
    """Return a chain at `position` `[J]`: also how a chain goes on when the density has changed under it."""
    return HMCState(position, *jax.value_and_grad(log_density)(position))


def transition(
    key: jax.Array, state: HMCState, log_density: LogDensity, step_size: jax.Array | float, num_leapfrogs: int = 10
) -> tuple[HMCState, jax.Array]:
    """Propose by `num_leapfrogs` leapfrog steps with unit masses, and accept or reject.

    Args:
      key: a typed key.
      state: where to start.
      log_density: of the target.
      step_size: of one leapfrog step.
      num_leapfrogs: the length of the trajectory in steps.

    Returns:
      The chain, and the acceptance probability of the proposal, `[]`.
    """
    momentum_key, accept_key = jax.random.split(key)
    momentum = jax.random.normal(momentum_key, state.position.shape, state.position.dtype)
    proposal, end_momentum = _trajectory(state, momentum, log_density, step_size, num_leapfrogs)
    # The energy is -log p(z) + |momentum|^2 / 2; where a trajectory overflowed it is not a number, and rejected.
    before, after = _energy(state, momentum), _energy(proposal, end_momentum)
    acceptance = jnp.nan_to_num(jnp.minimum(jnp.exp(before - after), 1))
    is_accepted = jax.random.bernoulli(accept_key, acceptance)
    return jax.tree.map(lambda new, old: jnp.where(is_accepted, new, old), proposal, state), acceptance


def adapted(step_size: jax.Array, acceptance: jax.Array, target: float, rate: jax.Array | float = 0.1) -> jax.Array:
    """Return the step size after a Robbins-Monro step towards a `target` acceptance probability."""
    return step_size * jnp.exp(rate * (acceptance - target))


def check_continuous(distribution: Distribution, method: str) -> None:
    """Raise `TypeError` if a level of z is discrete: there is no trajectory through it."""
    discrete = [level for level, found in is_discrete(distribution).items() if found]
    if discrete:
        which = "z is" if discrete == [ONE_LEVEL] else f"level {', '.join(map(repr, discrete))} is"
        raise TypeError(f"{method} moves z along the gradient of its density, but {which} discrete")


def _trajectory(
    state: HMCState, momentum: jax.Array, log_density: LogDensity, step_size: jax.Array | float, num_leapfrogs: int
) -> tuple[HMCState, jax.Array]:
    """Integrate by leapfrogs; the density itself is computed at the last one only."""

    def leapfrog(gradient_at: Callable, position: jax.Array, momentum: jax.Array, gradient: jax.Array) -> tuple:
        momentum = momentum + 0.5 * step_size * gradient
        position = position + step_size * momentum
        value, gradient = gradient_at(position)
        return position, momentum + 0.5 * step_size * gradient, gradient, value

    def before_last(_: jax.Array, carry: tuple) -> tuple:
        return leapfrog(lambda z: (None, jax.grad(log_density)(z)), *carry)[:3]

    start = (state.position, momentum, state.gradient)
    carry = jax.lax.fori_loop(0, num_leapfrogs - 1, before_last, start)
    position, momentum, gradient, value = leapfrog(jax.value_and_grad(log_density), *carry)
    return HMCState(position, value, gradient), momentum


def _energy(state: HMCState, momentum: jax.Array) -> jax.Array:
    return -state.log_density + 0.5 * jnp.dot(momentum, momentum)
