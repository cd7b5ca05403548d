"""Flax and optax as most training scripts use them: a jitted step, fed by the host with NumPy minibatches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from experiments.benchmark.contenders import Train
from experiments.benchmark.flax_network import Network
from experiments.benchmark.workload import Workload, flax_parameters, initial_parameters, pixels


class _Vae(nn.Module):
    hidden_dim: int
    latent_dim: int
    data_dim: int

    def setup(self):
        self.encoder = Network(self.hidden_dim, 2 * self.latent_dim)
        self.decoder = Network(self.hidden_dim, self.data_dim)

    def __call__(self, x, key):
        mean, log_variance = jnp.split(self.encoder(x), 2, axis=-1)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        return self.decoder(z), mean, log_variance


@jax.jit
def _train_step(state, x, key):
    def compute_loss(params):
        logits, mean, log_variance = state.apply_fn({"params": params}, x, key)
        negative_reconstruction = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, x))
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)
        return (negative_reconstruction + kl) / len(x)

    loss, gradient = jax.value_and_grad(compute_loss)(state.params)
    return state.apply_gradients(grads=gradient), loss


def build(workload: Workload) -> Train:
    """Build the contender; losses stay on the device until the epochs are over, so no step waits for the one before."""
    data = pixels(workload)
    model = _Vae(workload.hidden_dim, workload.latent_dim, data.shape[1])
    parts = initial_parameters(workload, data.shape[1]).items()
    params = jax.tree.map(jnp.asarray, {part: flax_parameters(layers) for part, layers in parts})
    optimizer = optax.adagrad(workload.learning_rate, initial_accumulator_value=0.0)
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)
    size, generator, key = workload.batch_size, np.random.default_rng(0), jax.random.key(0)

    def train(num_epochs: int) -> float:
        nonlocal state, key
        losses = []
        for _ in range(num_epochs):
            order, losses = generator.permutation(len(data)), []
            for start in range(0, len(data) - size + 1, size):
                key, step_key = jax.random.split(key)
                state, loss = _train_step(state, data[order[start : start + size]], step_key)
                losses.append(loss)
        return float(np.mean(losses))

    return train
