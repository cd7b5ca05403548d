"""Deep Markov models of sequences given a label, p(x, z | c), with the same networks for all classes.

prior        p(z_t | z_{t-1}, c), a gated transition of z_{t-1} and c; z_0 is learned, one per class
likelihood   p(x_t | z_t, c), a network of each step's state and of c
posterior    q(z_t | z_{t-1}, x_t, ..., x_T, c), from a recurrent network that reads x and c backwards

The classes share all weights except z_0 and the weights of the label inputs, so that few sequences per class suffice.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.arguments import check_counts
from aevb.model import Model, Params
from aevb.models.conditional import one_hot
from aevb.models.deep_markov import Specification, networks, specification
from aevb.models.families import family
from aevb.models.recognition import RecurrentPosterior


@family("conditional_deep_markov", labels=True, sequences=True)
def conditional_deep_markov_vae(
    data_shape: Sequence[int],
    num_classes: int,
    latent_dim: int = 32,
    emission_dim: int = 100,
    transition_dim: int = 64,
    rnn_dim: int = 128,
    likelihood: str = "bernoulli",
    posterior: RecurrentPosterior = "structured",
    param_dtype: str = "float32",
) -> Model:
    """Return a deep Markov model of sequences given a label. Its datapoints are `aevb.Given(x, label)`.

    Its bounds are on log p(x | label) of the observed values of x. `aevb.classify` combines them by Bayes' rule.

    Args:
      data_shape: `[T, D]`, where T is the length of the longest sequence.
      num_classes: C. A label is an integer from 0 to C - 1. Any other label raises an error, or makes the bound NaN
        under `jax.jit`.
      latent_dim: J, the size of each step's state.
      emission_dim: the number of units of the two hidden layers between z_t and x_t.
      transition_dim: the number of units of the hidden layers between z_{t-1} and z_t.
      rnn_dim: the number of units of each recurrent network of q.
      likelihood: see `deep_markov_vae`.
      posterior: see `deep_markov_vae`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are those of `deep_markov_vae` with wider inputs, except that `start` is `[C, J]`. Equal
      arguments give the same model.

    Raises:
      ValueError: the shape is not `[T, D]`, a size is not positive, there are fewer than two classes, or a name is
        unknown.
      TypeError: a size is not an integer.
    """
    spec = specification(
        data_shape, latent_dim, emission_dim, transition_dim, rnn_dim, likelihood, posterior, param_dtype
    )
    check_counts(2, num_classes=num_classes)
    return _build(spec, num_classes)


@functools.cache
def _build(spec: Specification, num_classes: int) -> Model:
    dtype, labelled = jnp.dtype(spec.param_dtype), networks(spec, num_classes)

    def init(key: jax.Array) -> Params:
        params = labelled.init(key)
        start = jnp.zeros((num_classes, spec.latent_dim), dtype)
        return params | {"decoder": params["decoder"] | {"start": start}}

    def given(params: Params, condition: Any) -> Params:
        """Return parameters with the z_0 and the one-hot label of a class, for the unconditional networks."""
        theta, label = params["decoder"], one_hot(condition, num_classes, dtype)
        start = jnp.matmul(label, theta["start"], precision=jax.lax.Precision.HIGHEST)
        return {"encoder": params["encoder"], "decoder": theta | {"start": start, "label": label}}

    def encode(params: Params, x: jax.Array, condition: jax.Array) -> dist.Distribution:
        params = given(params, condition)
        # The label is NaN at unobserved steps, so that padding stays padding.
        is_seen = ~jnp.all(jnp.isnan(x), axis=-1, keepdims=True)
        label = jnp.where(is_seen, params["decoder"]["label"], jnp.nan)
        return labelled.encode(params, jnp.concatenate([x, label], axis=-1))

    def decode(params: Params, z: jax.Array, condition: jax.Array) -> dist.Distribution:
        return labelled.decode(given(params, condition), z)

    def prior(params: Params, condition: jax.Array) -> dist.Distribution:
        return labelled.prior(given(params, condition))

    return Model(init, encode, decode, prior)
