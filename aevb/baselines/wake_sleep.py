"""The wake-sleep algorithm (Hinton et al. 1995), with the encoder, decoder and optimizer of AEVB (section 5).

It trains the same two networks, but not by one objective. The decoder learns from data, with z from the encoder; the
encoder learns from what the decoder dreams:

    wake    ascend  E_{q(z|x)}[log p(x, z)]   in theta, over data x
    sleep   ascend  E_{p(x, z)}[log q(z|x)]   in phi

The sleep phase descends KL(p(z|x) || q(z|x)) on dreams, where the bound has KL(q(z|x) || p(z|x)) on data.
"""

import jax
import jax.numpy as jnp
import optax

from aevb.model import Model, Params
from aevb.training import Algorithm, descent, standard_normal_log_prior


def wake_sleep(
    model: Model, optimizer: optax.GradientTransformation, dataset_size: int, map_prior: bool = True
) -> Algorithm:
    """Wake-sleep, both phases in one step: a minibatch of data and as many dreams.

    Args:
      model: the four functions. theta and phi must share no parameters: each phase moves its own alone.
      optimizer: any optax transformation.
      dataset_size: N.
      map_prior: whether the wake phase includes log p(theta), weighed 1/N as in AEVB.

    Returns:
      The algorithm, for `aevb.fit` or `aevb.make_train_epochs`.
    """

    def loss(params: Params, key: jax.Array, xs: jax.Array) -> jax.Array:
        # One sum for two objectives: no gradient passes through z of the wake phase to phi, or through the dreams of
        # the sleep phase to theta.
        wake_keys, sleep_keys = jax.random.split(key, (2, xs.shape[0]))
        wake = jnp.mean(jax.vmap(lambda key, x: log_joint(params, key, x, model))(wake_keys, xs))
        sleep = jnp.mean(jax.vmap(lambda key: log_recognition_of_dream(params, key, model))(sleep_keys))
        if map_prior:
            wake += standard_normal_log_prior(params) / dataset_size
        return -(wake + sleep)

    return descent(model, loss, optimizer)


def log_joint(params: Params, key: jax.Array, x: jax.Array, model: Model) -> jax.Array:
    """The wake phase at one datapoint: log p(x, z) in nats, `[]`, at a z of the encoder's that is held fixed."""
    z = jax.lax.stop_gradient(jnp.asarray(model.encode(params, x).sample(key)))
    return jnp.asarray(model.prior(params).log_prob(z)) + model.decode(params, z).log_prob(x)


def log_recognition_of_dream(params: Params, key: jax.Array, model: Model) -> jax.Array:
    """The sleep phase at one dream: log q(z|x) in nats, `[]`, at x and z drawn from the model and held fixed."""
    z_key, x_key = jax.random.split(key)
    z = jnp.asarray(model.prior(params).sample(z_key))
    x = jnp.asarray(model.decode(params, z).sample(x_key), z.dtype)
    z, x = jax.lax.stop_gradient((z, x))
    return jnp.asarray(model.encode(params, x).log_prob(z))
