"""NumPyro: `SVI` with `Trace_ELBO`, states drawn in its `scan` and scored all at once, one program per epoch.

`Trace_ELBO` estimates the KL divergence from the draw of z, like estimator A of the paper. The networks are the Flax
modules of this project, so only their use differs. All minibatches are as long as the longest sequence.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import flax_module
from numpyro.infer import SVI, Trace_ELBO

from aevb.networks.recurrent import Combiner, Emission, GatedRecurrentUnit, GatedTransition
from experiments.benchmark.contenders import Train
from experiments.benchmark.sequence_workload import SequenceWorkload, initial_parameters, sequences


def build(workload: SequenceWorkload) -> Train:
    """Build the contender; the order of an epoch is drawn on the host, as in NumPyro's examples."""
    data = sequences(workload)
    (num_sequences, _, data_dim), size = data.shape, workload.batch_size
    x, is_there = jnp.asarray(np.nan_to_num(data)), jnp.asarray(~np.isnan(data[..., 0]))
    latent_dim, rnn_dim = workload.latent_dim, workload.rnn_dim
    state_of_one = jnp.zeros(latent_dim)

    def along_time(each: jax.Array) -> jax.Array:
        return jnp.swapaxes(each, 0, 1)

    def model(x: jax.Array, is_there: jax.Array) -> None:
        transition = flax_module("transition", GatedTransition(latent_dim, workload.transition_dim), state_of_one)
        emission = flax_module("emission", Emission(workload.emission_dim, (data_dim, 1)), state_of_one)
        start: Any = numpyro.param("start", state_of_one)
        mask = along_time(is_there)
        # Drawn by the guide; scored below, where the previous steps are known.
        z: Any = numpyro.sample("z", dist.Normal(jnp.zeros((*mask.shape, latent_dim)), 1).to_event(1).mask(False))
        previous = jnp.concatenate([jnp.broadcast_to(start, (1, *z.shape[1:])), z[:-1]])
        numpyro.sample("steps", dist.Normal(*transition(previous)).to_event(1).mask(mask), obs=z)
        keys = dist.Bernoulli(logits=emission(z)[0]).to_event(1)
        numpyro.sample("x", keys.mask(mask), obs=along_time(x))

    def guide(x: jax.Array, is_there: jax.Array) -> None:
        inputs = jnp.concatenate([x, jnp.zeros_like(x)], axis=-1)  # the second half marks missing values: none
        unit = GatedRecurrentUnit(rnn_dim, is_reversed=True)
        backward = flax_module("backward", unit, inputs[0, :1], is_there[0, :1])
        combiner = flax_module("combiner", Combiner(latent_dim), [jnp.zeros(rnn_dim)], state_of_one)
        start: Any = numpyro.param("start", state_of_one)

        def step(previous: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            read, mask = at
            z: Any = numpyro.sample("z", dist.Normal(*combiner([read], previous)).to_event(1).mask(mask))
            return z, None

        states = along_time(jax.vmap(backward)(inputs, is_there))
        scan(step, jnp.broadcast_to(start, (len(x), latent_dim)), (states, along_time(is_there)))

    svi = SVI(model, guide, optax.adam(workload.learning_rate), Trace_ELBO())
    parameters = initial_parameters(workload, data.shape[1:])
    theta, phi = parameters["decoder"], parameters["encoder"]
    networks = {"transition": theta, "emission": theta, "backward": phi, "combiner": phi}
    first = {f"{name}$params": part[name] for name, part in networks.items()} | {"start": theta["start"]}
    state = svi.init(jax.random.key(0), x[:size], is_there[:size], init_params=jax.tree.map(jnp.asarray, first))

    @jax.jit
    def train_epoch(state, batches):
        def step(index, carry):
            total, state = carry
            rows = batches[index]
            state, loss = svi.update(state, x[rows], is_there[rows])
            return total + loss, state

        return jax.lax.fori_loop(0, len(batches), step, (jnp.zeros(()), state))

    generator, num_batches = np.random.default_rng(0), num_sequences // size

    def train(num_epochs: int) -> float:
        nonlocal state
        total = jnp.zeros(())
        for _ in range(num_epochs):
            order = generator.permutation(num_sequences)[: num_batches * size]
            total, state = train_epoch(state, order.reshape(num_batches, size))
        return float(total) / (num_batches * size)

    return train
