"""One hidden Markov model with Gaussian emissions per class, for `experiments.actions`: all of them in one program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from aevb import Given, hidden_markov
from aevb.hidden_markov import Emission, Parameters
from experiments.studies.actions_data import by_class

_PSEUDO_COUNT = 0.1  # of starts and transitions


@dataclasses.dataclass(frozen=True)
class HiddenMarkovSettings:
    """What a hidden Markov model of each class is learned with.

    Attributes:
      num_states: K.
      variance_floor: the smallest variance, as a share of that of the class's own steps.
      pseudo_count: steps with the mean and the variance of the class that every state is given.
      num_iterations: steps of EM.
      num_restarts: random starts of each class, of which the one with the highest log p of its sequences is kept.
    """

    num_states: int
    variance_floor: float
    pseudo_count: float
    num_iterations: int
    num_restarts: int

    @property
    def emission(self) -> Emission:
        """The family of emissions."""
        return hidden_markov.gaussian(self.pseudo_count, self.variance_floor)


def learned_log_likelihoods(
    train: Given, x: np.ndarray, num_classes: int, settings: HiddenMarkovSettings, seed: int
) -> np.ndarray:
    """Return log p(x | class), `[N, C]` float64, nats, by what is learned from `train`, sequences and their classes."""
    return log_likelihoods(learn(*train, num_classes, settings, seed), x, settings)


def learn(x: np.ndarray, labels: np.ndarray, num_classes: int, settings: HiddenMarkovSettings, seed: int) -> Parameters:
    """Learn a model of every class by EM.

    Args:
      x: `[N, T, D]`, NaN after the end of each sequence.
      labels: `[N]` integers; every class is there.
      num_classes: C.
      settings: of all classes.
      seed: of the random starts.

    Returns:
      Parameters, `[C, ...]` on every leaf.
    """
    keys = jax.random.split(jax.random.key(seed), num_classes)
    return _learn(keys, jnp.asarray(by_class(x, labels, num_classes)), settings)


def log_likelihoods(params: Parameters, x: np.ndarray, settings: HiddenMarkovSettings) -> np.ndarray:
    """Return log p(x | class) of N sequences, `[N, C]` float64, nats; `params` as from `learn`."""
    found = _log_likelihoods(params, jnp.asarray(x), settings.emission)
    return np.asarray(found, np.float64).T


@functools.partial(jax.jit, static_argnames="settings")
def _learn(keys: jax.Array, xs: jax.Array, settings: HiddenMarkovSettings) -> Parameters:
    emission = settings.emission

    def of_start(key: jax.Array, x: jax.Array) -> tuple[Parameters, jax.Array]:
        def step(params: Parameters, _: None) -> tuple[Parameters, None]:
            # Sequences that are NaN throughout, which fill up small classes, count nothing.
            return hidden_markov.em_step(params, x, emission, _PSEUDO_COUNT)[0], None

        start = hidden_markov.initialize(key, x, settings.num_states, emission)
        params, _ = jax.lax.scan(step, start, length=settings.num_iterations)
        return params, jnp.sum(hidden_markov.log_likelihood(params, x, emission))

    def of_class(key: jax.Array, x: jax.Array) -> Parameters:
        params, found = jax.vmap(of_start, (0, None))(jax.random.split(key, settings.num_restarts), x)
        return jax.tree.map(lambda leaf: leaf[jnp.argmax(found)], params)

    return jax.vmap(of_class)(keys, xs)


@jax.jit
def _log_likelihoods(params: Parameters, x: jax.Array, emission: Emission) -> jax.Array:
    return jax.vmap(lambda params: hidden_markov.log_likelihood(params, x, emission))(params)
