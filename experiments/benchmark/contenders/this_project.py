"""This project: whole epochs in one compiled program, `aevb.make_train_epochs`."""

import jax
import jax.numpy as jnp

import aevb
from aevb.training.plan import TrainingPlan
from aevb.training.population import make_train_population, stack
from experiments.benchmark.contenders import Train
from experiments.benchmark.workload import Workload, flax_parameters, initial_parameters, pixels, training_images


def build(workload: Workload) -> Train:
    """Build the contender; several members are a population over the same data, scheduled to suit the device."""
    data = jnp.asarray(pixels(workload))
    model = aevb.mlp_vae((data.shape[1],), workload.latent_dim, workload.hidden_dim)
    optimizer = aevb.paper_optimizer(workload.learning_rate)
    algorithm = aevb.auto_encoding(model, optimizer, len(data), map_prior=False)
    parts = initial_parameters(workload, data.shape[1]).items()
    params = jax.tree.map(jnp.asarray, {part: flax_parameters(layers) for part, layers in parts})

    def init(key: jax.Array) -> aevb.TrainState:
        return algorithm.init(key)._replace(params=params)

    if workload.stream:
        return _streaming(workload, model, init(jax.random.key(0)))
    if workload.num_members == 1:
        state = init(jax.random.key(0))
        train_epochs = aevb.make_train_epochs(algorithm, workload.batch_size, workload.binarization)
    else:
        state = stack([init(key) for key in jax.random.split(jax.random.key(0), workload.num_members)])
        train_epochs = make_train_population(algorithm, workload.batch_size, workload.binarization)

    def train(num_epochs: int) -> float:
        nonlocal state
        state, progress = train_epochs(state, data, num_epochs)
        return float(jnp.mean(progress.loss))

    return train


def _streaming(workload: Workload, model: aevb.Model, state: aevb.TrainState) -> Train:
    """Read bytes in the order of each epoch, as with `--stream`."""
    images = training_images(workload)
    stream = aevb.Stream(images.images.reshape(len(images.images), -1), max_value=images.max_value)
    optimizer = aevb.paper_optimizer(workload.learning_rate)
    plan = TrainingPlan.of(
        stream,
        model,
        optimizer=optimizer,
        batch_size=workload.batch_size,
        map_prior=False,
        binarization=workload.binarization,
    )
    train_epochs = plan.compile(state, lambda state, seconds: None)

    def train(num_epochs: int) -> float:
        nonlocal state
        state = train_epochs(state, num_epochs)  # which checks for divergence and so waits
        return float("nan")

    return train
