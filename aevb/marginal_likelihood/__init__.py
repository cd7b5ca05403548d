"""Estimates of log p(x) per datapoint, in nats, the quantity that the evidence lower bound bounds.

The package has functions of one datapoint, `(params, key, x, model, ...) -> Estimate`, which callers `vmap`, and
`evaluate` for a data set. `import aevb` alone imports neither this package nor BlackJAX, which it needs.
"""

from aevb.marginal_likelihood.annealed import annealed_importance_sampling
from aevb.marginal_likelihood.dataset import DatasetEstimate, Method, evaluate
from aevb.marginal_likelihood.estimate import Estimate, Sandwich
from aevb.marginal_likelihood.importance import importance_sampling
from aevb.marginal_likelihood.mixture import mixture_importance_sampling
from aevb.marginal_likelihood.particle import particle_filter
from aevb.marginal_likelihood.reciprocal import hmc_estimator

__all__ = [
    "DatasetEstimate",
    "Estimate",
    "Method",
    "Sandwich",
    "annealed_importance_sampling",
    "evaluate",
    "hmc_estimator",
    "importance_sampling",
    "mixture_importance_sampling",
    "particle_filter",
]
