"""Distributions over the 256 intensities k / 255, k = 0..255, of pixels from 0 to 255 scaled to [0, 1]."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, constraints

NUM_INTENSITIES = 256
LARGEST = NUM_INTENSITIES - 1
_ROUNDING = 1e-4  # tolerance in units of 255 x: several roundings of float32


class Intensities(constraints.Constraint):
    """The constraint to the values k / 255, k = 0..255, up to the rounding of float32."""

    is_discrete = True

    def __call__(self, x: Any) -> jax.Array:
        scaled = _scaled(x)
        k = jnp.round(scaled)
        return (k >= 0) & (k <= LARGEST) & (jnp.abs(scaled - k) <= _ROUNDING)

    def feasible_like(self, prototype: Any) -> jax.Array:
        return jnp.zeros_like(prototype)

    def tree_flatten(self) -> tuple:
        return (), ((), {})

    def eq(self, other: object, static: bool = False) -> bool:
        return isinstance(other, Intensities)


intensities = Intensities()


class OverIntensities(Distribution):
    """A distribution over the 256 intensities k / 255. `log_prob` is a log probability mass, in nats per value.

    A subclass defines `log_mass`. The other methods enumerate the values, and a subclass may replace them by closed
    forms.
    """

    has_enumerate_support = True
    reparametrized_params: list[str] = []  # noqa: RUF012

    def log_mass(self, k: jax.Array) -> jax.Array:
        """Return log P(x = k / 255) for whole numbers `k` in 0..255 of a floating dtype, in a shape that broadcasts."""
        raise NotImplementedError

    @property
    def support(self) -> Any:
        return intensities

    def log_prob(self, value: ArrayLike, intermediates: Any = None) -> jax.Array:
        """Return the log of the probability mass, in nats; -inf for a value that is not one of the 256."""
        k = jnp.clip(jnp.round(_scaled(value)), 0, LARGEST)
        return jnp.where(intensities(value), self.log_mass(k.astype(self._dtype)), -jnp.inf)

    def cdf(self, value: ArrayLike) -> jax.Array:
        """Return P(x <= value) for any real numbers."""
        masses = jnp.exp(self._log_masses())
        return jnp.clip(jnp.sum(jnp.where(self._all() <= level_below(value), masses, 0), axis=0), 0, 1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw `[*sample_shape, *batch_shape]` by inverting the cumulative masses."""
        shape = (*sample_shape, *self.batch_shape)
        uniform = jax.random.uniform(key, shape, self._dtype, minval=jnp.finfo(self._dtype).tiny)

        def pass_one(k: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            drawn, cumulative = state
            cumulative = cumulative + jnp.exp(self.log_mass(jnp.full(shape, k, self._dtype)))
            return drawn + (uniform > cumulative), cumulative

        zeros = jnp.zeros(shape, self._dtype)
        return jax.lax.fori_loop(0, LARGEST, pass_one, (zeros, zeros))[0] / LARGEST

    @property
    def mean(self) -> jax.Array:
        return jnp.sum(jnp.exp(self._log_masses()) * self._all(), axis=0) / LARGEST

    @property
    def variance(self) -> jax.Array:
        deviation = self._all() / LARGEST - self.mean
        return jnp.sum(jnp.exp(self._log_masses()) * deviation**2, axis=0)

    def enumerate_support(self, expand: bool = True) -> jax.Array:
        """Return the 256 values, `[256, *batch_shape]`, or with axes of size 1 for the batch unless expanded."""
        values = self._all() / LARGEST
        return jnp.broadcast_to(values, (NUM_INTENSITIES, *self.batch_shape)) if expand else values

    def log_masses(self) -> jax.Array:
        """Return log P(x = k / 255) for all k = 0..255 along a new leading axis, `[256, *batch_shape]`."""
        return self._log_masses()

    def _all(self) -> jax.Array:
        """Return k = 0..255 along a new leading axis."""
        return jnp.arange(NUM_INTENSITIES, dtype=self._dtype).reshape(-1, *[1] * len(self.batch_shape))

    def _log_masses(self) -> jax.Array:
        return self.log_mass(self._all())

    @property
    def _dtype(self) -> Any:
        return jnp.result_type(*(getattr(self, name) for name in self.arg_constraints))


def _scaled(value: ArrayLike) -> jax.Array:
    """Return 255 x in float32, or in float64 if the value is float64."""
    return jnp.asarray(value, jnp.result_type(value, jnp.float32)) * LARGEST


def level_below(value: ArrayLike) -> jax.Array:
    """Return the largest k such that k / 255 does not exceed the value, up to rounding."""
    return jnp.floor(_scaled(value) + _ROUNDING)
