"""A deep Markov model for each class, with parameters of its own, for `experiments.actions`."""

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
    """Return the model of one class's sequences, of the shape `[T, D]`."""
    size = settings.hidden_dim
    return aevb.models.deep_markov_vae(shape, settings.latent_dim, size, size, size, likelihood="gaussian")


def learned_log_likelihoods(
    train: Given, x: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int
) -> np.ndarray:
    """Return log p(x | class), `[N, C]` float64, nats, by what is learned from `train`, sequences and their classes."""
    return log_likelihoods(learn(*train, num_classes, settings, seed), x, settings, seed)


def learn(x: np.ndarray, labels: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int) -> list[Params]:
    """Train a model of each class on its own sequences alone.

    Args:
      x: `[N, T, D]`, NaN after the end of each sequence.
      labels: `[N]` integers; every class is there.
      num_classes: C.
      settings: of all classes; an epoch is one over the sequences of a class.
      seed: of initial weights, shuffles and noise, other ones for each class.

    Returns:
      The parameters of each class, C of them.

    Raises:
      ValueError: a class's training has diverged.
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
    """Return log p(x | class) of N sequences, `[N, C]` float64, nats, by the filter with each class's q to propose.

    All classes of a sequence have the same noise, as of one model given the class.
    """
    model = build(x.shape[1:], settings)

    def of_class(params: Params) -> np.ndarray:
        found = marginal_likelihood.evaluate(
            params, jax.random.key(seed), x, model, "particle", CHUNK_SIZE, num_samples=settings.num_particles
        )
        return np.asarray(found.per_datapoint.log_marginal, np.float64)

    return np.stack([of_class(each) for each in params], axis=1)


@functools.cache  # classes and folds of one size, and all seeds, share a program
def _training(shape: tuple[int, ...], settings: DeepMarkovSettings, num_sequences: int) -> tuple[aevb.Algorithm, Any]:
    optimizer = optimizer_of(settings, num_sequences)
    algorithm = aevb.auto_encoding(build(shape, settings), optimizer, num_sequences, map_prior=False)
    return algorithm, aevb.make_train_epochs(algorithm, min(settings.batch_size, num_sequences))
