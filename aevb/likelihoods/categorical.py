"""The categorical likelihood over 0..255, with arbitrary probabilities and no notion of neighbouring intensities."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from aevb.distributions.intensities import LARGEST, NUM_INTENSITIES, OverIntensities
from aevb.likelihoods.likelihood import Likelihood


class GreyCategorical(OverIntensities):
    """A categorical distribution over the 256 intensities k / 255, defined by logits."""

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012
    pytree_data_fields = ("logits",)

    def __init__(self, logits: ArrayLike, *, validate_args: bool | None = None):
        """Define the distribution.

        Args:
          logits: `[..., 256]`, log-probabilities up to a constant.
          validate_args: see `numpyro.distributions.Distribution`.

        Raises:
          ValueError: the last axis of `logits` does not have size 256.
        """
        self.logits = jnp.asarray(logits)
        if self.logits.shape[-1:] != (NUM_INTENSITIES,):
            raise ValueError(f"logits must have a last axis of size 256, got shape {self.logits.shape}")
        super().__init__(batch_shape=self.logits.shape[:-1], validate_args=validate_args)

    def log_mass(self, k: jax.Array) -> jax.Array:
        # The gradient of a masked sum is a product; that of an index would be a scatter, which is slow on a CPU.
        is_k = k[..., None] == jnp.arange(NUM_INTENSITIES)
        return jnp.sum(jnp.where(is_k, jax.nn.log_softmax(self.logits), 0), axis=-1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw `[*sample_shape, *batch_shape]` by inverting the cumulative masses, with one uniform draw per value."""
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)[..., :-1]
        shape = (*sample_shape, *self.batch_shape, 1)
        uniform = jax.random.uniform(key, shape, self._dtype, minval=jnp.finfo(self._dtype).tiny)
        return jnp.sum(uniform > cumulative, axis=-1).astype(self._dtype) / LARGEST

    def _log_masses(self) -> jax.Array:
        return jnp.moveaxis(jax.nn.log_softmax(self.logits), -1, 0)


def _from_outputs(logits: jax.Array) -> GreyCategorical:
    return GreyCategorical(jnp.moveaxis(logits, 0, -1))


CATEGORICAL = Likelihood(256, _from_outputs, NUM_INTENSITIES, is_stacked=True)
"""A categorical likelihood whose outputs are the logits of the 256 intensities.

Outputs of 0 give the uniform distribution, 8 bits per value. The decoder's last layer is 128 times as large as for the
other likelihoods over 0..255.
"""
