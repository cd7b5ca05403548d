"""Data of which a part is missing: what is NaN was not observed."""

from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, Independent, constraints

from aevb.arguments import describe
from aevb.distributions.intensities import Intensities


class Observed(Distribution):
    """A factorised likelihood under which what is NaN in a value was not observed and counts nothing.

    The bound is then one on log p of what was observed: of sequences of different lengths that are padded with NaN, of
    data with gaps, of a picture to be in-painted. Neither value nor gradient sees what is behind a NaN.

        Observed(dist.Normal(mean, scale))            # mean [T, D]: the event is all of [T, D]
    """

    pytree_data_fields = ("base",)

    def __init__(self, base: Distribution):
        """Wrap independent distributions; `.to_event()` may have been called on them or not.

        Raises:
          TypeError: `base` is no distribution.
          ValueError: an event of `base` has several values that depend on each other, so that a part of it cannot be
            left out.
        """
        if not isinstance(base, Distribution):
            raise TypeError(f"Observed wraps a numpyro distribution, got {describe(base)}")
        while isinstance(base, Independent):
            base = base.base_dist
        if base.event_shape:
            raise ValueError(
                f"Observed needs a factorised likelihood, but {type(base).__name__} ties together the values of an "
                f"event of shape {base.event_shape}"
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
        """Return the log density along the leading axis of an event: by step `[..., T]` of `[..., T, D]`, in nats."""
        return jnp.sum(self._densities(value), axis=tuple(range(1 - len(self.event_shape), 0)))

    def filled(self, value: jax.Array) -> jax.Array:
        """Return `value` with some value of the support in the place of what is NaN."""
        return filled(value, self.base.support)

    def _densities(self, value: Any) -> jax.Array:
        # Where inside and outside: what is left out must not reach the gradient, not even times zero.
        return jnp.where(jnp.isnan(value), 0, self.base.log_prob(self.filled(value)))


def filled(value: Any, support: Any) -> jax.Array:
    """Return `value` with some value of `support` in the place of what is NaN, and as integers where it is discrete."""
    whole = without_gaps(value, support)
    is_integer = support.is_discrete and not isinstance(support, Intensities)
    return whole.astype(int) if is_integer and jnp.issubdtype(whole.dtype, jnp.floating) else whole


def without_gaps(value: Any, support: Any) -> jax.Array:
    """Return `value` with some value of `support` in the place of what is NaN, and all else as it is."""
    value = jnp.asarray(value)
    return jnp.where(jnp.isnan(value), jnp.asarray(support.feasible_like(value), value.dtype), value)


def zeros_and_mask(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return `x` with zeros for what is NaN, and 1 where it was observed and 0 where not: what an encoder sees."""
    seen = ~jnp.isnan(x)
    return jnp.where(seen, x, 0), seen.astype(x.dtype)


def still_to_come(x: jax.Array) -> jax.Array:
    """Return of a sequence `[T, ...]` whether anything is observed at each step or after it, `[T]`."""
    seen = jnp.any(~jnp.isnan(x), axis=tuple(range(1, x.ndim)))
    return jnp.flip(jax.lax.cummax(jnp.flip(seen).astype(jnp.int32))) > 0
