"""Models of images with levels of latents: convolutions below the lowest level, tanh MLPs between levels."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import get_args

import jax

from aevb.arguments import check_choice, check_counts, float_dtype
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model
from aevb.models.convolutional import arranged_as_image, channels_of, check_image_shape
from aevb.models.families import family
from aevb.models.levels import Inference, Networks, model_of_levels, sizes_of_levels
from aevb.networks import MLP, ConvolutionalDecoder, ConvolutionalEncoder, WeightInit, Weights


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `hierarchical_convolutional_vae`."""

    data_shape: tuple[int, ...]
    latent_dims: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    num_hidden_layers: int
    num_channels: tuple[int, ...]
    num_residual_blocks: int
    inference: Inference
    likelihood: Likelihood
    weights: Weights


@family("hierarchical_convolutional", images=True)
def hierarchical_convolutional_vae(
    data_shape: Sequence[int],
    latent_dim: Sequence[int] = (32, 16),
    hidden_dim: int | Sequence[int] = 256,
    num_hidden_layers: int = 1,
    num_channels: int | Sequence[int] = 16,
    num_residual_blocks: int = 1,
    inference: Inference = "bottom_up",
    likelihood: str = "bernoulli",
    weight_init: WeightInit = "glorot",
    compute_dtype: str | None = None,
    param_dtype: str = "float32",
) -> Model:
    """Return a variational auto-encoder of images with levels of latents z1, ..., zL. Draws of z are dicts by level.

    Args:
      data_shape: the shape of one image, `[H, W]` or `[H, W, C]`, of any size.
      latent_dim: the sizes of two or more levels, the lowest first.
      hidden_dim: the number of units of every dense hidden layer. A sequence gives one number per level, the lowest
        first, for the networks between the level and the one below it.
      num_hidden_layers: the number of dense hidden layers of each network.
      num_channels: the number of channels after each 4x4 convolution of stride 2; see `convolutional_vae`.
      num_residual_blocks: the number of residual blocks at the smallest image, in the encoder and in the decoder each.
      inference: "bottom_up" or "ladder"; see `hierarchical_vae`.
      likelihood: one of `aevb.likelihoods`.
      weight_init: "glorot" draws weights by fan-in and fan-out, with biases 0; "normal_0.01" and "normal_0.1" draw
        both with that standard deviation.
      compute_dtype: the dtype of the matrix products, such as "bfloat16"; parameters and densities keep `param_dtype`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": {"z1": ..., ...}, "decoder": {"likelihood": ..., "z1": ..., ...}}`. Equal
      arguments give the same model.

    Raises:
      ValueError: the shape is not that of an image, there are fewer than two levels, a size is not positive, or a name
        is unknown.
      TypeError: a size is not an integer.
    """
    check_image_shape(data_shape)
    latent_dims, hidden_dims = sizes_of_levels(latent_dim, hidden_dim)
    check_counts(1, num_hidden_layers=num_hidden_layers)
    check_counts(0, num_residual_blocks=num_residual_blocks)
    check_choice("inference", inference, get_args(Inference))
    check_choice("weight_init", weight_init, get_args(WeightInit))
    compute_dtype = None if compute_dtype is None else float_dtype("compute_dtype", compute_dtype)
    return _build(
        _Specification(
            tuple(data_shape),
            latent_dims,
            hidden_dims,
            num_hidden_layers,
            channels_of(num_channels),
            num_residual_blocks,
            inference,
            LIKELIHOODS.get(likelihood),
            Weights(weight_init, compute_dtype, float_dtype("param_dtype", param_dtype)),
        )
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    height, width, channels = (*spec.data_shape, 1)[:3]
    weights, num_layers, num_outputs = spec.weights, spec.num_hidden_layers, spec.likelihood.num_outputs
    mlp = functools.partial(
        MLP, weight_init=weights.init, compute_dtype=weights.compute_dtype, param_dtype=weights.param_dtype
    )
    lowest, *higher = spec.hidden_dims
    of_image = ConvolutionalEncoder(
        spec.num_channels, spec.num_residual_blocks, (lowest,) * (num_layers - 1), lowest, weights
    )
    to_image = ConvolutionalDecoder(
        spec.num_channels[::-1],
        spec.num_residual_blocks,
        (lowest,) * num_layers,
        (height, width, num_outputs * channels),
        weights,
    )

    def arranged(outputs: jax.Array) -> jax.Array:
        return arranged_as_image(outputs, num_outputs, spec.data_shape)

    networks = Networks(
        features=(of_image, *(mlp((units,) * (num_layers - 1), units) for units in higher)),
        posteriors=tuple(mlp((), 2 * size) for size in spec.latent_dims),
        priors=tuple(
            mlp((units,) * num_layers, 2 * size) for units, size in zip(higher, spec.latent_dims, strict=False)
        ),
        likelihood=to_image,
        x_shape=(height, width, channels),
        arranged=arranged,
    )
    return model_of_levels(
        networks, spec.latent_dims, spec.inference, spec.likelihood, len(spec.data_shape), weights.param_dtype
    )
