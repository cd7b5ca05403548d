"""Noise through which data were observed: elementwise channels p(y|x).

    flips(p)         y = x, or with probability p its opposite        x is 0 or 1
    gaussian(sd)     y = x + sd times N(0, 1)                          x Gaussian given z, or of finitely many values

Given z, the observed values have the density p(y|z) = sum_x p(y|x) p(x|z) in closed form, so x never has to be drawn.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, constraints

from aevb.arguments import describe
from aevb.distributions.chain import family_name
from aevb.distributions.intensities import OverIntensities

_ROUNDING = 1e-4  # the tolerance for a number to equal one of finitely many values


class Channel(abc.ABC):
    """A conditional distribution p(y|x) of one observed value given one value of the data; hashable and static."""

    @abc.abstractmethod
    def log_prob(self, y: jax.Array, x: jax.Array) -> jax.Array:
        """Return log p(y|x) elementwise, in nats."""

    @abc.abstractmethod
    def seen(self, clean: Distribution) -> Distribution:
        """Return p(y|z) elementwise, given p(x|z) as `clean`.

        Raises:
          TypeError: p(y|z) is not known in closed form for this family.
        """

    @abc.abstractmethod
    def restored(self, clean: Distribution, y: jax.Array) -> Distribution:
        """Return p(x|z, y) elementwise, given p(x|z) as `clean`. If `y` is NaN, it is p(x|z) itself.

        Raises:
          TypeError: as for `seen`.
        """


@dataclasses.dataclass(frozen=True)
class _Flips(Channel):
    probability: float

    def log_prob(self, y: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.where(y == x, jnp.log1p(-self.probability), jnp.log(self.probability))

    def seen(self, clean: Distribution) -> Distribution:
        logits = self._logits(clean)
        # The logs of p (1 - f) + (1 - p) f and of its complement, computed without cancellation.
        kept, flipped = jnp.log1p(-self.probability), jnp.log(self.probability)
        one, zero = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        log_odds = jnp.logaddexp(one + kept, zero + flipped) - jnp.logaddexp(zero + kept, one + flipped)
        return dist.BernoulliLogits(log_odds)

    def restored(self, clean: Distribution, y: jax.Array) -> Distribution:
        log_odds = jnp.log1p(-self.probability) - jnp.log(self.probability)
        evidence = jnp.where(jnp.isnan(y), 0, jnp.where(y > 0.5, log_odds, -log_odds))
        return dist.BernoulliLogits(self._logits(clean) + evidence)

    def _logits(self, clean: Distribution) -> jax.Array:
        if isinstance(inner := _innermost(clean), dist.BernoulliLogits | dist.BernoulliProbs):
            return jnp.broadcast_to(jnp.asarray(inner.logits), clean.batch_shape)
        raise TypeError(f"flips need values 0 or 1 under a Bernoulli likelihood, got {family_name(clean)}")


@dataclasses.dataclass(frozen=True)
class _Gaussian(Channel):
    scale: float

    def log_prob(self, y: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.asarray(dist.Normal(x, self.scale).log_prob(y))

    def seen(self, clean: Distribution) -> Distribution:
        if isinstance(_innermost(clean), dist.Normal):
            return dist.Normal(clean.mean, jnp.sqrt(clean.variance + self.scale**2))
        values, log_masses = _finite(clean)
        weights = dist.CategoricalLogits(jnp.moveaxis(log_masses, 0, -1))
        return dist.MixtureSameFamily(weights, dist.Normal(jnp.moveaxis(values, 0, -1), self.scale))

    def restored(self, clean: Distribution, y: jax.Array) -> Distribution:
        is_seen = ~jnp.isnan(y)
        y = jnp.where(is_seen, y, 0)
        if isinstance(_innermost(clean), dist.Normal):
            own, added = 1 / jnp.asarray(clean.variance), jnp.where(is_seen, 1 / self.scale**2, 0)
            return dist.Normal((own * clean.mean + added * y) / (own + added), jax.lax.rsqrt(own + added))
        values, log_masses = _finite(clean)
        return FiniteValues(values, log_masses + jnp.where(is_seen, self.log_prob(y, values), 0))


def flips(probability: float) -> Channel:
    """Return the channel that flips each value, 0 or 1, with the given probability.

    Raises:
      ValueError: the probability is not above 0 and below 1.
      TypeError: the probability is not a number.
    """
    probability = _number("the probability of flips", probability)
    if not 0 < probability < 1:
        raise ValueError(f"the probability of flips must be above 0 and below 1, got {probability}")
    return _Flips(probability)


def gaussian(scale: float) -> Channel:
    """Return the channel that adds Gaussian noise with the given standard deviation to each value.

    For a likelihood over the 256 intensities it sums over all of them, which takes 256 times the memory of p(x|z).

    Raises:
      ValueError: the standard deviation is not positive and finite.
      TypeError: the standard deviation is not a number.
    """
    scale = _number("the standard deviation of the noise", scale)
    if not 0 < scale < float("inf"):
        raise ValueError(f"the standard deviation of the noise must be positive and finite, got {scale}")
    return _Gaussian(scale)


class FiniteValues(Distribution):
    """A distribution over finitely many numbers, given their log-masses up to a constant."""

    arg_constraints = {"log_masses": constraints.real}  # noqa: RUF012
    pytree_data_fields = ("values", "log_masses")

    def __init__(self, values: jax.Array, log_masses: jax.Array, *, validate_args: bool | None = None):
        """Take `values`, `[K, ...]`, which broadcast, and `log_masses`, `[K, *batch_shape]`."""
        self.values, self.log_masses = values, jax.nn.log_softmax(log_masses, axis=0)
        super().__init__(batch_shape=log_masses.shape[1:], validate_args=validate_args)

    @property
    def support(self) -> Any:
        return constraints.real

    def log_prob(self, value: ArrayLike, intermediates: Any = None) -> jax.Array:
        """Return the log-mass in nats; -inf if the value is none of the numbers, up to rounding."""
        is_one = jnp.abs(jnp.asarray(value) - self.values) <= _ROUNDING
        return jnp.max(jnp.where(is_one, self.log_masses, -jnp.inf), axis=0)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        shape = (*sample_shape, *self.batch_shape)
        chosen = jax.random.categorical(key, jnp.moveaxis(self.log_masses, 0, -1), shape=shape)
        return jnp.ravel(self.values)[chosen].astype(self.log_masses.dtype)

    @property
    def mean(self) -> jax.Array:
        return jnp.sum(jnp.exp(self.log_masses) * self.values, axis=0)

    @property
    def variance(self) -> jax.Array:
        return jnp.sum(jnp.exp(self.log_masses) * jnp.square(self.values - self.mean), axis=0)


def _finite(clean: Distribution) -> tuple[jax.Array, jax.Array]:
    """Return the values `[K, 1, ...]` and log-masses `[K, *batch_shape]` of a distribution over a few numbers."""
    if isinstance(clean, OverIntensities):
        return clean.enumerate_support(expand=False), clean.log_masses()
    if isinstance(inner := _innermost(clean), dist.BernoulliLogits | dist.BernoulliProbs):
        logits = jnp.broadcast_to(jnp.asarray(inner.logits), clean.batch_shape)
        values = jnp.arange(2, dtype=logits.dtype).reshape(2, *[1] * logits.ndim)
        return values, jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)])
    raise TypeError(
        f"Gaussian noise needs a likelihood that is Gaussian, Bernoulli or over the 256 intensities, got "
        f"{family_name(clean)}"
    )


def _innermost(distribution: Distribution) -> Distribution:
    """Return the distribution inside any `ExpandedDistribution`."""
    while isinstance(distribution, dist.ExpandedDistribution):
        distribution = distribution.base_dist
    return distribution


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {describe(value)}") from None
