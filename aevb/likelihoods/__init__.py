"""Likelihoods p(x|z) by name.

A likelihood in this package is a `Likelihood` in a file and a line in `LIKELIHOODS`. Other code adds one with
`aevb.likelihoods.register("name", Likelihood(...))`. Every model family that is built by name then accepts it.
"""

import math
from typing import Any, TypeVar

from aevb.arguments import check_counts
from aevb.likelihoods.bernoulli import BERNOULLI, GreyBernoulli
from aevb.likelihoods.gaussian import GAUSSIAN, GAUSSIAN_FIXED_SCALE, SQUASHED_GAUSSIAN
from aevb.likelihoods.likelihood import Likelihood, check_likelihood
from aevb.registry import Registry

__all__ = [
    "BERNOULLI",
    "GAUSSIAN",
    "GAUSSIAN_FIXED_SCALE",
    "LIKELIHOODS",
    "SQUASHED_GAUSSIAN",
    "GreyBernoulli",
    "Likelihood",
    "bits_per_dimension",
    "register",
]

Number = TypeVar("Number")

LIKELIHOODS: Registry[Likelihood] = Registry(
    "likelihood",
    {
        "bernoulli": "aevb.likelihoods.bernoulli:BERNOULLI",
        "gaussian": "aevb.likelihoods.gaussian:GAUSSIAN",
        "squashed_gaussian": "aevb.likelihoods.gaussian:SQUASHED_GAUSSIAN",
        "gaussian_fixed_scale": "aevb.likelihoods.gaussian:GAUSSIAN_FIXED_SCALE",
        "discretized_logistic": "aevb.likelihoods.discretized_logistic:DISCRETIZED_LOGISTIC",
        "spiked_logistic": "aevb.likelihoods.spiked_logistic:SPIKED_LOGISTIC",
        "beta_binomial": "aevb.likelihoods.beta_binomial:BETA_BINOMIAL",
        "categorical": "aevb.likelihoods.categorical:CATEGORICAL",
    },
    check_likelihood,
)


def register(name: str, likelihood: Any = None) -> Any:
    """Register a likelihood: `register("laplace", Likelihood(2, lambda m, s: dist.Laplace(m, jnp.exp(s))))`."""
    return LIKELIHOODS.register(name, likelihood)


def bits_per_dimension(nats: Number, num_values: int) -> Number:
    """Convert log-probabilities, or lower bounds on them, to bits per value: -nats / (D log 2).

    Lower is better. For a lower bound on log p(x), the result is an upper bound. If the likelihood is a probability
    mass (`Likelihood.is_mass_of`), it is the size of losslessly compressed data. For a density it has no meaning.

    Args:
      nats: a number or an array, in nats per datapoint.
      num_values: D, the number of values in one datapoint: pixels times channels.

    Raises:
      ValueError: `num_values` is not positive.
      TypeError: `num_values` is not an integer.
    """
    check_counts(1, num_values=num_values)
    return -nats / (num_values * math.log(2))  # type: ignore[operator]
