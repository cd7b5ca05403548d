"""Partly missing data, in which NaN marks values that were not observed."""

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, Independent, constraints

from aevb.arguments import describe
from aevb.distributions.intensities import Intensities


class Observed(Distribution):
    """A factorised likelihood in which NaN marks values that were not observed and contribute nothing.

    The bound is then a bound on log p of the observed values. Uses are sequences of different lengths padded with NaN,
    data with gaps, and in-painting of pictures. A NaN affects neither the value nor the gradient.

        Observed(dist.Normal(mean, scale))            # mean [T, D]: the event is all of [T, D]
    """

    pytree_data_fields = ("base",)

    def __init__(self, base: Distribution):
        """Wrap independent distributions, with or without `.to_event()`.

        Raises:
          TypeError: `base` is not a distribution.
          ValueError: an event of `base` has several dependent values, so that a part of it cannot be left out.
        """
        if not isinstance(base, Distribution):
            raise TypeError(f"Observed wraps a numpyro distribution, got {describe(base)}")
        while isinstance(base, Independent):
            base = base.base_dist
        if base.event_shape:
            raise ValueError(
                f"Observed needs a factorised likelihood, but under {type(base).__name__} the values of an event of "
                f"shape {base.event_shape} are dependent"
            )
        self.base = base
        super().__init__((), base.batch_shape)

    @property
    def support(self) -> Any:
        each: Any = self.base.support
        return constraints.independent(each, len(self.event_shape))

    @property
    def mean(self) -> jax.Array:
        return self.base.mean

    @property
    def variance(self) -> jax.Array:
        return self.base.variance

    @property
    def has_rsample(self) -> bool:
        return self.base.has_rsample

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.asarray(self.base.sample(key, sample_shape))

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        return jnp.sum(self._densities(value), axis=tuple(range(-len(self.event_shape), 0)))

    def log_probs(self, value: Any) -> jax.Array:
        """Return the log density along the leading axis of an event, by step `[..., T]` for `[..., T, D]`, in nats."""
        return jnp.sum(self._densities(value), axis=tuple(range(1 - len(self.event_shape), 0)))

    def filled(self, value: jax.Array) -> jax.Array:
        """Return `value` with a value from the support in place of NaN."""
        return filled(value, self.base.support)

    def _densities(self, value: Any) -> jax.Array:
        # `where` both inside and outside: a missing value must not reach the gradient, not even multiplied by zero.
        return jnp.where(jnp.isnan(value), 0, self.base.log_prob(self.filled(value)))


def filled(value: Any, support: Any) -> jax.Array:
    """Return `value` with a value from `support` in place of NaN, as integers if the support is discrete."""
    whole = without_gaps(value, support)
    is_integer = support.is_discrete and not isinstance(support, Intensities)
    return whole.astype(int) if is_integer and jnp.issubdtype(whole.dtype, jnp.floating) else whole


def without_gaps(value: Any, support: Any) -> jax.Array:
    """Return `value` with a value from `support` in place of NaN, and otherwise unchanged."""
    value = jnp.asarray(value)
    return jnp.where(jnp.isnan(value), jnp.asarray(support.feasible_like(value), value.dtype), value)


def zeros_and_mask(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the inputs of an encoder: `x` with zeros in place of NaN, and a mask that is 1 where `x` was observed."""
    seen = ~jnp.isnan(x)
    return jnp.where(seen, x, 0), seen.astype(x.dtype)


def still_to_come(x: jax.Array) -> jax.Array:
    """Return, for each step of a sequence `[T, ...]`, whether anything is observed at it or after it, `[T]`."""
    seen = jnp.any(~jnp.isnan(x), axis=tuple(range(1, x.ndim)))
    return jnp.flip(jax.lax.cummax(jnp.flip(seen).astype(jnp.int32))) > 0
