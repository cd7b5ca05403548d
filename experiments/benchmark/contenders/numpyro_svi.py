"""NumPyro as in its own VAE example: `SVI` with `Trace_ELBO`, a whole epoch in a `fori_loop` under `jit`.

`Trace_ELBO` estimates the KL divergence from the draw of z, like estimator A of the paper. The other
contenders compute it exactly.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.contrib.module import flax_module
from numpyro.infer import SVI, Trace_ELBO

from experiments.benchmark.contenders import Train
from experiments.benchmark.flax_network import Network
from experiments.benchmark.workload import Workload, flax_parameters, initial_parameters, pixels


def build(workload: Workload) -> Train:
    """Build the contender; the order of an epoch is drawn on the host, as in the example."""
    data = jnp.asarray(pixels(workload))
    (num_images, data_dim), size, latent_dim = data.shape, workload.batch_size, workload.latent_dim
    encoder, decoder = Network(workload.hidden_dim, 2 * latent_dim), Network(workload.hidden_dim, data_dim)

    def model(batch):
        decode = flax_module("decoder", decoder, input_shape=(latent_dim,))
        with numpyro.plate("images", len(batch)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(latent_dim), 1).to_event(1))
            # Grey pixels are outside the support that would be checked.
            pixel = dist.Bernoulli(logits=decode(z), validate_args=False)
            numpyro.sample("x", pixel.to_event(1), obs=batch)

    def guide(batch):
        encode = flax_module("encoder", encoder, input_shape=(data_dim,))
        mean, log_variance = jnp.split(encode(batch), 2, axis=-1)
        with numpyro.plate("images", len(batch)):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, optax.adagrad(workload.learning_rate, initial_accumulator_value=0.0), Trace_ELBO())
    layers = initial_parameters(workload, data_dim)
    state = svi.init(
        jax.random.key(0),
        data[:size],
        init_params={f"{part}$params": flax_parameters(layers[part]) for part in ("encoder", "decoder")},
    )

    @jax.jit
    def train_epoch(state, data, batches):
        def step(index, carry):
            total, state = carry
            state, loss = svi.update(state, data[batches[index]])
            return total + loss, state

        return jax.lax.fori_loop(0, len(batches), step, (jnp.zeros(()), state))

    generator = np.random.default_rng(0)

    def train(num_epochs: int) -> float:
        nonlocal state
        total = jnp.zeros(())
        num_batches = num_images // size
        for _ in range(num_epochs):
            batches = generator.permutation(num_images)[: num_batches * size].reshape(num_batches, size)
            total, state = train_epoch(state, data, batches)
        return float(total) / (num_batches * size)

    return train
