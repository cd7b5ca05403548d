"""Distributions that numpyro does not have: latents in levels, latents along time, data of which a part is missing.

Each is a `numpyro.distributions.Distribution` and a pytree with static structure, so it passes through `jax.jit`,
`jax.vmap` and `jax.grad` as an argument, inside, and as a result.
"""

import aevb.distributions.classes  # noqa: F401  registers a divergence
from aevb.distributions.chain import Chain
from aevb.distributions.markov import Markov
from aevb.distributions.observed import Observed, still_to_come, zeros_and_mask

__all__ = ["Chain", "Markov", "Observed", "still_to_come", "zeros_and_mask"]
