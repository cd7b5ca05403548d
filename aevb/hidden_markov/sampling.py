"""Sequences drawn from a hidden Markov model."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aevb.arguments import check_counts, check_key
from aevb.hidden_markov.emissions import Emission
from aevb.hidden_markov.parameters import Parameters, check_params


class Sampled(NamedTuple):
    """Draws from p(s) p(x | s).

    Attributes:
      states: `[N, T]` int32.
      x: `[N, T, D]`.
    """

    states: jax.Array
    x: jax.Array


def sample(params: Parameters, key: jax.Array, emission: Emission, num_steps: int, num_sequences: int = 1) -> Sampled:
    """Draw sequences of T steps.

    Args:
      params: the parameters of a model with K states.
      key: a typed key, consumed.
      emission: the family of p(x_t | s_t).
      num_steps: T.
      num_sequences: N.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: a count is below 1, or the parameters are not log-probabilities.
    """
    check_params(params, emission)
    check_key(key)
    check_counts(1, num_steps=num_steps, num_sequences=num_sequences)
    return _sample(params, key, emission, int(num_steps), int(num_sequences))


@functools.partial(jax.jit, static_argnames=("num_steps", "num_sequences"))
def _sample(params: Parameters, key: jax.Array, emission: Emission, num_steps: int, num_sequences: int) -> Sampled:
    distribution = emission.distribution(params.emission)

    def step(state: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        next_key, emission_key = jax.random.split(key)
        # Draws from every state, of which one is selected: parameters need not have K on their leading axes.
        of_each = jnp.asarray(distribution.sample(emission_key, (num_sequences,)))
        x = jnp.take_along_axis(of_each, state[:, None, None], axis=1)[:, 0]
        return jax.random.categorical(next_key, params.log_transition[state]), (state, x)

    first_key, path_key = jax.random.split(key)
    first = jax.random.categorical(first_key, params.log_initial, shape=(num_sequences,))
    _, (states, x) = jax.lax.scan(step, first, jax.random.split(path_key, num_steps))
    return Sampled(states.T.astype(jnp.int32), x.swapaxes(0, 1).astype(params.log_initial.dtype))
