"""A discretized logistic likelihood with separate masses at 0 and at 255, for black and white."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from aevb.distributions.intensities import LARGEST, NUM_INTENSITIES, OverIntensities, level_below
from aevb.likelihoods.discretized_logistic import WIDEST, log_interval_mass, log_interval_width
from aevb.likelihoods.likelihood import Likelihood


class SpikedLogistic(OverIntensities):
    """A mixture of black, white, and a discretized logistic over the 254 intensities in between.

        P(0), P(255), P(1..254) = softmax(black, white, 0)
        P(k | 1..254) = sigmoid((k + 1/2 - 255 loc) / (255 scale)) - sigmoid((k - 1/2 - 255 loc) / (255 scale))

    where the tails below 1 and above 254 are collected at 1 and at 254. Most pixels of drawings and digits are black or
    white, which carries no information about the greys of their edges.
    """

    arg_constraints = dict.fromkeys(("loc", "log_scale", "black", "white"), constraints.real)
    pytree_data_fields = ("loc", "log_scale", "black", "white")

    def __init__(
        self,
        loc: ArrayLike,
        log_scale: ArrayLike,
        black: ArrayLike,
        white: ArrayLike,
        *,
        validate_args: bool | None = None,
    ):
        """Define the distribution.

        Args:
          loc: the location of the logistic, any real number, in units of intensities in [0, 1].
          log_scale: the logarithm of its scale in the same units. The smallest scale used is exp(-30) / 255.
          black: the log of P(0) / P(1..254).
          white: the log of P(255) / P(1..254).
          validate_args: see `numpyro.distributions.Distribution`.
        """
        self.loc, self.log_scale, self.black, self.white = jnp.broadcast_arrays(loc, log_scale, black, white)
        super().__init__(batch_shape=jnp.shape(self.loc), validate_args=validate_args)

    def log_mass(self, k: jax.Array) -> jax.Array:
        black, white, inner = self._log_parts()
        grey = inner + log_interval_mass(k, self.loc, self.log_scale, 1, LARGEST - 1)
        return jnp.where(k < 1, black, jnp.where(k >= LARGEST, white, grey))

    def cdf(self, value: ArrayLike) -> jax.Array:
        """Return P(x <= value) for any real numbers."""
        k = level_below(value)
        black, _, inner = map(jnp.exp, self._log_parts())
        edge = jnp.clip(k, 1, LARGEST) + 0.5
        logistic = jax.nn.sigmoid((edge - LARGEST * self.loc) * jnp.exp(log_interval_width(self.log_scale)))
        grey = black + inner * jnp.where(k >= LARGEST - 1, 1.0, jnp.where(k < 1, 0.0, logistic))
        return jnp.where(k < 0, 0.0, jnp.where(k >= LARGEST, 1.0, grey))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw `[*sample_shape, *batch_shape]`: black, white, or a rounded logistic draw."""
        part_key, noise_key = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        noise = jax.random.logistic(noise_key, shape, self._dtype)
        continuous = self.loc + jnp.exp(jnp.minimum(self.log_scale, WIDEST)) * noise
        grey = jnp.clip(jnp.round(LARGEST * jnp.clip(continuous, 0, 1)), 1, LARGEST - 1)
        black, white, _ = map(jnp.exp, self._log_parts())
        uniform = jax.random.uniform(part_key, shape, self._dtype)
        return jnp.where(uniform < black, 0, jnp.where(uniform >= 1 - white, LARGEST, grey)) / LARGEST

    def _log_parts(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the logs of P(0), P(255) and P(1..254)."""
        total = jnp.logaddexp(jnp.logaddexp(self.black, self.white), 0.0)
        return self.black - total, self.white - total, -total


def _from_outputs(location: Any, log_scale: Any, black: Any, white: Any) -> SpikedLogistic:
    return SpikedLogistic(0.5 + location, log_scale - 1.5, black - 2, white - 2)


SPIKED_LOGISTIC = Likelihood(4, _from_outputs, NUM_INTENSITIES)
"""A spiked logistic likelihood with four outputs per value.

The outputs are locations minus 1/2, log-scales plus 1.5, and the logits of black and of white against all greys, plus
2. Outputs of 0 give a tenth black, a tenth white, and otherwise a logistic of scale 0.22 around the middle.
"""
