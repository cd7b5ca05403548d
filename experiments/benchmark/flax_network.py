"""The network of the contenders written with Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Network(nn.Module):
    """One tanh layer and a linear head; its parameters are those of `workload.flax_parameters`.

    Attributes:
      hidden_dim: number of units of the layer.
      output_dim: number of outputs of the head.
    """

    hidden_dim: int
    output_dim: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map `[..., inputs]` to `[..., output_dim]`."""
        hidden = jnp.tanh(nn.Dense(self.hidden_dim)(inputs))
        return nn.Dense(self.output_dim)(hidden)
