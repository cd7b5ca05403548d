"""This project: whole epochs in one compiled program, in length buckets, with the KL of each step in closed form."""

import jax
import jax.numpy as jnp
import optax

import aevb
from aevb.algorithms import bucketed
from aevb.data import lengths_of
from experiments.benchmark.contenders import Train
from experiments.benchmark.sequence_workload import (
    SequenceWorkload,
    build_model,
    cuts,
    initial_parameters,
    sequences,
)


def build(workload: SequenceWorkload) -> Train:
    """Build the contender, which trains as `experiments.jsb_chorales` does but reports nothing."""
    x = sequences(workload)
    model, optimizer = build_model(workload, x.shape[1:]), optax.adam(workload.learning_rate)
    make = bucketed(cuts(workload, lengths_of(x))) if workload.length_buckets > 1 else aevb.auto_encoding
    algorithm = make(model, optimizer, len(x), map_prior=False)
    params = jax.tree.map(jnp.asarray, initial_parameters(workload, x.shape[1:]))
    state = algorithm.init(jax.random.key(0))._replace(params=params)
    train_epochs, data = aevb.make_train_epochs(algorithm, workload.batch_size), jnp.asarray(x)

    def train(num_epochs: int) -> float:
        nonlocal state
        state, progress = train_epochs(state, data, num_epochs)
        return float(progress.loss)

    return train
