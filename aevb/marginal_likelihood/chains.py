"""Parallel Hamiltonian Monte Carlo chains on p(z|x): starts, warm-up, sampling, R-hat, and a fitted Gaussian."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb import hmc
from aevb.hmc import LogDensity
from aevb.marginal_likelihood.estimate import log_joint
from aevb.model import Model, Params, likelihood_of, posterior_of, prior_of

TARGET_ACCEPTANCE = 0.9
"""The acceptance to which the step size is adapted during warm-up."""

STEP_JITTER = 0.2
"""The largest relative deviation of a trajectory's step size from the adapted one. Trajectories of one fixed length
resonate with a posterior whose periods they match, and then hardly move."""

NEGLIGIBLE = 10.0
"""The threshold, in nats, below which a chain is restarted: half-way through warm-up, a chain whose log p(x, z) is more
than this plus J below that of the best chain continues from the best chain's position. Its mode has almost none of the
posterior's mass, yet it would get its full share of the draws and nearly all of the reciprocal weights. Modes that
matter are not affected, so that R-hat detects them."""

_INITIAL_STEP_SIZE = 0.3
_PRIOR_BLOCK = 32

T = TypeVar("T")


class ParallelChains(NamedTuple):
    """C chains of one datapoint and their common step size.

    Attributes:
      states: the states of the chains, leaves `[C, ...]`.
      step_size: `[]`.
    """

    states: hmc.HMCState
    step_size: jax.Array


class Moments(NamedTuple):
    """Running moments of J + 1 quantities, z and log p(x, z), separately for each chain (Welford).

    Attributes:
      size: `[]`, the number of draws per chain so far.
      mean: `[C, J + 1]`.
      squares: `[C, J + 1]`, sums of squared deviations from the mean.
    """

    size: jax.Array
    mean: jax.Array
    squares: jax.Array


class SampleStatistics(NamedTuple):
    """Statistics of the draws of `sample`, which are not kept.

    Attributes:
      acceptance: `[]`, the mean acceptance probability.
      moments: the moments of each chain.
    """

    acceptance: jax.Array
    moments: Moments


def warm_up(
    params: Params,
    key: jax.Array,
    x: jax.Array,
    model: Model,
    num_chains: int,
    num_warmup: int,
    use_encoder: bool,
    num_prior_draws: int,
) -> ParallelChains:
    """Return chains from over-dispersed starts, after `num_warmup` transitions that adapt the step size.

    Half of the chains (rounded up) start at draws from the encoder. Each of the others starts at the best of
    `num_prior_draws` draws from the prior. Without `use_encoder` all chains do, and `model.encode` is not called.
    Half-way through warm-up, chains in modes with negligible mass move to the best chain (`NEGLIGIBLE`).
    """
    encoder_key, prior_key, warmup_key = jax.random.split(key, 3)
    num_from_encoder = (num_chains + 1) // 2 if use_encoder else 0
    starts = []
    if num_from_encoder:
        starts.append(posterior_of(model, params, x).sample(encoder_key, (num_from_encoder,)))
    if num_from_prior := num_chains - num_from_encoder:
        starts.append(_best_of_prior(params, prior_key, x, model, num_from_prior, num_prior_draws))
    log_density = log_joint(params, x, model)
    states = jax.vmap(lambda z: hmc.init(z, log_density))(jnp.concatenate(starts))

    def adapt(chains: ParallelChains, step: jax.Array) -> tuple[ParallelChains, None]:
        chains, acceptance = transition(jax.random.fold_in(warmup_key, step), chains, log_density)
        rate = jax.lax.rsqrt(1.0 + step.astype(chains.step_size.dtype))
        step_size = hmc.adapted(chains.step_size, jnp.mean(acceptance), TARGET_ACCEPTANCE, rate)
        states = jax.lax.cond(step == num_warmup // 2, _leave_negligible_modes, lambda states: states, chains.states)
        return ParallelChains(states, step_size), None

    step_size = jnp.asarray(_INITIAL_STEP_SIZE, states.position.dtype)
    return jax.lax.scan(adapt, ParallelChains(states, step_size), jnp.arange(num_warmup))[0]


def transition(key: jax.Array, chains: ParallelChains, log_density: LogDensity) -> tuple[ParallelChains, jax.Array]:
    """Make one transition of every chain with jittered step sizes. Return the acceptance probabilities, `[C]`, too."""
    num_chains = len(chains.states.log_density)
    keys = jax.random.split(key, 1 + num_chains)
    jitter = jax.random.uniform(keys[0], (num_chains,), chains.step_size.dtype, 1 - STEP_JITTER, 1 + STEP_JITTER)
    move = jax.vmap(lambda key, chain, step_size: hmc.transition(key, chain, log_density, step_size))
    states, acceptance = move(keys[1:], chains.states, chains.step_size * jitter)
    return chains._replace(states=states), acceptance.astype(chains.step_size.dtype)


def sample(
    key: jax.Array,
    chains: ParallelChains,
    log_density: LogDensity,
    num_samples: int,
    accumulate: Callable[[T, jax.Array, hmc.HMCState], T],
    initial: T,
    num_discarded: int = 0,
) -> tuple[ParallelChains, T, SampleStatistics]:
    """Make `num_samples` transitions of every chain at a fixed step size and accumulate the draws without keeping them.

    Args:
      key: a typed key.
      chains: the chains to continue.
      log_density: the log density of the target.
      num_samples: the number of transitions per chain.
      accumulate: `(accumulated, step, states) -> accumulated`, called with the draws of each step.
      initial: the initial value of `accumulated`.
      num_discarded: the number of transitions made before these and discarded.

    Returns:
      The chains, the accumulated value, and the statistics of the draws.
    """

    def step(carry: tuple, index: jax.Array) -> tuple[tuple, None]:
        chains, accumulated, run = carry
        chains, acceptance = transition(jax.random.fold_in(key, index), chains, log_density)

        def count() -> tuple[T, SampleStatistics]:
            moments = _update_moments(run.moments, chains.states)
            mean_acceptance = run.acceptance + (jnp.mean(acceptance) - run.acceptance) / moments.size
            return accumulate(accumulated, index - num_discarded, chains.states), SampleStatistics(
                mean_acceptance, moments
            )

        return (chains, *jax.lax.cond(index >= num_discarded, count, lambda: (accumulated, run))), None

    num_chains, latent_dim = chains.states.position.shape
    zero = jnp.zeros((num_chains, latent_dim + 1), chains.states.position.dtype)
    nothing = SampleStatistics(zero[0, 0], Moments(zero[0, 0], zero, zero))
    return jax.lax.scan(step, (chains, initial, nothing), jnp.arange(num_discarded + num_samples))[0]


def r_hat(first: Moments, second: Moments) -> jax.Array:
    """Return the largest split R-hat (Gelman et al. 2013), `[]`, from the moments of the first and the second part.

    It is the square root of the pooled variance over the mean variance within one part of a chain. It detects chains
    that disagree and chains that drift.
    """
    means = jnp.concatenate([first.mean, second.mean])  # [2 C, J + 1]
    variances = jnp.concatenate([part.squares / (part.size - 1) for part in (first, second)])
    within = jnp.mean(variances, axis=0)
    count = jnp.minimum(first.size, second.size)
    pooled = (count - 1) / count * within + jnp.var(means, axis=0, ddof=1)
    return jnp.max(jnp.sqrt(pooled / within))


def fit_gaussian(
    key: jax.Array, chains: ParallelChains, log_density: LogDensity, num_samples: int
) -> tuple[ParallelChains, dist.MultivariateNormal, SampleStatistics]:
    """Continue the chains and fit a Gaussian with full covariance to the draws of all of them.

    Off-diagonal elements are shrunk by J / (J + number of draws). This is negligible for many draws, and keeps the
    covariance positive definite for fewer draws than dimensions.
    """
    num_chains, latent_dim = chains.states.position.shape
    num_draws = num_chains * num_samples

    def accumulate(moments: tuple, index: jax.Array, states: hmc.HMCState) -> tuple:
        mean, scatter = moments
        deviations = states.position - mean
        mean = mean + jnp.sum(deviations, axis=0) / (num_chains * (index + 1))
        # Welford's update for a batch of C draws: it also needs the deviations from the mean of the batch.
        own = states.position - jnp.mean(states.position, axis=0)
        shift = jnp.mean(deviations, axis=0)
        weight = (num_chains * index / (index + 1)).astype(scatter.dtype)
        return mean, scatter + own.T @ own + weight * jnp.outer(shift, shift)

    zero = jnp.zeros((latent_dim, latent_dim), chains.states.position.dtype)
    chains, (mean, scatter), run = sample(key, chains, log_density, num_samples, accumulate, (zero[0], zero))
    covariance = scatter / (num_draws - 1)
    shrinkage = latent_dim / (latent_dim + num_draws)
    covariance = (1 - shrinkage) * covariance + shrinkage * jnp.diag(jnp.diag(covariance))
    return chains, dist.MultivariateNormal(mean, scale_tril=jnp.linalg.cholesky(covariance)), run


def _best_of_prior(
    params: Params, key: jax.Array, x: jax.Array, model: Model, num_chains: int, num_draws: int
) -> jax.Array:
    """Return, for each chain, the one of `num_draws` draws of the prior that explains `x` best, `[num_chains, J]`."""
    prior = prior_of(model, params)

    def candidate(chain: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = jnp.asarray(prior.sample(jax.random.fold_in(jax.random.fold_in(key, chain), position)))
        return z, jnp.asarray(likelihood_of(model, params, z).log_prob(x))

    def chain_start(chain: jax.Array) -> jax.Array:
        def better(best: tuple, first: jax.Array) -> tuple[tuple, None]:
            # A block may extend beyond the end: it then repeats the last draw.
            positions = jnp.minimum(first + jnp.arange(min(_PRIOR_BLOCK, num_draws)), num_draws - 1)
            z, log_likelihood = jax.vmap(lambda position: candidate(chain, position))(positions)
            winner = jnp.argmax(log_likelihood)
            is_better = log_likelihood[winner] > best[1]
            return (
                jnp.where(is_better, z[winner], best[0]),
                jnp.where(is_better, log_likelihood[winner], best[1]),
            ), None

        z, log_likelihood = jax.eval_shape(candidate, chain, chain)
        nobody = jnp.zeros(z.shape, z.dtype), jnp.full((), -jnp.inf, log_likelihood.dtype)
        return jax.lax.scan(better, nobody, jnp.arange(0, num_draws, _PRIOR_BLOCK))[0][0]

    return jax.vmap(chain_start)(jnp.arange(num_chains))


def _leave_negligible_modes(states: hmc.HMCState) -> hmc.HMCState:
    log_density = states.log_density  # [C]
    best, limit = jnp.argmax(log_density), NEGLIGIBLE + states.position.shape[1]
    is_negligible = log_density < log_density[best] - limit
    choose = jax.vmap(lambda negligible, own, others: jnp.where(negligible, others, own), (0, 0, None))
    return jax.tree.map(lambda leaf: choose(is_negligible, leaf, leaf[best]), states)


def _update_moments(moments: Moments, states: hmc.HMCState) -> Moments:
    values = jnp.concatenate([states.position, states.log_density[:, None]], axis=1)
    count = moments.size + 1
    deviations = values - moments.mean
    mean = moments.mean + deviations / count
    return Moments(count, mean, moments.squares + deviations * (values - mean))
