"""The one likelihood that numpyro does not have: Bernoulli with grey targets."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike


class GreyBernoulli(dist.BernoulliLogits):
    """Bernoulli likelihood, eq. of Appendix C.1, for targets anywhere in [0, 1].

    The paper feeds pixel intensities to the Bernoulli log-density as they are. At targets strictly between 0 and 1
    that is a cross-entropy rather than the log of a probability mass, which is why every result says how its data
    were binarized. At targets 0 and 1 this is `numpyro.distributions.BernoulliLogits` exactly.
    """

    support = dist.constraints.unit_interval

    def log_prob(self, value: ArrayLike, intermediates: list | None = None) -> jax.Array:
        """The density x log p + (1 - x) log(1 - p) in the softplus form, finite wherever the logits are."""
        logits = jnp.asarray(self.logits)
        return jnp.asarray(value) * logits - jax.nn.softplus(logits)
