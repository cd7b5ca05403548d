"""What a likelihood is: how many outputs of a network each value of x takes, and what they mean."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpyro.distributions as dist

from aevb.arguments import describe


class Likelihood(NamedTuple):
    """A factorised distribution over the values of a datapoint.

    Attributes:
      num_outputs: how many outputs of the decoder each value of x takes.
      distribution: `(*outputs) -> distribution`, of as many arrays as there are outputs, each of the shape of x. Every
        value is independent of the others: the caller calls `.to_event()`.
      is_mass_of: where `log_prob` is the log of a probability mass over a number of values, that number; its bound can
        then be told in bits per dimension. `None` where it is a density, or a cross-entropy.
      is_stacked: whether `distribution` takes the outputs as one array, `[num_outputs, ...]`: for many of them.
    """

    num_outputs: int
    distribution: Callable[..., dist.Distribution]
    is_mass_of: int | None = None
    is_stacked: bool = False

    def of(self, outputs: jax.Array) -> dist.Distribution:
        """Return the distribution of x, value by value, from a decoder's outputs, `[num_outputs, *x.shape]`."""
        return self.distribution(outputs) if self.is_stacked else self.distribution(*outputs)


def check_likelihood(likelihood: Any) -> None:
    """Raise `TypeError` unless `likelihood` is one."""
    if not isinstance(likelihood, Likelihood):
        example = "Likelihood(1, numpyro.distributions.Poisson), say"
        raise TypeError(f"likelihood must be an aevb.likelihoods.Likelihood, got {describe(likelihood)}: {example}")
