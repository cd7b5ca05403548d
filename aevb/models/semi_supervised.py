"""Semi-supervised models with a class y that is known for few images, and latents z for the variation within it (M2).

    Kingma, Mohamed, Rezende and Welling, "Semi-supervised learning with deep generative models", 2014 (arXiv 1406.5298)

prior       p(y) = 1 / K,  p(z) = N(0, I)
decoder     p(x | y, z)                     an MLP of z and y
encoder     q(y | x) q(z | x, y)            an MLP of x, the classifier, and an MLP of x and y

A datapoint is `Given(x, y)`, where y is -1 if it is unknown, and y is the first level of z. A known y has probability 1
in q and in p, and the bound is on log p(x | y). If y is unknown, the bound is on log p(x).
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer

from aevb.arguments import check_choice, check_counts, check_shape, describe, float_dtype
from aevb.distributions import Chain
from aevb.distributions.gaussian import diagonal_gaussian
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model, Params
from aevb.models.families import family
from aevb.networks import Activation, JoinedMLP, WeightInit

UNKNOWN = -1
"""The label of a datapoint whose class is not known."""

_IMPOSSIBLE = -1e30  # the logit of excluded classes; finite, so that 0 times it is 0


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `semi_supervised_vae`."""

    data_shape: tuple[int, ...]
    latent_dim: int
    num_classes: int
    hidden_dims: tuple[int, ...]
    likelihood: Likelihood
    activation: Activation
    weight_init: WeightInit
    param_dtype: str


@family("semi_supervised", labels=True)
def semi_supervised_vae(
    data_shape: Sequence[int],
    latent_dim: int,
    num_classes: int,
    hidden_dim: int | Sequence[int] = 500,
    likelihood: str = "bernoulli",
    activation: Activation = "softplus",
    weight_init: WeightInit = "glorot",
    param_dtype: str = "float32",
) -> Model:
    """Return M2, a model of x and its class. Its datapoints are `aevb.Given(x, label)`; -1 is an unknown label.

    z is a `Chain` of two levels: the class "y" and the vector "z". `aevb.algorithms.semi_supervised` trains it, and
    `aevb.discrete.class_probabilities` classifies.

    Args:
      data_shape: the shape of x, which is flattened for the networks.
      latent_dim: J, the size of the vector.
      num_classes: K. Labels are integers from 0 to K - 1. Any other label except -1 makes every bound NaN.
      hidden_dim: the number of units of the hidden layer. A sequence gives one number per layer; the decoder mirrors
        the encoder.
      likelihood: the likelihood of x, one of `aevb.likelihoods`.
      activation: the activation of the hidden layers: "softplus" as in the paper, "relu" or "tanh".
      weight_init: "glorot" draws weights by fan-in and fan-out, with biases 0; "normal_0.01" and "normal_0.1" draw
        both with that standard deviation.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": {"y": ..., "z": ...}, "decoder": ...}`. Equal arguments give the same
      model.

    Raises:
      ValueError: a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    hidden_dims = tuple(hidden_dim) if isinstance(hidden_dim, Sequence) else (hidden_dim,)
    check_shape("data_shape", data_shape)
    check_counts(1, latent_dim=latent_dim, **{f"hidden_dim[{each}]": size for each, size in enumerate(hidden_dims)})
    if not hidden_dims:
        raise ValueError("hidden_dim must name at least one hidden layer")
    check_counts(2, num_classes=num_classes)
    check_choice("activation", activation, get_args(Activation))
    check_choice("weight_init", weight_init, get_args(WeightInit))
    return _build(
        _Specification(
            tuple(data_shape),
            latent_dim,
            num_classes,
            hidden_dims,
            LIKELIHOODS.get(likelihood),
            activation,
            weight_init,
            float_dtype("param_dtype", param_dtype),
        )
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    network = functools.partial(
        JoinedMLP, weight_init=spec.weight_init, activation=spec.activation, param_dtype=spec.param_dtype
    )
    data_dim, dtype = math.prod(spec.data_shape), jnp.dtype(spec.param_dtype)
    classifier = network(spec.hidden_dims, spec.num_classes)
    encoder = network(spec.hidden_dims, 2 * spec.latent_dim)
    decoder = network(spec.hidden_dims[::-1], data_dim * spec.likelihood.num_outputs)

    def init(key: jax.Array) -> Params:
        class_key, encoder_key, decoder_key = jax.random.split(key, 3)
        x, z, label = (jnp.zeros(size, dtype) for size in (data_dim, spec.latent_dim, spec.num_classes))
        phi = {
            "y": classifier.init(class_key, x)["params"],
            "z": encoder.init(encoder_key, x, label)["params"],
        }
        return {"encoder": phi, "decoder": decoder.init(decoder_key, z, label)["params"]}

    def one_hot(label: jax.Array) -> jax.Array:
        return jax.nn.one_hot(label, spec.num_classes, dtype=dtype)

    def of_class(label: jax.Array, logits: jax.Array) -> Any:
        """Return the distribution of y: certain if the label is known, otherwise given by the logits."""
        return dist.Categorical(logits=jnp.where(label == UNKNOWN, logits, _certain(label, spec.num_classes, dtype)))

    def encode(params: Params, x: jax.Array, label: jax.Array) -> dist.Distribution:
        phi, flat = params["encoder"], jnp.reshape(x, (data_dim,))

        def vector(before: dict[str, Any]) -> dist.Distribution:
            outputs = jnp.asarray(encoder.apply({"params": phi["z"]}, flat, one_hot(before["y"])))
            return diagonal_gaussian(outputs)

        return Chain(y=of_class(label, jnp.asarray(classifier.apply({"params": phi["y"]}, flat))), z=vector)

    def prior(params: Params, label: jax.Array) -> dist.Distribution:
        standard = dist.Normal(jnp.zeros(spec.latent_dim, dtype), jnp.ones(spec.latent_dim, dtype)).to_event(1)
        return Chain(y=of_class(label, jnp.zeros(spec.num_classes, dtype)), z=standard)

    def decode(params: Params, z: dict[str, Any], label: jax.Array) -> dist.Distribution:
        outputs = jnp.asarray(decoder.apply({"params": params["decoder"]}, z["z"], one_hot(z["y"])))
        outputs = outputs.reshape((spec.likelihood.num_outputs, *spec.data_shape))
        return spec.likelihood.of(outputs).to_event(len(spec.data_shape))

    return Model(init, encode, decode, prior)


def _certain(label: jax.Array, num_classes: int, dtype: Any) -> jax.Array:
    """Return logits `[num_classes]` for a known class, or NaN for a traced label that is out of range.

    Raises:
      TypeError: the label is not an integer.
      ValueError: the label is out of range.
    """
    label = jnp.asarray(label)
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"the label must be an integer, {UNKNOWN} if it is unknown, got {describe(label)}")
    if not isinstance(label, Tracer) and not UNKNOWN <= np.asarray(label) < num_classes:
        raise ValueError(f"the label must be from 0 to {num_classes - 1}, or {UNKNOWN} if it is unknown, got {label}")
    is_label = (label >= 0) & (label < num_classes)
    logits = jnp.where(jnp.arange(num_classes) == label, 0.0, _IMPOSSIBLE)
    return jnp.where(is_label, logits, jnp.nan).astype(dtype)
