"""Estimates of log p(x) for sequences by particle filters (Maddison et al. 2017; Doucet & Johansen 2009)."""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from aevb.arguments import check_counts
from aevb.marginal_likelihood.estimate import Estimate, LogSums, log_mean
from aevb.model import Datapoint, Model, Params, check_arguments
from aevb.particles import RESAMPLE_BELOW, Filtered, Proposal, run_filter


def particle_filter(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int = 1000,
    proposal: Proposal = "posterior",
    resample_below: float = RESAMPLE_BELOW,
    num_filters: int = 1,
) -> Estimate:
    """Estimate log p(x) of one sequence with a filter of K = `num_samples` particles (FIVO, Maddison et al. 2017).

    The estimate is unbiased for p(x), hence *below* log p(x) on average. Its variance grows like T / K, whereas that of
    importance sampling of whole paths grows exponentially with T. On long sequences it is therefore much tighter,
    unless q is close to the exact posterior of the whole path, in which case a filter is of no use. See
    `aevb.particles` for the method.

    A single filter cannot estimate its own error, because its particles depend on each other. Several independent
    filters can. The estimate is then the log of the mean of their estimates of p(x), which is also unbiased for p(x),
    and the error is that of the mean to first order.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed. The noise of a step depends only on the key and the position of the step, so NaN after
        the end of a sequence has no effect.
      x: one sequence, leaves `[T, ...]`, or a `Given`.
      model: the four functions; static. The prior and, for the proposal "posterior", the posterior are `Markov`, and
        `decode` works step by step on a path of any length.
      num_samples: K, the number of particles, all of which are held in memory.
      proposal: "posterior" moves particles by q(z_t | z_{t-1}, x); "prior" by p(z_t | z_{t-1}), the bootstrap filter,
        which does not call `encode`.
      resample_below: resample if the effective sample size is below this fraction of K; 1 resamples at every step.
      num_filters: the number of independent filters, run one after another.

    Returns:
      An `Estimate`. `standard_error` is NaN for one filter; `effective_sample_size` is the smallest over steps and
      filters, between 1 and K; `by_step` has the log predictive density and the effective sample size of each step.

    Raises:
      ValueError: `x` has another shape, `x`, z and `decode` do not match step by step, or an option is out of range.
      TypeError: the prior or the posterior is not a `Markov`, or a count is not an integer.
    """
    check_counts(1, num_samples=num_samples, num_filters=num_filters)
    check_arguments(params, key, x, model)

    def one(key: jax.Array) -> Filtered:
        return run_filter(params, key, x, model, num_samples, proposal, resample_below)

    if num_filters == 1:
        steps = one(key)
        total = jnp.sum(steps.log_predictive)
        return Estimate(total, jnp.full_like(total, jnp.nan), jnp.min(steps.effective_sample_size), by_step=steps)
    filters = jax.lax.map(one, jax.random.split(key, num_filters))
    # The same by step: each filter gives an independent estimate for each prefix of the sequence.
    beginnings = logsumexp(jnp.cumsum(filters.log_predictive, axis=1), axis=0) - jnp.log(num_filters)
    predictive = jnp.diff(beginnings, prepend=0)
    steps = Filtered(predictive, jnp.min(filters.effective_sample_size, axis=0))
    totals = jnp.sum(filters.log_predictive, axis=1)
    estimate = log_mean(LogSums(logsumexp(totals), logsumexp(2 * totals)), num_filters)
    return estimate._replace(effective_sample_size=jnp.min(steps.effective_sample_size), by_step=steps)
