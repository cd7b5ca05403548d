"""Baselines for regression without latents: a Gaussian network and a mixture density network.

Each is an `aevb.Model` whose z has no entries, so that every bound equals log p(y | x). Training, early stopping,
log-likelihoods and predictions therefore use the same functions as models with latents.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.model import Model, Params
from aevb.networks import MLP


def gaussian_network(
    data_shape: tuple[int, ...], condition_shape: tuple[int, ...], hidden_dims: tuple[int, ...]
) -> Model:
    """Return the model p(y | x) = N(y; mean(x), variance(x)), with diagonal variance, given by one network."""

    def density(outputs: jax.Array) -> dist.Distribution:
        mean, log_variance = outputs.reshape(2, *data_shape)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(len(data_shape))

    return _network(density, 2 * math.prod(data_shape), condition_shape, hidden_dims)


def mixture_density_network(
    data_shape: tuple[int, ...], condition_shape: tuple[int, ...], hidden_dims: tuple[int, ...], num_components: int
) -> Model:
    """Return the model p(y | x) = sum_k w_k(x) N(y; mean_k(x), variance_k(x)), given by one network (Bishop 1994).

    The variances are diagonal.
    """

    def density(outputs: jax.Array) -> dist.Distribution:
        logits, rest = jnp.split(outputs, [num_components])
        mean, log_variance = rest.reshape(2, num_components, *data_shape)
        components = dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(len(data_shape))
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), components)

    num_outputs = num_components * (1 + 2 * math.prod(data_shape))
    return _network(density, num_outputs, condition_shape, hidden_dims)


def _network(
    density: Callable[[jax.Array], dist.Distribution],
    num_outputs: int,
    condition_shape: tuple[int, ...],
    hidden_dims: tuple[int, ...],
) -> Model:
    """Return the model whose p(y | x) is `density` applied to the outputs of one network of x."""
    network = MLP(hidden_dims, num_outputs, weight_init="glorot")
    condition_dim = math.prod(condition_shape)
    nothing = dist.Normal(jnp.zeros(0), jnp.ones(0)).to_event(1)

    def init(key: jax.Array) -> Params:
        return {"encoder": {}, "decoder": network.init(key, jnp.zeros(condition_dim))["params"]}

    def decode(params: Params, z: jax.Array, condition: jax.Array) -> dist.Distribution:
        del z
        return density(jnp.asarray(network.apply({"params": params["decoder"]}, condition.reshape(condition_dim))))

    return Model(init, lambda params, y, condition: nothing, decode, lambda params, condition: nothing)
