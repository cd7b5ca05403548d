"""Variational auto-encoders with convolutional networks, for images of any size.

encoder   stride-2 convolutions, residual blocks, dense layers      mean, log sigma^2 = W h + b
decoder   the same in reverse, with transposed convolutions         outputs of the likelihood for every value of x
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.arguments import check_choice, check_counts, check_shape, float_dtype
from aevb.distributions.gaussian import diagonal_gaussian
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model, Params
from aevb.models.families import family
from aevb.networks import ConvolutionalDecoder, ConvolutionalEncoder, WeightInit, Weights


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `convolutional_vae`."""

    data_shape: tuple[int, ...]
    latent_dim: int
    num_channels: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    num_residual_blocks: int
    likelihood: Likelihood
    weights: Weights


@family("convolutional", images=True)
def convolutional_vae(
    data_shape: Sequence[int],
    latent_dim: int,
    num_channels: int | Sequence[int] = 16,
    hidden_dim: int | Sequence[int] = 256,
    num_residual_blocks: int = 1,
    likelihood: str = "bernoulli",
    weight_init: WeightInit = "glorot",
    compute_dtype: str | None = None,
    param_dtype: str = "float32",
) -> Model:
    """Return a variational auto-encoder of images with convolutional networks and the prior p(z) = N(0, I).

    Args:
      data_shape: the shape of one image, `[H, W]` or `[H, W, C]`, of any size.
      latent_dim: J.
      num_channels: the number of channels after each 4x4 convolution of stride 2, one number per halving of the image.
        A single number C halves it twice, to C and 2 C channels. The decoder mirrors the encoder.
      hidden_dim: the number of units of the dense layer between the smallest image and z. A sequence gives one number
        per layer; an empty sequence means no dense layer.
      num_residual_blocks: the number of residual blocks at the smallest image, in the encoder and in the decoder each.
      likelihood: "bernoulli", "gaussian" with a log-variance per value, or another of `aevb.likelihoods`.
      weight_init: "glorot" draws weights by fan-in and fan-out, with biases 0; "normal_0.01" and "normal_0.1" draw
        both with that standard deviation.
      compute_dtype: the dtype of the matrix products, such as "bfloat16"; parameters and densities keep `param_dtype`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": ..., "decoder": ...}`. Equal arguments give the same model.

    Raises:
      ValueError: the shape is not that of an image, a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    check_image_shape(data_shape)
    channels = channels_of(num_channels)
    check_counts(1, latent_dim=latent_dim)
    check_counts(0, num_residual_blocks=num_residual_blocks)
    check_choice("weight_init", weight_init, get_args(WeightInit))
    compute_dtype = None if compute_dtype is None else float_dtype("compute_dtype", compute_dtype)
    return _build(
        _Specification(
            tuple(data_shape),
            latent_dim,
            channels,
            _sizes("hidden_dim", hidden_dim),
            num_residual_blocks,
            LIKELIHOODS.get(likelihood),
            Weights(weight_init, compute_dtype, float_dtype("param_dtype", param_dtype)),
        )
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    height, width, channels = (*spec.data_shape, 1)[:3]
    num_outputs = spec.likelihood.num_outputs
    encoder = ConvolutionalEncoder(
        spec.num_channels, spec.num_residual_blocks, spec.hidden_dims, 2 * spec.latent_dim, spec.weights
    )
    decoder = ConvolutionalDecoder(
        spec.num_channels[::-1],
        spec.num_residual_blocks,
        spec.hidden_dims[::-1],
        (height, width, num_outputs * channels),
        spec.weights,
    )

    def init(key: jax.Array) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        return {
            "encoder": encoder.init(encoder_key, jnp.zeros((height, width, channels)))["params"],
            "decoder": decoder.init(decoder_key, jnp.zeros(spec.latent_dim))["params"],
        }

    def encode(params: Params, x: jax.Array) -> dist.Distribution:
        image = jnp.reshape(x, (height, width, channels))
        return diagonal_gaussian(jnp.asarray(encoder.apply({"params": params["encoder"]}, image)))

    def decode(params: Params, z: jax.Array) -> dist.Distribution:
        outputs = jnp.asarray(decoder.apply({"params": params["decoder"]}, z))
        outputs = arranged_as_image(outputs, num_outputs, spec.data_shape)
        return spec.likelihood.of(outputs).to_event(len(spec.data_shape))

    def prior(params: Params) -> dist.Distribution:
        dtype = jax.tree.leaves(params["decoder"])[0].dtype
        return dist.Normal(jnp.zeros(spec.latent_dim, dtype), jnp.ones(spec.latent_dim, dtype)).to_event(1)

    return Model(init, encode, decode, prior)


def check_image_shape(data_shape: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `data_shape` is `[H, W]` or `[H, W, C]`."""
    check_shape("data_shape", data_shape)
    if len(data_shape) not in (2, 3):
        raise ValueError(f"data_shape must be the shape of an image, [H, W] or [H, W, C], got {list(data_shape)}")


def channels_of(num_channels: int | Sequence[int]) -> tuple[int, ...]:
    """Return the channels after each halving of an image; a single number C means C and 2 C."""
    channels = _sizes("num_channels", num_channels)
    if not channels:
        raise ValueError("num_channels must not be empty")
    return channels if isinstance(num_channels, Sequence) else (channels[0], 2 * channels[0])


def arranged_as_image(outputs: jax.Array, num_outputs: int, data_shape: tuple[int, ...]) -> jax.Array:
    """Rearrange a decoder's outputs `[H, W, num_outputs * C]` to `[num_outputs, *data_shape]` for a likelihood."""
    height, width = outputs.shape[:2]
    by_output = jnp.moveaxis(outputs.reshape(height, width, num_outputs, -1), 2, 0)
    return by_output.reshape(num_outputs, *data_shape)


def _sizes(name: str, sizes: int | Sequence[int]) -> tuple[int, ...]:
    found = tuple(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else (sizes,)
    for size in found:
        check_counts(1, **{name: size})
    return found  # type: ignore[return-value]
