"""Networks along time: a recurrent reader of sequences, a state transition, and a combiner of the two.

They are the parts of a deep Markov model (Krishnan et al. 2017, Structured Inference Networks for Nonlinear State Space
Models). Each takes one step or all steps of a sequence at once; the recurrent network takes sequences.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LEAST_SCALE = 1e-3
"""The smallest standard deviation of a step, which prevents a division by zero for a very certain network."""


class GatedRecurrentUnit(nn.Module):
    """A layer of gated recurrent units (Cho et al. 2014) over a sequence, forwards or backwards.

        r = sigmoid(W_r x + U_r h + b_r),   u = sigmoid(W_u x + U_u h + b_u)
        h' = (1 - u) tanh(W_n x + b_n + r (U_n h + c_n)) + u h

    The products W x of all steps are computed as one product, outside the recurrence.

    Attributes:
      hidden_dim: H, the number of units.
      is_reversed: whether the layer reads the sequence from its end.
      param_dtype: the dtype of the parameters.
    """

    hidden_dim: int
    is_reversed: bool = False
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, is_read: jax.Array) -> jax.Array:
        """Return the state after each step, `[T, H]`.

        Args:
          inputs: `[T, D]`.
          is_read: `[T]`, whether each step is read. Other steps leave the state unchanged.
        """
        size = self.hidden_dim
        products = nn.Dense(3 * size, param_dtype=self.param_dtype, name="inputs")(inputs)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, 3 * size), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (size,), self.param_dtype)
        start = self.param("start", nn.initializers.zeros_init(), (size,), self.param_dtype)

        def step(h: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            product, is_read = at
            recurrent = h @ kernel
            gates = jax.nn.sigmoid(product[: 2 * size] + recurrent[: 2 * size])
            reset, kept = gates[:size], gates[size:]
            new = jnp.tanh(product[2 * size :] + reset * (recurrent[2 * size :] + bias))
            h = jnp.where(is_read, new + kept * (h - new), h)
            return h, h

        start = start.astype(products.dtype)
        return jax.lax.scan(step, start, (products, is_read), reverse=self.is_reversed)[1]


class GatedTransition(nn.Module):
    """The mean and scale of p(z_t | z_{t-1}), where a gate interpolates between a linear map and a network.

        g = sigmoid(W2 relu(W1 z)),   h = W4 relu(W3 z)
        mean = (1 - g) (W5 z) + g h,   scale = softplus(W6 relu(h))

    Biases are omitted above. W5 is initialized to the identity and W6 to 0, so that before training a state stays near
    its previous value, with the same noise scale everywhere.

    Attributes:
      latent_dim: J.
      hidden_dim: the number of units of the hidden layers of g and h.
      param_dtype: the dtype of the parameters.
    """

    latent_dim: int
    hidden_dim: int
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the scale of the next step, `[..., J]` each, from `z` `[..., J]`."""
        dense = functools.partial(nn.Dense, param_dtype=self.param_dtype)
        identity = lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)
        hidden = jax.nn.relu(dense(2 * self.hidden_dim, name="hidden")(z))
        gate = jax.nn.sigmoid(dense(self.latent_dim, name="gate")(hidden[..., : self.hidden_dim]))
        proposed = dense(self.latent_dim, name="proposed")(hidden[..., self.hidden_dim :])
        linear = dense(self.latent_dim, kernel_init=identity, name="linear")(z)
        scale = dense(self.latent_dim, kernel_init=nn.initializers.zeros_init(), name="scale")(jax.nn.relu(proposed))
        return linear + gate * (proposed - linear), positive(scale)


class Emission(nn.Module):
    """A network with two hidden relu layers and a linear head that returns the outputs of a likelihood for every step.

    Attributes:
      hidden_dim: the number of units of the hidden layers.
      shape: the shape `[D, num_outputs]` of one step.
      param_dtype: the dtype of the parameters.
    """

    hidden_dim: int
    shape: tuple[int, int]
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Return `[num_outputs, ..., D]` from `z` `[..., J]`."""
        hidden, (data_dim, num_outputs) = z, self.shape
        for _ in range(2):
            hidden = jax.nn.relu(nn.Dense(self.hidden_dim, param_dtype=self.param_dtype)(hidden))
        outputs = nn.Dense(data_dim * num_outputs, param_dtype=self.param_dtype)(hidden)
        return jnp.moveaxis(outputs.reshape(*outputs.shape[:-1], num_outputs, data_dim), -2, 0)


class Combiner(nn.Module):
    """The combiner function: the mean and scale of q(z_t | z_{t-1}, x) from the states of recurrent networks.

        h = (tanh(W z_{t-1} + b) + the sum of the networks' states) / (their number + 1)

    Without z_{t-1}, for a mean field, h is the mean of the networks' states.

    Attributes:
      latent_dim: J.
      param_dtype: the dtype of the parameters.
    """

    latent_dim: int
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, states: Sequence[jax.Array], z: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Return the mean and the scale, `[..., J]`, from states `[..., H]` and optionally z_{t-1} `[..., J]`."""
        dense = functools.partial(nn.Dense, param_dtype=self.param_dtype)
        parts = list(states)
        if z is not None:
            parts.append(jnp.tanh(dense(parts[0].shape[-1], name="previous")(z)))
        outputs = dense(2 * self.latent_dim, name="outputs")(functools.reduce(jnp.add, parts) / len(parts))
        mean, scale = jnp.split(outputs, 2, axis=-1)
        return mean, positive(scale)


def positive(values: jax.Array) -> jax.Array:
    """Map real numbers to positive scales."""
    return jax.nn.softplus(values) + LEAST_SCALE
