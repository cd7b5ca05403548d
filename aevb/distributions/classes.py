"""The KL divergence between two categorical distributions with logits, which numpyro does not register."""

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import CategoricalLogits
from numpyro.distributions.kl import kl_divergence

_register: Any = kl_divergence  # a dispatcher, although its type does not show it


@_register.register(CategoricalLogits, CategoricalLogits)
def _kl_of_classes(p: CategoricalLogits, q: CategoricalLogits) -> jax.Array:
    """Return KL(p || q) in nats. A class of probability 0 in p contributes 0 for any q."""
    log_p, log_q = jax.nn.log_softmax(p.logits), jax.nn.log_softmax(q.logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
