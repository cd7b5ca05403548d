"""The wake-sleep algorithm (Hinton et al. 1995), with the encoder, decoder and optimizer of AEVB (section 5).

It trains the same two networks, but with two objectives. The decoder learns from data, with z from the encoder; the
encoder learns from dreams, draws of (x, z) from the generative model:

    wake    maximize  E_{q(z|x)}[log p(x, z)]   in theta, over data x
    sleep   maximize  E_{p(x, z)}[log q(z|x)]   in phi

The sleep phase minimizes KL(p(z|x) || q(z|x)) on dreams, whereas the bound has KL(q(z|x) || p(z|x)) on data.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from aevb.algorithms.base import Algorithm, descent, standard_normal_log_prior
from aevb.arguments import check_counts, check_key
from aevb.distributions import Observed
from aevb.model import (
    Datapoint,
    Model,
    Params,
    bind,
    check_arguments,
    check_model,
    likelihood_of,
    posterior_of,
    prior_of,
)


def wake_sleep(
    model: Model, optimizer: optax.GradientTransformation, dataset_size: int, map_prior: bool = True
) -> Algorithm:
    """Return wake-sleep with both phases in one step: one dream per datapoint of the minibatch.

    If the model takes a condition, dreams are drawn given the conditions of the minibatch. Values that are missing from
    a datapoint (`Observed`) are missing from its dream.

    Args:
      model: the four functions. Each phase trains only its own parameters. If q(z|x) depends on theta too, as in a
        ladder, the sleep phase does not change theta, `params["decoder"]`.
      optimizer: any optax transformation.
      dataset_size: N.
      map_prior: whether the wake phase includes log p(theta), with the weight 1/N as in AEVB.

    Returns:
      The algorithm, for `aevb.fit` or `aevb.make_train_epochs`.
    """
    check_model(model)
    check_counts(1, dataset_size=dataset_size)

    def loss(params: Params, key: jax.Array, xs: Datapoint) -> jax.Array:
        check_key(key)
        # The two objectives can be summed: in the wake phase no gradient passes through z to phi, and in the sleep
        # phase none passes through the dreams to theta.
        wake_keys, sleep_keys = jax.random.split(key, (2, len(jax.tree.leaves(xs)[0])))
        wake = jnp.mean(jax.vmap(lambda key, x: log_joint(params, key, x, model))(wake_keys, xs))
        sleep = jnp.mean(jax.vmap(lambda key, x: log_recognition_of_dream(params, key, x, model))(sleep_keys, xs))
        if map_prior:
            wake += standard_normal_log_prior(params) / dataset_size
        return -(wake + sleep)

    return descent(model, loss, optimizer)


def log_joint(params: Params, key: jax.Array, x: Datapoint, model: Model) -> jax.Array:
    """Return the wake objective at one datapoint: log p(x, z) in nats, `[]`, at a fixed z drawn from the encoder."""
    check_arguments(params, key, x, model)
    model, x = bind(model, x)
    z = jax.lax.stop_gradient(posterior_of(model, params, x).sample(key))
    return jnp.asarray(prior_of(model, params).log_prob(z)) + likelihood_of(model, params, z).log_prob(x)


def log_recognition_of_dream(params: Params, key: jax.Array, x: Datapoint, model: Model) -> jax.Array:
    """Return the sleep objective at one dream: log q(z|dream) in nats, `[]`, at a fixed dream and its z.

    Only the condition of `x` and which of its values are missing are used.
    """
    z_key, dream_key = jax.random.split(key)
    model, x = bind(model, x)
    z = prior_of(model, params).sample(z_key)
    likelihood = likelihood_of(model, params, z)
    dream = _like(x, likelihood.sample(dream_key), isinstance(likelihood, Observed))
    z, dream = jax.lax.stop_gradient((z, dream))
    return jnp.asarray(posterior_of(model, _with_theta_held(params), dream).log_prob(z))


def _with_theta_held(params: Params) -> Params:
    """Return the parameters with the gradient of theta stopped."""
    if not isinstance(params, dict) or "decoder" not in params:
        return params
    return {**params, "decoder": jax.lax.stop_gradient(params["decoder"])}


def _like(x: Datapoint, dream: Datapoint, may_be_missing: bool) -> Any:
    """Return the dream with the dtypes of the data, and with NaN where the data have NaN."""

    def one(seen: jax.Array, dreamt: jax.Array) -> jax.Array:
        dreamt = jnp.asarray(dreamt, seen.dtype)
        return jnp.where(jnp.isnan(seen), jnp.nan, dreamt) if may_be_missing else dreamt

    return jax.tree.map(one, x, dream)
