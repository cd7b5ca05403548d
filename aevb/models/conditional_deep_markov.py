"""Deep Markov models given a label: p(x, z | c) of sequences, all classes by the same networks.

prior        p(z_t | z_{t-1}, c), the gated transition of z_{t-1} and c; z_0 is learned, one for each class
likelihood   p(x_t | z_t, c), a network of each step's state and of c
posterior    q(z_t | z_{t-1}, x_t, ..., x_T, c), by a recurrent network that reads x, and c beside it, backwards

The classes share all weights but z_0 and those of the label's own inputs, so that few sequences of each are enough.
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
    """Return a deep Markov model of sequences given a label, whose datapoints are `aevb.Given(x, label)`.

    Its bounds are on log p(x | label) of what was observed of x; `aevb.classify` compares them by Bayes' rule.

    Args:
      data_shape: `[T, D]`, of the longest sequence.
      num_classes: C; a label is an integer from 0 to C - 1. Another label is refused where it is known, and makes the
        bound NaN under `jax.jit`.
      latent_dim: J, the size of each step's state.
      emission_dim: units of the two hidden layers between z_t and x_t.
      transition_dim: units of the hidden layers between z_{t-1} and z_t.
      rnn_dim: units of each recurrent network of q.
      likelihood: as of `deep_markov_vae`.
      posterior: as of `deep_markov_vae`.
      param_dtype: dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are those of `deep_markov_vae` with wider inputs, and `start` is `[C, J]`. Equal arguments
      give the same model.

    Raises:
      ValueError: a shape that is not `[T, D]`, a size that is not positive, fewer than two classes, or an unknown name.
      TypeError: a size that is not an integer.
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
        """Return the parameters of the class's own model: its z_0, and its label where the networks are to read it."""
        theta, label = params["decoder"], one_hot(condition, num_classes, dtype)
        start = jnp.matmul(label, theta["start"], precision=jax.lax.Precision.HIGHEST)
        return {"encoder": params["encoder"], "decoder": theta | {"start": start, "label": label}}

    def encode(params: Params, x: jax.Array, condition: jax.Array) -> dist.Distribution:
        params = given(params, condition)
        # What is read beside a step that was not observed was not observed either: padding stays padding.
        is_seen = ~jnp.all(jnp.isnan(x), axis=-1, keepdims=True)
        label = jnp.where(is_seen, params["decoder"]["label"], jnp.nan)
        return labelled.encode(params, jnp.concatenate([x, label], axis=-1))

    def decode(params: Params, z: jax.Array, condition: jax.Array) -> dist.Distribution:
        return labelled.decode(given(params, condition), z)

    def prior(params: Params, condition: jax.Array) -> dist.Distribution:
        return labelled.prior(given(params, condition))

    return Model(init, encode, decode, prior)
