"""Conditional models p(x, z | c), given a label or any other array, with the networks of Appendix C.

decoder   p(x | z, c)      an MLP of z and c
encoder   q(z | x, c)      an MLP of x and c
prior     p(z | c)         N(0, I), or a diagonal Gaussian whose parameters are an MLP of c
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer

from aevb.arguments import check_choice, check_counts, check_shape, describe, float_dtype
from aevb.distributions.gaussian import diagonal_gaussian
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model, Params
from aevb.models.families import family
from aevb.networks import MLP, WeightInit


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `conditional_vae`."""

    data_shape: tuple[int, ...]
    latent_dim: int
    num_classes: int | None
    condition_shape: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    likelihood: Likelihood
    learned_prior: bool
    weight_init: WeightInit
    compute_dtype: str | None
    param_dtype: str

    @property
    def condition_dim(self) -> int:
        """The number of values of a condition that the networks receive."""
        return math.prod(self.condition_shape) if self.num_classes is None else self.num_classes


@family("conditional", labels=True)
def conditional_vae(
    data_shape: Sequence[int],
    latent_dim: int,
    num_classes: int | None = None,
    condition_shape: Sequence[int] | None = None,
    hidden_dim: int | Sequence[int] = 500,
    likelihood: str = "bernoulli",
    learned_prior: bool = False,
    weight_init: WeightInit = "glorot",
    compute_dtype: str | None = None,
    param_dtype: str = "float32",
) -> Model:
    """Return a model of x given a condition c. Its datapoints are `aevb.Given(x, c)`; its bounds are on log p(x | c).

    Args:
      data_shape: the shape of x, which is flattened for the networks.
      latent_dim: J, the size of z.
      num_classes: the number of classes if c is a label, an integer from 0 to `num_classes - 1`. Any other label raises
        an error, or makes the bound NaN under `jax.jit`.
      condition_shape: the shape of c if it is an array. Exactly one of `num_classes` and `condition_shape` is needed.
      hidden_dim: the number of units of the hidden layer. A sequence gives one number per layer; the decoder mirrors
        the encoder.
      likelihood: the likelihood of x, one of `aevb.likelihoods`.
      learned_prior: whether p(z | c) is a Gaussian whose mean and variance are an MLP of c, instead of N(0, I).
      weight_init: "glorot" draws weights by fan-in and fan-out, with biases 0; "normal_0.01" and "normal_0.1" draw
        both with that standard deviation.
      compute_dtype: the dtype of the matrix products, such as "bfloat16"; parameters and densities keep `param_dtype`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": ..., "decoder": {"likelihood": ..., "prior": ...}}`, with "prior" only for
      a learned prior. Equal arguments give the same model.

    Raises:
      ValueError: neither or both of `num_classes` and `condition_shape` are given, a size is not positive, or a name is
        unknown.
      TypeError: a size is not an integer.
    """
    hidden_dims = tuple(hidden_dim) if isinstance(hidden_dim, Sequence) else (hidden_dim,)
    if (num_classes is None) == (condition_shape is None):
        raise ValueError("give either num_classes, for labels, or condition_shape, for arrays")
    check_shape("data_shape", data_shape)
    check_shape("condition_shape", condition_shape or ())
    check_counts(1, latent_dim=latent_dim, **{f"hidden_dim[{each}]": size for each, size in enumerate(hidden_dims)})
    if num_classes is not None:
        check_counts(2, num_classes=num_classes)
    check_choice("weight_init", weight_init, get_args(WeightInit))
    return _build(
        _Specification(
            tuple(data_shape),
            latent_dim,
            num_classes,
            tuple(condition_shape or ()),
            hidden_dims,
            LIKELIHOODS.get(likelihood),
            learned_prior,
            weight_init,
            None if compute_dtype is None else float_dtype("compute_dtype", compute_dtype),
            float_dtype("param_dtype", param_dtype),
        )
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    mlp = functools.partial(
        MLP, weight_init=spec.weight_init, compute_dtype=spec.compute_dtype, param_dtype=spec.param_dtype
    )
    data_dim, dtype = math.prod(spec.data_shape), jnp.dtype(spec.param_dtype)
    encoder = mlp(spec.hidden_dims, 2 * spec.latent_dim)
    decoder = mlp(spec.hidden_dims[::-1], data_dim * spec.likelihood.num_outputs)
    prior_network = mlp(spec.hidden_dims, 2 * spec.latent_dim) if spec.learned_prior else None

    def init(key: jax.Array) -> Params:
        encoder_key, decoder_key, prior_key = jax.random.split(key, 3)
        condition = jnp.zeros(spec.condition_dim)
        theta = {"likelihood": decoder.init(decoder_key, jnp.zeros(spec.latent_dim + spec.condition_dim))["params"]}
        if prior_network is not None:
            theta["prior"] = prior_network.init(prior_key, condition)["params"]
        phi = encoder.init(encoder_key, jnp.zeros(data_dim + spec.condition_dim))["params"]
        return {"encoder": phi, "decoder": theta}

    def seen(condition: Any) -> jax.Array:
        if spec.num_classes is not None:
            return one_hot(condition, spec.num_classes, dtype)
        if jnp.shape(condition) != spec.condition_shape:
            raise ValueError(f"the condition has shape {jnp.shape(condition)}, but must have {spec.condition_shape}")
        return jnp.reshape(condition, (spec.condition_dim,)).astype(dtype)

    def encode(params: Params, x: jax.Array, condition: jax.Array) -> dist.Distribution:
        inputs = jnp.concatenate([jnp.reshape(x, (data_dim,)), seen(condition)])
        return diagonal_gaussian(jnp.asarray(encoder.apply({"params": params["encoder"]}, inputs)))

    def decode(params: Params, z: jax.Array, condition: jax.Array) -> dist.Distribution:
        inputs = jnp.concatenate([z, seen(condition)])
        outputs = jnp.asarray(decoder.apply({"params": params["decoder"]["likelihood"]}, inputs))
        outputs = outputs.reshape((spec.likelihood.num_outputs, *spec.data_shape))
        return spec.likelihood.of(outputs).to_event(len(spec.data_shape))

    def prior(params: Params, condition: jax.Array) -> dist.Distribution:
        if prior_network is not None:
            return diagonal_gaussian(
                jnp.asarray(prior_network.apply({"params": params["decoder"]["prior"]}, seen(condition)))
            )
        return dist.Normal(jnp.zeros(spec.latent_dim, dtype), jnp.ones(spec.latent_dim, dtype)).to_event(1)

    return Model(init, encode, decode, prior)


def one_hot(label: Any, num_classes: int, dtype: Any) -> jax.Array:
    """Return the one-hot vector `[num_classes]` of a label `[]`, or NaN for a traced label that is out of range.

    Raises:
      TypeError: the label is not an integer.
      ValueError: the label is an array, or out of range.
    """
    if jnp.ndim(label):
        hint = ": jnp.argmax converts a one-hot vector to a label" if jnp.shape(label) == (num_classes,) else ""
        raise ValueError(f"the condition must be one label, an integer, got {describe(label)}{hint}")
    if not jnp.issubdtype(jax.dtypes.result_type(label), jnp.integer):
        raise TypeError(f"the condition must be a label, an integer, got {describe(label)}: use labels.astype(int)")
    if not isinstance(label, Tracer) and not 0 <= int(label) < num_classes:
        raise ValueError(f"the condition must be a label from 0 to {num_classes - 1}, got {int(label)}")
    # Under jit a label cannot be checked; NaN prevents a wrong bound from looking valid.
    is_label = (label >= 0) & (label < num_classes)
    return jnp.where(is_label, jax.nn.one_hot(label, num_classes, dtype=dtype), jnp.nan)
