"""Learn one hidden Markov model with Gaussian emissions per class, all in one program, for `experiments.actions`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from aevb import Given, hidden_markov
from aevb.hidden_markov import Emission, Parameters
from experiments.studies.actions_data import by_class

_PSEUDO_COUNT = 0.1  # for initial states and transitions


@dataclasses.dataclass(frozen=True)
class HiddenMarkovSettings:
    """Settings of the hidden Markov models, shared by all classes.

    Attributes:
      num_states: The number of states, K.
      variance_floor: The smallest variance of an emission, as a fraction of the variance of the class.
      pseudo_count: Pseudo-steps with the mean and variance of the class that are added to each state.
      num_iterations: EM steps.
      num_restarts: Random starts per class; the one with the highest log-likelihood of the class's sequences is kept.
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
    """Learn from the labelled sequences `train` and return log p(x | class), `[N, C]` float64, in nats."""
    return log_likelihoods(learn(*train, num_classes, settings, seed), x, settings)


def learn(x: np.ndarray, labels: np.ndarray, num_classes: int, settings: HiddenMarkovSettings, seed: int) -> Parameters:
    """Learn one model per class by EM.

    Args:
      x: Sequences `[N, T, D]`, NaN after the end of each.
      labels: Integer labels `[N]`; every class must occur.
      num_classes: The number of classes, C.
      settings: Settings of all classes.
      seed: Seed for the random starts.

    Returns:
      Parameters with leaves `[C, ...]`.
    """
    keys = jax.random.split(jax.random.key(seed), num_classes)
    return _learn(keys, jnp.asarray(by_class(x, labels, num_classes)), settings)


def log_likelihoods(params: Parameters, x: np.ndarray, settings: HiddenMarkovSettings) -> np.ndarray:
    """Return log p(x | class) of N sequences, `[N, C]` float64, in nats; `params` are those that `learn` returns."""
    found = _log_likelihoods(params, jnp.asarray(x), settings.emission)
    return np.asarray(found, np.float64).T


@functools.partial(jax.jit, static_argnames="settings")
def _learn(keys: jax.Array, xs: jax.Array, settings: HiddenMarkovSettings) -> Parameters:
    emission = settings.emission

    def of_start(key: jax.Array, x: jax.Array) -> tuple[Parameters, jax.Array]:
        def step(params: Parameters, _: None) -> tuple[Parameters, None]:
            # The NaN sequences that pad small classes have no effect.
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
