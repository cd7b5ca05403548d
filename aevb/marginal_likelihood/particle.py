"""Particle filtering: log p(x) of a sequence (Maddison et al. 2017; Doucet & Johansen 2009 for filters in general)."""

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
    """Estimate log p(x) of one sequence by a filter of K = `num_samples` particles (FIVO, Maddison et al. 2017).

    Unbiased for p(x), hence *below* log p(x) on average. Its variance grows like T / K, where that of importance
    sampling by whole paths grows exponentially with T: on long sequences it is much the tighter of the two, unless q is
    close to the exact posterior of the whole path, for which a filter is no use. `aevb.particles` says how it works.

    One filter does not know its own error: its particles depend on each other. Several independent ones do; the
    estimate is then the log of the mean of theirs, unbiased for p(x) too, and the error is that of the mean to first
    order.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed; the noise of a step depends on it and on the step's position alone, so that NaN after
        the end of a sequence changes nothing.
      x: one sequence, leaves `[T, ...]`, or a `Given`.
      model: the four functions; static. Its prior and, for the proposal "posterior", its posterior are `Markov`, and
        `decode` works step by step on a path of any length.
      num_samples: K, all of them in memory.
      proposal: "posterior" moves particles by q(z_t | z_{t-1}, x); "prior" by p(z_t | z_{t-1}), the bootstrap filter,
        which does not call `encode`.
      resample_below: resample where the effective sample size is below this fraction of K; 1 is at every step.
      num_filters: independent filters, run one after the other.

    Returns:
      An `Estimate`: `standard_error` is NaN for one filter, `effective_sample_size` the smallest over steps and
      filters, between 1 and K, and `by_step` has both by step.

    Raises:
      ValueError: `x` has another shape, `x`, z and `decode` do not go step by step together, or an option is out of
        range.
      TypeError: prior or posterior is no `Markov`, or a count is no Python int.
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
    # By step too: of each beginning of the sequence there are as many independent estimates.
    beginnings = logsumexp(jnp.cumsum(filters.log_predictive, axis=1), axis=0) - jnp.log(num_filters)
    predictive = jnp.diff(beginnings, prepend=0)
    steps = Filtered(predictive, jnp.min(filters.effective_sample_size, axis=0))
    totals = jnp.sum(filters.log_predictive, axis=1)
    estimate = log_mean(LogSums(logsumexp(totals), logsumexp(2 * totals)), num_filters)
    return estimate._replace(effective_sample_size=jnp.min(steps.effective_sample_size), by_step=steps)
