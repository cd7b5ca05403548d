"""Train a deep Markov model given the class and estimate log p(x | class) by particles, for `experiments.actions`."""

import dataclasses

import jax
import numpy as np
import optax

import aevb
from aevb import Given, Model, marginal_likelihood
from aevb.model import Params

_LAST_RATE = 0.05  # final learning rate, as a fraction of the initial one
CHUNK_SIZE = 50  # sequences filtered at a time


@dataclasses.dataclass(frozen=True)
class DeepMarkovSettings:
    """Training settings of a deep Markov model, one for all classes or one per class.

    Attributes:
      latent_dim: The size of the state, J.
      hidden_dim: Units of every hidden layer and recurrent network.
      num_epochs: Training epochs.
      learning_rate: The initial learning rate of AdamW; it decays along a cosine.
      weight_decay: The weight decay of AdamW, applied to all parameters.
      batch_size: Sequences per minibatch.
      num_particles: Particles of the filter that estimates log p(x | class).
    """

    latent_dim: int
    hidden_dim: int
    num_epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    num_particles: int


def build(shape: tuple[int, ...], num_classes: int, settings: DeepMarkovSettings) -> Model:
    """Return the model of sequences of shape `[T, D]`."""
    size = settings.hidden_dim
    return aevb.models.conditional_deep_markov_vae(
        shape, num_classes, settings.latent_dim, size, size, size, likelihood="gaussian"
    )


def learned_log_likelihoods(
    train: Given, x: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int
) -> np.ndarray:
    """Learn from the labelled sequences `train` and return log p(x | class), `[N, C]` float64, in nats."""
    return log_likelihoods(learn(*train, num_classes, settings, seed), x, num_classes, settings, seed)


def learn(x: np.ndarray, labels: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int) -> Params:
    """Train the model on sequences `[N, T, D]` and their classes `[N]`, from weights drawn with `seed`."""
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
    """Return AdamW with a cosine schedule over all epochs of `num_sequences` sequences."""
    num_steps = settings.num_epochs * (num_sequences // min(settings.batch_size, num_sequences))
    rate = optax.cosine_decay_schedule(settings.learning_rate, num_steps, _LAST_RATE)
    return optax.adamw(rate, weight_decay=settings.weight_decay)


def log_likelihoods(
    params: Params, x: np.ndarray, num_classes: int, settings: DeepMarkovSettings, seed: int
) -> np.ndarray:
    """Estimate log p(x | class) of N sequences, `[N, C]` float64, in nats, by a particle filter with q as its proposal.

    All classes of a sequence share the same noise, so that common errors cancel in their differences.
    """
    model = build(x.shape[1:], num_classes, settings)

    def of_class(label: int) -> np.ndarray:
        data = Given(x, np.full(len(x), label, np.int32))
        found = marginal_likelihood.evaluate(
            params, jax.random.key(seed), data, model, "particle", CHUNK_SIZE, num_samples=settings.num_particles
        )
        return np.asarray(found.per_datapoint.log_marginal, np.float64)

    return np.stack([of_class(label) for label in range(num_classes)], axis=1)
