"""Hamiltonian Monte Carlo over z, one chain of one datapoint; callers `vmap` it. The only file that knows BlackJAX.

Monte Carlo EM (Appendix E) and the estimators of the marginal likelihood (Appendix D) draw from p(z|x) with it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc
from blackjax.mcmc.integrators import IntegratorState

LogDensity: TypeAlias = Callable[[jax.Array], jax.Array]
"""`z [J] -> []`, nats, up to a constant."""


class Chain(NamedTuple):
    """Where a chain is: BlackJAX's `HMCState`, with its types.

    Attributes:
      position: `[J]`.
      logdensity: `[]`.
      logdensity_grad: `[J]`.
    """

    position: jax.Array
    logdensity: jax.Array
    logdensity_grad: jax.Array


def init(position: jax.Array, log_density: LogDensity) -> Chain:
    """A chain at `position` `[J]`: also how a chain goes on when the density has changed under it."""
    state: Any = hmc.init(position, log_density)
    return Chain(*state)


def transition(
    key: jax.Array, chain: Chain, log_density: LogDensity, step_size: jax.Array | float, num_leapfrogs: int = 10
) -> tuple[Chain, jax.Array]:
    """One proposal by `num_leapfrogs` leapfrog steps with unit masses, accepted or rejected.

    Args:
      key: a typed key.
      chain: where to start.
      log_density: of the target.
      step_size: of one leapfrog step.
      num_leapfrogs: the length of the trajectory in steps.

    Returns:
      The chain, and the acceptance probability of the proposal, `[]`.
    """
    unit_masses = jnp.ones_like(chain.position)
    kernel: Any = hmc.build_kernel(functools.partial(_trajectory, num_leapfrogs))
    state, info = kernel(key, chain, log_density, step_size, unit_masses, num_integration_steps=1)
    # A trajectory that overflowed was rejected, but its probability is not a number.
    return Chain(*state), jnp.nan_to_num(info.acceptance_rate)


def adapted(step_size: jax.Array, acceptance: jax.Array, target: float, rate: jax.Array | float = 0.1) -> jax.Array:
    """The step size after a Robbins-Monro step towards a `target` acceptance probability."""
    return step_size * jnp.exp(rate * (acceptance - target))


def _trajectory(num_leapfrogs: int, log_density: LogDensity, kinetic_energy: Callable) -> Any:
    """A BlackJAX integrator whose one step is a whole trajectory of leapfrogs with unit masses.

    BlackJAX's own computes the density after every leapfrog; only the last one's is used, and for a Bernoulli decoder
    it costs more than the gradient does.
    """
    del kinetic_energy  # of unit masses

    def leapfrog(gradient_at: Callable, step_size: jax.Array, position: Any, momentum: Any, gradient: Any):
        momentum = momentum + 0.5 * step_size * gradient
        position = position + step_size * momentum
        value, gradient = gradient_at(position)
        return position, momentum + 0.5 * step_size * gradient, value, gradient

    def step(state: Any, step_size: jax.Array) -> IntegratorState:
        without_value = lambda z: (None, jax.grad(log_density)(z))

        def body(step: jax.Array, carry: tuple) -> tuple:
            del step
            position, momentum, _, gradient = leapfrog(without_value, step_size, *carry)
            return position, momentum, gradient

        start = (state.position, state.momentum, state.logdensity_grad)
        before_last = jax.lax.fori_loop(0, num_leapfrogs - 1, body, start)
        return IntegratorState(*leapfrog(jax.value_and_grad(log_density), step_size, *before_last))

    return step
