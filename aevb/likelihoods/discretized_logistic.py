"""The discretized logistic likelihood over 0..255 (Kingma et al. 2016; Salimans et al. 2017, section 2.1)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid
from jax.typing import ArrayLike
from numpyro.distributions import constraints

from aevb.distributions.intensities import LARGEST, NUM_INTENSITIES, OverIntensities, level_below
from aevb.likelihoods.likelihood import Likelihood

_STEEPEST = 30.0  # the log of the largest 1 / (255 scale): all mass is in one interval well below it
WIDEST = 60.0  # the log of the largest scale used for draws: all mass is at 0 and 255 well below it


class DiscretizedLogistic(OverIntensities):
    """A logistic distribution over the reals with draws rounded to the nearest k / 255, k = 0..255.

        P(x = k / 255) = sigmoid((k + 1/2 - 255 loc) / (255 scale)) - sigmoid((k - 1/2 - 255 loc) / (255 scale))

    The tails below 0 and above 1 are collected at 0 and at 255. A location outside [0, 1] gives most of the mass to
    black or to white.
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012
    pytree_data_fields = ("loc", "log_scale")

    def __init__(self, loc: ArrayLike, log_scale: ArrayLike, *, validate_args: bool | None = None):
        """Define the distribution.

        Args:
          loc: the location, any real number, in units of intensities in [0, 1].
          log_scale: the logarithm of the scale in the same units. The smallest scale used is exp(-30) / 255.
          validate_args: see `numpyro.distributions.Distribution`.
        """
        self.loc, self.log_scale = jnp.broadcast_arrays(loc, log_scale)
        super().__init__(batch_shape=jnp.shape(self.loc), validate_args=validate_args)

    def log_mass(self, k: jax.Array) -> jax.Array:
        return log_interval_mass(k, self.loc, self.log_scale, 0, LARGEST)

    def cdf(self, value: ArrayLike) -> jax.Array:
        """Return P(x <= value) for any real numbers."""
        k = level_below(value)
        edge = jnp.clip(k, 0, LARGEST) + 0.5
        inner = jax.nn.sigmoid((edge - LARGEST * self.loc) * jnp.exp(log_interval_width(self.log_scale)))
        return jnp.where(k < 0, 0.0, jnp.where(k >= LARGEST, 1.0, inner))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw `[*sample_shape, *batch_shape]`: a logistic draw, rounded."""
        noise = jax.random.logistic(key, (*sample_shape, *self.batch_shape), self._dtype)
        continuous = self.loc + jnp.exp(jnp.minimum(self.log_scale, WIDEST)) * noise
        return jnp.round(LARGEST * jnp.clip(continuous, 0, 1)) / LARGEST


def log_interval_width(log_scale: jax.Array) -> jax.Array:
    """Return log(1 / (255 scale)), the log of the width of an interval in units of the scale."""
    return jnp.minimum(-log_scale - math.log(LARGEST), _STEEPEST)


def log_interval_mass(k: jax.Array, loc: jax.Array, log_scale: jax.Array, first: int, last: int) -> jax.Array:
    """Return the log of a logistic's mass in the interval of k, with its tails collected at `first` and `last`."""
    # With upper and lower edges u > l, sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), in which
    # nothing cancels. Edges in units of k are exact, so that neighbours share an edge to the last bit.
    log_width = log_interval_width(log_scale)
    width, center = jnp.exp(log_width), LARGEST * loc
    below = jnp.where(k < last, log_sigmoid((k + 0.5 - center) * width), 0)
    above = jnp.where(k > first, log_sigmoid((center - (k - 0.5)) * width), 0)
    is_inner = (k > first) & (k < last)
    return below + above + jnp.where(is_inner, _log_one_minus_exp(width, log_width), 0)


def _log_one_minus_exp(width: jax.Array, log_width: jax.Array) -> jax.Array:
    """Return log(1 - exp(-width)), to full precision at any width."""
    width = jnp.maximum(width, jnp.finfo(width.dtype).eps ** 2)  # the derivative divides by its square
    return log_width + jnp.log(-jnp.expm1(-width) / width)


def _from_outputs(location: Any, log_scale: Any) -> DiscretizedLogistic:
    return DiscretizedLogistic(0.5 + location, log_scale - 1.5)


DISCRETIZED_LOGISTIC = Likelihood(2, _from_outputs, NUM_INTENSITIES)
"""A discretized logistic likelihood whose outputs are locations minus 1/2, and log-scales plus 1.5.

Outputs of 0 give a logistic distribution over all of [0, 1], of scale 0.22. The location is not squashed, because a
location outside [0, 1] makes black or white likely.
"""
