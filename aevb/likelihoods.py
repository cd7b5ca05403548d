"""Likelihoods p(x|z) by name: how many outputs of a network each value of x takes, and what they mean.

A new one is a `Likelihood` and a line in `LIKELIHOODS`, or `aevb.likelihoods.register("name", Likelihood(...))` from
outside the package; every model family that is built by name then takes it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike

from aevb.arguments import describe
from aevb.registry import Registry


class Likelihood(NamedTuple):
    """A factorised distribution over the values of a datapoint.

    Attributes:
      num_outputs: how many outputs of the decoder each value of x takes.
      distribution: `(*outputs) -> distribution`, of as many arrays as there are outputs, each of the shape of x. Every
        value is independent of the others: the caller calls `.to_event()`.
    """

    num_outputs: int
    distribution: Callable[..., dist.Distribution]


class GreyBernoulli(dist.BernoulliLogits):
    """Bernoulli likelihood, eq. of Appendix C.1, for targets anywhere in [0, 1].

    The paper feeds pixel intensities to the Bernoulli log-density as they are. At targets strictly between 0 and 1
    that is a cross-entropy rather than the log of a probability mass, which is why every result says how its data
    were binarized. At targets 0 and 1 this is `numpyro.distributions.BernoulliLogits` exactly.
    """

    support = dist.constraints.unit_interval

    def log_prob(self, value: ArrayLike, intermediates: list | None = None) -> jax.Array:
        """Return the density x log p + (1 - x) log(1 - p) in the softplus form, finite wherever the logits are.

        Of integer targets it is the probability mass, whose logarithm is -inf but at 0 and 1: a pixel of 0..255 cannot
        pass for a probability.
        """
        logits, x = jnp.asarray(self.logits), jnp.asarray(value)
        if jnp.issubdtype(x.dtype, jnp.floating):
            return _log_density(logits, x)
        # Integers have no derivative to multiply.
        density = _log_density(logits, x.astype(logits.dtype))
        return density if x.dtype == jnp.bool_ else jnp.where((x == 0) | (x == 1), density, -jnp.inf)


@jax.custom_jvp
def _log_density(logits: jax.Array, x: jax.Array) -> jax.Array:
    return x * logits - jax.nn.softplus(logits)


@_log_density.defjvp
def _log_density_derivative(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Differentiate: in the logits x - p, which needs no softplus, half the time of a leapfrog."""
    (logits, x), (d_logits, d_x) = primals, tangents
    return _log_density(logits, x), (x - jax.nn.sigmoid(logits)) * d_logits + logits * d_x


def _gaussian(mean: jax.Array, log_variance: jax.Array) -> dist.Distribution:
    return dist.Normal(mean, jnp.exp(0.5 * log_variance))


BERNOULLI = Likelihood(1, GreyBernoulli)
"""Logits (C.1)."""

GAUSSIAN = Likelihood(2, _gaussian)
"""Means and log-variances (C.2)."""

SQUASHED_GAUSSIAN = Likelihood(2, lambda mean, log_variance: _gaussian(jax.nn.sigmoid(mean), log_variance))
"""The same with means in [0, 1], as the paper has it for Frey Face."""


def _check(likelihood: Any) -> None:
    if not isinstance(likelihood, Likelihood):
        example = "Likelihood(1, numpyro.distributions.Poisson), say"
        raise TypeError(f"likelihood must be an aevb.likelihoods.Likelihood, got {describe(likelihood)}: {example}")


LIKELIHOODS: Registry[Likelihood] = Registry(
    "likelihood",
    {
        "bernoulli": "aevb.likelihoods:BERNOULLI",
        "gaussian": "aevb.likelihoods:GAUSSIAN",
        "squashed_gaussian": "aevb.likelihoods:SQUASHED_GAUSSIAN",
    },
    _check,
)


def register(name: str, likelihood: Any = None) -> Any:
    """Add a likelihood by name: `register("laplace", Likelihood(2, lambda m, s: dist.Laplace(m, jnp.exp(s))))`."""
    return LIKELIHOODS.register(name, likelihood)
