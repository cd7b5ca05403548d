"""Decoding, the second of Rabiner's (1989) problems: Viterbi's algorithm for the most probable path of states."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from aevb.hidden_markov.emissions import Emission
from aevb.hidden_markov.inference import emissions_of, is_there
from aevb.hidden_markov.parameters import Parameters, checked


class Decoded(NamedTuple):
    """The most probable path of each sequence.

    Attributes:
      states: `[N, T]` int32 from 0 to K - 1; -1 after the end of a sequence.
      log_joint: log p(x, states), `[N]`, nats.
    """

    states: jax.Array
    log_joint: jax.Array


def viterbi(params: Parameters, x: ArrayLike, emission: Emission, lengths: Any = None) -> Decoded:
    """Return the path of states with the highest p(s | x).

    This is one joint path. The most probable state at each step follows from `smooth_states` instead. Arguments and
    errors are those of `log_likelihood`.
    """
    return _viterbi(params, *checked(params, x, emission, lengths), emission)


@jax.jit
def _viterbi(params: Parameters, x: jax.Array, lengths: jax.Array, emission: Emission) -> Decoded:
    log_emissions = emissions_of(params, x, emission)
    stay = jnp.arange(log_emissions.shape[-1])

    def forward(best: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        log_emission, is_before_end = inputs
        scores = best[:, :, None] + params.log_transition
        best = jnp.where(is_before_end[:, None], jnp.max(scores, 1) + log_emission, best)
        return best, jnp.where(is_before_end[:, None], jnp.argmax(scores, 1), stay)

    def backward(state: jax.Array, came_from: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.take_along_axis(came_from, state[:, None], axis=1)[:, 0], state

    is_before_end = is_there(x, lengths)
    first = params.log_initial + log_emissions[:, 0]
    best, came_from = jax.lax.scan(forward, first, (log_emissions[:, 1:].swapaxes(0, 1), is_before_end[:, 1:].T))
    start, rest = jax.lax.scan(backward, jnp.argmax(best, -1), came_from, reverse=True)
    states = jnp.concatenate([start[:, None], rest.T], axis=1).astype(jnp.int32)
    return Decoded(jnp.where(is_before_end, states, -1), jnp.where(lengths > 0, jnp.max(best, -1), 0))
