"""Likelihoods p(x|z) by name.

A new one is a `Likelihood` in a file and a line in `LIKELIHOODS`, or `aevb.likelihoods.register("name",
Likelihood(...))` from outside the package; every model family that is built by name then takes it.
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
    """Add a likelihood by name: `register("laplace", Likelihood(2, lambda m, s: dist.Laplace(m, jnp.exp(s))))`."""
    return LIKELIHOODS.register(name, likelihood)


def bits_per_dimension(nats: Number, num_values: int) -> Number:
    """Return the bits per value that log-probabilities, or lower bounds on them, are worth: -nats / (D log 2).

    Lower is better; of a lower bound on log p(x) it is an upper bound. It is the size of losslessly compressed data
    where the likelihood is a probability mass (`Likelihood.is_mass_of`), and means nothing for a density.

    Args:
      nats: in nats per datapoint, a number or an array.
      num_values: D, the values of one datapoint: pixels times channels.

    Raises:
      ValueError: `num_values` is not positive.
      TypeError: `num_values` is not an integer.
    """
    check_counts(1, num_values=num_values)
    return -nats / (num_values * math.log(2))  # type: ignore[operator]
