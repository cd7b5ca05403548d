"""Hamiltonian Monte Carlo over z as a vector: one chain of one datapoint. Callers `vmap` it.

Monte Carlo EM (Appendix E) and the estimators of the marginal likelihood (Appendix D) use it to draw from p(z|x). It is
written here rather than taken from BlackJAX, whose leapfrog computes the density at every step. Only the density at the
last step is used, and for a Bernoulli decoder the density costs more than its gradient.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from aevb.distributions.levels import ONE_LEVEL, is_discrete

LogDensity: TypeAlias = Callable[[jax.Array], jax.Array]
"""A function `z [J] -> []`: the log density in nats, up to a constant."""


class HMCState(NamedTuple):
    """The state of a chain.

    Attributes:
      position: `[J]`, z.
      log_density: `[]`, the log density at `position`.
      gradient: `[J]`, the gradient of the log density.
    """

    position: jax.Array
    log_density: jax.Array
    gradient: jax.Array


def init(position: jax.Array, log_density: LogDensity) -> HMCState:
    """Return the state of a chain at `position` `[J]`. Call it again to continue a chain after the density changed."""
    return HMCState(position, *jax.value_and_grad(log_density)(position))


def transition(
    key: jax.Array, state: HMCState, log_density: LogDensity, step_size: jax.Array | float, num_leapfrogs: int = 10
) -> tuple[HMCState, jax.Array]:
    """Propose a move by `num_leapfrogs` leapfrog steps with unit masses, and accept or reject it.

    Args:
      key: a typed key.
      state: the current state of the chain.
      log_density: the log density of the target.
      step_size: the size of one leapfrog step.
      num_leapfrogs: the number of leapfrog steps.

    Returns:
      The new state, and the acceptance probability of the proposal, `[]`.
    """
    momentum_key, accept_key = jax.random.split(key)
    momentum = jax.random.normal(momentum_key, state.position.shape, state.position.dtype)
    proposal, end_momentum = _trajectory(state, momentum, log_density, step_size, num_leapfrogs)
    # The energy is -log p(z) + |momentum|^2 / 2. A trajectory that overflows has an energy of NaN and is rejected.
    before, after = _energy(state, momentum), _energy(proposal, end_momentum)
    acceptance = jnp.nan_to_num(jnp.minimum(jnp.exp(before - after), 1))
    is_accepted = jax.random.bernoulli(accept_key, acceptance)
    return jax.tree.map(lambda new, old: jnp.where(is_accepted, new, old), proposal, state), acceptance


def adapted(step_size: jax.Array, acceptance: jax.Array, target: float, rate: jax.Array | float = 0.1) -> jax.Array:
    """Return the step size after a Robbins-Monro step towards a `target` acceptance probability."""
    return step_size * jnp.exp(rate * (acceptance - target))


def check_continuous(distribution: Distribution, method: str) -> None:
    """Raise `TypeError` if a level of z is discrete, because a discrete level has no trajectories."""
    discrete = [level for level, found in is_discrete(distribution).items() if found]
    if discrete:
        which = "z is" if discrete == [ONE_LEVEL] else f"level {', '.join(map(repr, discrete))} is"
        raise TypeError(f"{method} moves z along the gradient of its density, but {which} discrete")


def _trajectory(
    state: HMCState, momentum: jax.Array, log_density: LogDensity, step_size: jax.Array | float, num_leapfrogs: int
) -> tuple[HMCState, jax.Array]:
    """Integrate by leapfrog steps. The density itself is computed at the last step only."""

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
