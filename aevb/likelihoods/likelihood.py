"""The definition of a likelihood: the number of network outputs per value of x, and their meaning."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpyro.distributions as dist

from aevb.arguments import describe


class Likelihood(NamedTuple):
    """A factorised distribution over the values of a datapoint.

    Attributes:
      num_outputs: the number of decoder outputs per value of x.
      distribution: a function `(*outputs) -> distribution` of `num_outputs` arrays, each with the shape of x. The
        values are independent of each other; the caller calls `.to_event()`.
      is_mass_of: if `log_prob` is the log of a probability mass, the number of values that it covers. Its bound can
        then be given in bits per dimension. `None` for a density or a cross-entropy.
      is_stacked: whether `distribution` takes the outputs as one array, `[num_outputs, ...]`, as is useful for many.
    """

    num_outputs: int
    distribution: Callable[..., dist.Distribution]
    is_mass_of: int | None = None
    is_stacked: bool = False

    def of(self, outputs: jax.Array) -> dist.Distribution:
        """Return the distribution of the values of x for a decoder's outputs, `[num_outputs, *x.shape]`."""
        return self.distribution(outputs) if self.is_stacked else self.distribution(*outputs)


def check_likelihood(likelihood: Any) -> None:
    """Raise `TypeError` unless `likelihood` is a `Likelihood`."""
    if not isinstance(likelihood, Likelihood):
        example = "pass, for example, Likelihood(1, numpyro.distributions.Poisson)"
        raise TypeError(f"likelihood must be an aevb.likelihoods.Likelihood, got {describe(likelihood)}: {example}")
