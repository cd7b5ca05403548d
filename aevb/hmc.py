"""Hamiltonian Monte Carlo over z, one chain of one datapoint; callers `vmap` it. The only file that knows BlackJAX.

Monte Carlo EM (Appendix E) and the estimators of the marginal likelihood (Appendix D) draw from p(z|x) with it.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc

Chain: TypeAlias = hmc.HMCState
"""Where a chain is: `position` `[J]`, `logdensity` `[]` and `logdensity_grad` `[J]` there."""

LogDensity: TypeAlias = Callable[[jax.Array], jax.Array]
"""`z [J] -> []`, nats, up to a constant."""

_kernel = hmc.build_kernel()


def init(position: jax.Array, log_density: LogDensity) -> Chain:
    """A chain at `position` `[J]`: also how a chain goes on when the density has changed under it."""
    return hmc.init(position, log_density)


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
    chain, info = _kernel(key, chain, log_density, step_size, unit_masses, num_leapfrogs)
    # A trajectory that overflowed was rejected, but its probability is not a number.
    return chain, jnp.nan_to_num(info.acceptance_rate)


def adapted(step_size: jax.Array, acceptance: jax.Array, target: float, rate: jax.Array | float = 0.1) -> jax.Array:
    """The step size after a Robbins-Monro step towards a `target` acceptance probability."""
    return step_size * jnp.exp(rate * (acceptance - target))
