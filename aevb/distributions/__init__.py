"""Distributions that numpyro lacks: for latents in levels, latents along time, and partly missing data.

Each is a `numpyro.distributions.Distribution` and a pytree with static structure. It can therefore be created inside
`jax.jit`, `jax.vmap` and `jax.grad`, and passed to and returned from them.
"""

import aevb.distributions.classes  # noqa: F401  registers a divergence
from aevb.distributions.chain import Chain
from aevb.distributions.markov import Markov
from aevb.distributions.observed import Observed, still_to_come, zeros_and_mask

__all__ = ["Chain", "Markov", "Observed", "still_to_come", "zeros_and_mask"]
