"""A multilayer perceptron of several inputs that are kept apart in its first layer."""

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from aevb.networks.mlp import WeightInit, initializers

Activation: TypeAlias = Literal["tanh", "relu", "softplus"]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
}


class JoinedMLP(nn.Module):
    """Hidden layers, of which the first sums one product per input, and a linear head.

    It is the perceptron of the inputs end to end. Kept apart, the product of an image is computed once where `jax.vmap`
    goes through the classes of a label beside it.

    Attributes:
      hidden_dims: the width of each hidden layer.
      output_dim: the width of the head.
      weight_init: see `mlp_vae`.
      activation: of the hidden layers.
      param_dtype: dtype of the parameters.
    """

    hidden_dims: tuple[int, ...]
    output_dim: int
    weight_init: WeightInit
    activation: Activation = "tanh"
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Return `[output_dim]` from vectors."""
        kernel_init, bias_init = initializers(self.weight_init)
        dense = functools.partial(nn.Dense, kernel_init=kernel_init, bias_init=bias_init, param_dtype=self.param_dtype)
        activation = ACTIVATIONS[self.activation]
        first, *others = inputs
        hidden = dense(self.hidden_dims[0])(first)
        for other in others:
            hidden += dense(self.hidden_dims[0], use_bias=False)(other)
        for width in self.hidden_dims[1:]:
            hidden = dense(width)(activation(hidden))
        return dense(self.output_dim)(activation(hidden))
