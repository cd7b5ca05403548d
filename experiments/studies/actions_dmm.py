"""One deep Markov model given the class, for `experiments.actions`: its training, and log p(x | class) by particles."""

import dataclasses

import jax
import numpy as np
import optax

import aevb
from aevb import Given, Model, marginal_likelihood
from aevb.model import Params

_LAST_RATE = 0.05  # what the learning rate ends at, of what it starts at
CHUNK_SIZE = 50  # sequences whose particles are in memory at once


@dataclasses.dataclass(frozen=True)
class DeepMarkovSettings:
    """What a deep Markov model of all classes, or one of each, is trained with.

    Attributes:
      latent_dim: J.
      hidden_dim: units of every hidden layer and recurrent network.
      num_epochs: of training.
      learning_rate: the first one of Adam; it falls along a cosine.
      weight_decay: of AdamW, on all parameters.
      batch_size: sequences of a minibatch.
      num_particles: of the filter that estimates log p(x | class).
    """

    latent_dim: int
    hidden_dim: int
    num_epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    num_particles: int


def build(shape: tuple[int, ...], num_classes: int, settings: DeepMarkovSettings) -> Model:
    """Return the model of sequences of the shape `[T, D]`."""
    size = settings.hidden_dim
    return aevb.models.conditional_deep_markov_vae(
        shape, num_classes, settings.latent_dim, size, size, size, likelihood="gaussian"
    )


def learned_log_likelihoods(
    train: Given, x: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int
) -> np.ndarray:
    """Return log p(x | class), `[N, C]` float64, nats, by what is learned from `train`, sequences and their classes."""
    return log_likelihoods(learn(*train, num_classes, settings, seed), x, num_classes, settings, seed)


def learn(x: np.ndarray, labels: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int) -> Params:
    """Train the model on sequences `[N, T, D]` and their classes `[N]`, from weights drawn by `seed`."""
    result = aevb.fit(
        Given(x, labels),
        build(x.shape[1:], num_classes, settings),
        key=jax.random.key(seed),
        optimizer=optimizer_of(settings, len(labels)),
        num_epochs=settings.num_epochs,
        batch_size=min(settings.batch_size, len(labels)),
        map_prior=False,
        eval_every=settings.num_epochs,
        active_units=False,
    )
    return result.state.params


def optimizer_of(settings: DeepMarkovSettings, num_sequences: int) -> optax.GradientTransformation:
    """Return AdamW, whose learning rate falls along a cosine over all epochs of so many sequences."""
    num_steps = settings.num_epochs * (num_sequences // min(settings.batch_size, num_sequences))
    rate = optax.cosine_decay_schedule(settings.learning_rate, num_steps, _LAST_RATE)
    return optax.adamw(rate, weight_decay=settings.weight_decay)


def log_likelihoods(
    params: Params, x: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int
) -> np.ndarray:
    """Return log p(x | class) of N sequences, `[N, C]` float64, nats, by the filter with q for its proposal.

    All classes of a sequence have the same noise, so that what they have in common cancels in their differences.
    """
    model = build(x.shape[1:], num_classes, settings)

    def of_class(label: int) -> np.ndarray:
        data = Given(x, np.full(len(x), label, np.int32))
        found = marginal_likelihood.evaluate(
            params, jax.random.key(seed), data, model, "particle", CHUNK_SIZE, num_samples=settings.num_particles
        )
        return np.asarray(found.per_datapoint.log_marginal, np.float64)

    return np.stack([of_class(label) for label in range(num_classes)], axis=1)
