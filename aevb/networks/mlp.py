"""The multilayer perceptron of Appendix C."""

import functools
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

WeightInit: TypeAlias = Literal["normal_0.01", "normal_0.1", "glorot", "glorot_uniform"]


def initializers(weight_init: WeightInit) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """Return the initializers of kernels and of biases."""
    if weight_init == "glorot":
        return nn.initializers.glorot_normal(), nn.initializers.zeros_init()
    if weight_init == "glorot_uniform":
        return nn.initializers.glorot_uniform(), nn.initializers.zeros_init()
    # The paper draws "all parameters" in this way, which includes biases.
    normal = nn.initializers.normal(float(weight_init.removeprefix("normal_")))
    return normal, normal


class MLP(nn.Module):
    """A perceptron with hidden tanh layers and a linear head.

    Attributes:
      hidden_dims: the width of each hidden layer.
      output_dim: the width of the head.
      weight_init: see `mlp_vae`.
      compute_dtype: the dtype of the matrix products; `None` follows the inputs and parameters.
      param_dtype: the dtype of the parameters.
    """

    hidden_dims: tuple[int, ...]
    output_dim: int
    weight_init: WeightInit
    compute_dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Return `[..., output_dim]` in `param_dtype` or wider, whatever the dtype of the products."""
        kernel_init, bias_init = initializers(self.weight_init)
        dense = functools.partial(
            nn.Dense,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=self.compute_dtype,
            param_dtype=self.param_dtype,
        )
        hidden = inputs
        for width in self.hidden_dims:
            hidden = jnp.tanh(dense(width)(hidden))
        outputs = dense(self.output_dim)(hidden)
        # Distributions need more precision than products: bfloat16 log-densities lose whole nats.
        return outputs.astype(jnp.promote_types(outputs.dtype, self.param_dtype))
