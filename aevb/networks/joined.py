"""A multilayer perceptron with several inputs that are kept apart in its first layer."""

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
    """A perceptron whose first hidden layer sums one product per input.

    It equals a perceptron of the concatenated inputs. Because the inputs are kept apart, the product with an image is
    computed only once if `jax.vmap` maps over the classes of a label.

    Attributes:
      hidden_dims: the width of each hidden layer.
      output_dim: the width of the head.
      weight_init: see `mlp_vae`.
      activation: the activation of the hidden layers.
      param_dtype: the dtype of the parameters.
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
