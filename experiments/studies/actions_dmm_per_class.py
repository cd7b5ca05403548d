"""Train one deep Markov model per class, for `experiments.actions`."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import aevb
from aevb import Given, Model, marginal_likelihood
from aevb.model import Params
from experiments.studies.actions_dmm import CHUNK_SIZE, DeepMarkovSettings, optimizer_of


def build(shape: tuple[int, ...], settings: DeepMarkovSettings) -> Model:
    """Return the model of one class's sequences, of shape `[T, D]`."""
    size = settings.hidden_dim
    return aevb.models.deep_markov_vae(shape, settings.latent_dim, size, size, size, likelihood="gaussian")


def learned_log_likelihoods(
    train: Given, x: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int
) -> np.ndarray:
    """Learn from the labelled sequences `train` and return log p(x | class), `[N, C]` float64, in nats."""
    return log_likelihoods(learn(*train, num_classes, settings, seed), x, settings, seed)


def learn(x: np.ndarray, labels: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int) -> list[Params]:
    """Train one model per class on the sequences of that class.

    Args:
      x: Sequences `[N, T, D]`, NaN after the end of each.
      labels: Integer labels `[N]`; every class must occur.
      num_classes: The number of classes, C.
      settings: Settings of all classes; an epoch is one pass over the sequences of a class.
      seed: Seed for initial weights, shuffles and noise, which differ between classes.

    Returns:
      The parameters of the C classes.

    Raises:
      ValueError: If the training of a class diverges.
    """

    def of_class(key: jax.Array, label: int) -> Params:
        data = jnp.asarray(x[labels == label])
        algorithm, train_epochs = _training(x.shape[1:], settings, len(data))
        state, progress = train_epochs(algorithm.init(key), data, settings.num_epochs)
        if progress.first_bad_step >= 0:
            raise ValueError(f"training of class {label} diverged: try a smaller --learning_rate")
        return state.params

    keys = jax.random.split(jax.random.key(seed), num_classes)
    return [of_class(key, label) for label, key in enumerate(keys)]


def log_likelihoods(params: Sequence[Params], x: np.ndarray, settings: DeepMarkovSettings, seed: int) -> np.ndarray:
    """Estimate log p(x | class) of N sequences, `[N, C]` float64, in nats, by filters with each class's q as proposal.

    All classes of a sequence share the same noise, as in `actions_dmm`.
    """
    model = build(x.shape[1:], settings)

    def of_class(params: Params) -> np.ndarray:
        found = marginal_likelihood.evaluate(
            params, jax.random.key(seed), x, model, "particle", CHUNK_SIZE, num_samples=settings.num_particles
        )
        return np.asarray(found.per_datapoint.log_marginal, np.float64)

    return np.stack([of_class(each) for each in params], axis=1)


@functools.cache  # all seeds, and classes and folds of equal size, share one program
def _training(shape: tuple[int, ...], settings: DeepMarkovSettings, num_sequences: int) -> tuple[aevb.Algorithm, Any]:
    optimizer = optimizer_of(settings, num_sequences)
    algorithm = aevb.auto_encoding(build(shape, settings), optimizer, num_sequences, map_prior=False)
    return algorithm, aevb.make_train_epochs(algorithm, min(settings.batch_size, num_sequences))
