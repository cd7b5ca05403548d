"""Annealed importance sampling (Neal 2001) in both directions: a sandwich (Grosse et al. 2015, Wu et al. 2016)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from aevb import hmc
from aevb.arguments import check_counts
from aevb.marginal_likelihood.chains import r_hat, sample, warm_up
from aevb.marginal_likelihood.estimate import (
    Estimate,
    LogSums,
    Sandwich,
    log_density_of,
    log_joint,
    log_mean,
    over_vectors,
)
from aevb.model import Datapoint, Latents, Model, Params, bind, latent_template, posterior_of, prior_of, shapes

TARGET_ACCEPTANCE = 0.65
"""The acceptance to which the step sizes of the intermediate distributions are adapted (Wu et al. 2016)."""

_SIGMOID_RANGE = 4.0
_NUM_PILOT_CHAINS = 4
_INITIAL_STEP_SIZE = 0.3


def annealed_importance_sampling(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_distributions: int = 100,
    num_chains: int = 16,
    use_encoder: bool = True,
    posterior_samples: Latents | None = None,
    num_warmup: int = 100,
    num_posterior_steps: int = 100,
    num_prior_draws: int = 400,
) -> Sandwich[Estimate]:
    """Return a stochastic lower and a stochastic upper bound on log p(x) of one datapoint.

    The intermediate distributions have sigmoid-spaced inverse temperatures 0 = b_0 < ... < b_T = 1. They lead from
    f_0(z) = q(z|x), or p(z) without `use_encoder`, to p(x, z):

        log f_t(z) = (1 - b_t) log f_0(z) + b_t log p(x, z)

    Forwards, a chain starts at a draw from f_0, makes one transition of Hamiltonian Monte Carlo (10 leapfrog steps) for
    each intermediate f_t and accumulates log w = sum_t log f_t(z_t) - log f_{t-1}(z_t). E[w] = p(x), so the log of the
    mean over chains is below log p(x) on average. Backwards, from draws of p(z|x), the same procedure gives 1 / w with
    E[1 / w] = 1 / p(x), and thus an upper bound. The gap closes as T grows.

    The step size at each f_t is that of a few pilot chains, adapted online to an acceptance of 0.65. Step sizes are the
    same in both directions and do not depend on the weighted chains, which keeps both expectations exact.

    The upper bound is valid only to the extent that its starts are draws of p(z|x). Pass exact draws if you have them,
    for example for an x that the model itself generated from a known z. Otherwise the starts are the last states of
    chains like those of `hmc_estimator`, and `upper.r_hat` says whether the chains agree.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint, or a `Given`.
      model: the four functions; static. Its `encode` is not called without `use_encoder`.
      num_distributions: T.
      num_chains: the number of chains in each direction.
      use_encoder: whether to start from q(z|x) instead of p(z), as do half of the posterior chains.
      posterior_samples: exact draws of p(z|x), leaves `[num_chains, ...]`, or `None`.
      num_warmup: transitions of each posterior chain that adapt its step size.
      num_posterior_steps: transitions of each posterior chain after warm-up, half for each part of R-hat.
      num_prior_draws: the number of draws of the prior, the best of which is the start of each other posterior chain.

    Returns:
      The lower and the upper bound, each with the error of its own mean over chains.

    Raises:
      ValueError: `x` or `posterior_samples` has another shape, or a count is too small.
      TypeError: a count is not an integer.
    """
    check_counts(2, num_distributions=num_distributions, num_chains=num_chains)
    check_counts(4, num_posterior_steps=num_posterior_steps)
    check_counts(1, num_warmup=num_warmup, num_prior_draws=num_prior_draws)
    if posterior_samples is not None:
        posterior_samples = _as_vectors(params, x, model, num_chains, posterior_samples)
    model, x = over_vectors(params, key, x, model, "annealed importance sampling", use_encoder)

    posterior_key, pilot_key, *start_keys, forward_key, backward_key = jax.random.split(key, 6)
    base = posterior_of(model, params, x) if use_encoder else prior_of(model, params)
    log_density = log_joint(params, x, model)
    log_base = log_density_of(base)
    path = lambda b: lambda z: (1 - b) * log_base(z) + b * log_density(z)
    pilot_starts = jnp.asarray(base.sample(start_keys[0], (_NUM_PILOT_CHAINS,)))
    temperatures = _temperatures(num_distributions).astype(pilot_starts.dtype)
    step_sizes = _pilot(pilot_key, pilot_starts, path, temperatures)

    starts = jnp.asarray(base.sample(start_keys[1], (num_chains,)))
    weights, acceptance = _walk(forward_key, starts, path, temperatures, step_sizes)
    lower = _mean(weights)._replace(acceptance=acceptance)

    disagreement = None
    if posterior_samples is None:
        options = (num_chains, num_warmup, use_encoder, num_prior_draws)
        posterior_samples, disagreement = _sample_posterior(
            posterior_key, params, x, model, num_posterior_steps, *options
        )
    weights, acceptance = _walk(backward_key, posterior_samples, path, temperatures[::-1], step_sizes[::-1])
    upper = _mean(weights)._replace(acceptance=acceptance, r_hat=disagreement)
    return Sandwich(lower, upper._replace(log_marginal=-upper.log_marginal))


def _as_vectors(params: Params, x: Datapoint, model: Model, num_chains: int, samples: Latents) -> jax.Array:
    """Return draws of z, leaves `[C, ...]`, as vectors `[C, J]`."""
    template = latent_template(bind(model, x)[0], params)
    expected, found = jax.tree.map(lambda leaf: (num_chains, *leaf.shape), template), shapes(samples)
    if found != expected:
        raise ValueError(f"posterior_samples must have shape {expected}, got {found}")
    return jax.vmap(lambda z: ravel_pytree(z)[0])(samples)


def _temperatures(num_distributions: int) -> jax.Array:
    """Return the inverse temperatures from 0 to 1, `[T + 1]`, most closely spaced at both ends."""
    curve = jax.nn.sigmoid(_SIGMOID_RANGE * jnp.linspace(-1.0, 1.0, num_distributions + 1))
    return (curve - curve[0]) / (curve[-1] - curve[0])


def _pilot(key: jax.Array, starts: jax.Array, path: Callable, temperatures: jax.Array) -> jax.Array:
    """Return the step sizes for all intermediate f_t, `[T - 1]`."""

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, jax.Array]:
        positions, step_size = carry
        index, temperature = inputs
        states, acceptance = _transitions(
            jax.random.fold_in(key, index), _init(positions, path(temperature)), path(temperature), step_size
        )
        rate = jnp.maximum(0.1, jax.lax.rsqrt(1.0 + index)).astype(step_size.dtype)
        adapted = hmc.adapted(step_size, jnp.mean(acceptance).astype(step_size.dtype), TARGET_ACCEPTANCE, rate)
        return (states.position, adapted), step_size

    between = temperatures[1:-1]
    initial = jnp.asarray(_INITIAL_STEP_SIZE, starts.dtype)
    return jax.lax.scan(step, (starts, initial), (jnp.arange(len(between)), between))[1]


def _walk(
    key: jax.Array, starts: jax.Array, path: Callable, temperatures: jax.Array, step_sizes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Run chains from the first temperature to the last, in either direction.

    Returns:
      The sums of the changes of log f at every change of temperature, `[C]`, and the mean acceptance probability.
    """

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, jax.Array]:
        states, log_weights = carry
        index, temperature, step_size = inputs
        changed = _init(states.position, path(temperature))
        log_weights = log_weights + changed.log_density - states.log_density
        states, acceptance = _transitions(jax.random.fold_in(key, index), changed, path(temperature), step_size)
        return (states, log_weights), jnp.mean(acceptance)

    between = temperatures[1:-1]
    first = _init(starts, path(temperatures[0]))
    inputs = (jnp.arange(len(between)), between, step_sizes)
    (states, log_weights), acceptances = jax.lax.scan(step, (first, jnp.zeros_like(first.log_density)), inputs)
    last = jax.vmap(path(temperatures[-1]))(states.position)
    return log_weights + last - states.log_density, jnp.mean(acceptances)


def _init(positions: jax.Array, log_density: hmc.LogDensity) -> hmc.HMCState:
    return jax.vmap(lambda z: hmc.init(z, log_density))(positions)


def _transitions(
    key: jax.Array, states: hmc.HMCState, log_density: hmc.LogDensity, step_size: jax.Array
) -> tuple[hmc.HMCState, jax.Array]:
    keys = jax.random.split(key, len(states.log_density))
    return jax.vmap(lambda key, chain: hmc.transition(key, chain, log_density, step_size))(keys, states)


def _mean(log_weights: jax.Array) -> Estimate:
    return log_mean(LogSums(logsumexp(log_weights), logsumexp(2 * log_weights)), len(log_weights))


def _sample_posterior(
    key: jax.Array, params: Params, x: jax.Array, model: Model, num_steps: int, *options
) -> tuple[jax.Array, jax.Array]:
    """Return the last states of several chains, `[num_chains, J]`, and their R-hat."""
    warmup_key, sample_key = jax.random.split(key)
    chains = warm_up(params, warmup_key, x, model, *options)
    log_density = log_joint(params, x, model)

    def half(chains, key: jax.Array):
        chains, _, run = sample(key, chains, log_density, num_steps // 2, lambda nothing, *_: nothing, ())
        return chains, run.moments

    chains, moments = jax.lax.scan(half, chains, jax.random.split(sample_key))
    first, second = (jax.tree.map(lambda a, part=part: a[part], moments) for part in range(2))
    return chains.states.position, r_hat(first, second)
