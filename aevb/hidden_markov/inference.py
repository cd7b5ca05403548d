"""Evaluation, the first of Rabiner's (1989) problems: the forward algorithm and its gradient.

With a_t(i) = log p(s_t = i | x_1..x_t), the transition probabilities A and b_t(j) = log p(x_t | s_t = j),

    log p(s_t = j, x_t | x_1..x_{t-1}) = log sum_i exp(a_{t-1}(i)) A_ij + b_t(j).

The log-sum-exp over j is log p(x_t | x_1..x_{t-1}), and these add up to log p(x). The sum over i is a matrix product of
probabilities. b and a stay in log space, so that they do not underflow for any number of values per step. A state whose
predicted probability is below the smallest float (e^-87, in double precision e^-708) counts as impossible.

There is no backward algorithm. The derivatives of log p(x) in log p(s_1), log A and b are the expected numbers of
starts, transitions and visits given x, which is the E-step. They are computed by reverse-mode differentiation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from aevb.hidden_markov.emissions import Emission, log_likelihoods
from aevb.hidden_markov.parameters import Parameters, checked


class Filtered(NamedTuple):
    """The distribution of each state given the observations up to it.

    Attributes:
      log_likelihood: log p(x), `[N]`, nats.
      log_probabilities: log p(s_t | x_1..x_t), `[N, T, K]`; NaN after the end of a sequence.
    """

    log_likelihood: jax.Array
    log_probabilities: jax.Array


class ExpectedCounts(NamedTuple):
    """The E-step: expected counts of starts, transitions and visits of states, given x.

    Attributes:
      log_likelihood: log p(x), `[N]`, nats.
      initial: the expected number of sequences that start in each state, `[K]`.
      transition: the expected number of times that state i is followed by state j, `[K, K]`.
      states: p(s_t | x), `[N, T, K]`, 0 after the end of a sequence.
    """

    log_likelihood: jax.Array
    initial: jax.Array
    transition: jax.Array
    states: jax.Array


def log_likelihood(params: Parameters, x: ArrayLike, emission: Emission, lengths: Any = None) -> jax.Array:
    """Return log p(x) of each sequence, in nats, by the forward algorithm. It is differentiable in the parameters.

    Args:
      params: the parameters of a model with K states.
      x: sequences `[N, T, D]`, NaN after their ends and where a value was not observed.
      emission: the family of p(x_t | s_t), such as `bernoulli()`.
      lengths: `[N]` integers. By default each sequence ends with its last step with an observed value. Steps after that
        do not change log p(x).

    Returns:
      log p(x), `[N]`; -inf if x is impossible.

    Raises:
      TypeError: `x` is not an array of floating point numbers, or `params` or `emission` has the wrong type.
      ValueError: the shapes do not match, no state can emit a value, or the parameters are not log-probabilities.
    """
    return _log_likelihood(params, *checked(params, x, emission, lengths), emission)


def filter_states(params: Parameters, x: ArrayLike, emission: Emission, lengths: Any = None) -> Filtered:
    """Return p(s_t | x_1..x_t) for every step, and log p(x). Arguments and errors are those of `log_likelihood`.

    Steps between the last observed step and the end given by `lengths` are forecasts.
    """
    return _filtered(params, *checked(params, x, emission, lengths), emission)


def smooth_states(params: Parameters, x: ArrayLike, emission: Emission, lengths: Any = None) -> jax.Array:
    """Return p(s_t | x), given the whole sequence, `[N, T, K]`; NaN after the end.

    Arguments and errors are those of `log_likelihood`.
    """
    sequences, lengths = checked(params, x, emission, lengths)
    states = expected_counts_of(params, sequences, lengths, emission).states
    return jnp.where(is_there(sequences, lengths)[..., None], states, jnp.nan)


def expected_counts(params: Parameters, x: ArrayLike, emission: Emission, lengths: Any = None) -> ExpectedCounts:
    """Return the result of Baum and Welch's E-step. Arguments and errors are those of `log_likelihood`."""
    return expected_counts_of(params, *checked(params, x, emission, lengths), emission)


@jax.jit
def expected_counts_of(params: Parameters, x: jax.Array, lengths: jax.Array, emission: Emission) -> ExpectedCounts:
    """Return the result of the E-step for arguments that have been checked."""

    def total(log_initial: jax.Array, log_transition: jax.Array, log_emissions: jax.Array) -> tuple:
        each, _ = forward(log_initial, log_transition, log_emissions, lengths)
        return jnp.sum(each), each

    log_emissions = emissions_of(params, x, emission)
    gradient = jax.grad(total, (0, 1, 2), has_aux=True)
    counts, each = gradient(params.log_initial, params.log_transition, log_emissions)
    return ExpectedCounts(each, *counts)


def emissions_of(params: Parameters, x: jax.Array, emission: Emission) -> jax.Array:
    """Return log p(x_t | s_t) for every state, `[N, T, K]`, in nats."""
    return log_likelihoods(emission, params.emission, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)


def is_there(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Return whether each step is before the end of its sequence, `[N, T]`."""
    return jnp.arange(x.shape[1]) < lengths[:, None]


@jax.jit
def _log_likelihood(params: Parameters, x: jax.Array, lengths: jax.Array, emission: Emission) -> jax.Array:
    log_emissions = emissions_of(params, x, emission)
    return forward(params.log_initial, params.log_transition, log_emissions, lengths)[0]


@jax.jit
def _filtered(params: Parameters, x: jax.Array, lengths: jax.Array, emission: Emission) -> Filtered:
    log_emissions = emissions_of(params, x, emission)
    found, path = forward(params.log_initial, params.log_transition, log_emissions, lengths)
    return Filtered(found, jnp.where(is_there(x, lengths)[..., None], path, jnp.nan))


def forward(
    log_initial: jax.Array, log_transition: jax.Array, log_emissions: jax.Array, lengths: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return log p(x), `[N]`, and log p(s_t | x_1..x_t), `[N, T, K]`, from log p(x_t | s_t), `[N, T, K]`."""
    transition = jnp.exp(log_transition)
    num_steps = log_emissions.shape[1]

    def update(log_predicted: jax.Array, log_emission: jax.Array) -> tuple[jax.Array, jax.Array]:
        joint = log_predicted + log_emission
        log_step = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
        return joint - jnp.where(jnp.isfinite(log_step), log_step, 0), log_step[:, 0]

    def step(carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, jax.Array]) -> tuple:
        filtered, log_p = carry
        log_emission, is_before_end = inputs
        predicted = jnp.matmul(jnp.exp(filtered), transition, precision=jax.lax.Precision.HIGHEST)
        following, log_step = update(_log_or_impossible(predicted), log_emission)
        filtered = jnp.where(is_before_end[:, None], following, filtered)
        return (filtered, log_p + jnp.where(is_before_end, log_step, 0)), filtered

    first, log_first = update(log_initial, log_emissions[:, 0])
    start = (first, jnp.where(lengths > 0, log_first, 0))
    is_before_end = jnp.arange(1, num_steps)[:, None] < lengths
    (_, log_p), rest = jax.lax.scan(step, start, (log_emissions[:, 1:].swapaxes(0, 1), is_before_end))
    return log_p, jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)


def _log_or_impossible(probability: jax.Array) -> jax.Array:
    """Return the logarithm, or -inf below the smallest normal float: its reciprocal would overflow in the gradient."""
    is_possible = probability >= jnp.finfo(probability.dtype).tiny
    return jnp.where(is_possible, jnp.log(jnp.where(is_possible, probability, 1)), -jnp.inf)
