"""Convolutions of one image `[H, W, C]`, and an encoder and a decoder built from them.

On CPUs a convolution is computed as a matrix product of windows of the image: inside a `lax.scan`, such as the training
loop, XLA runs its own convolutions on one thread there, several times slower (RESULTS.md). Accelerators use
`lax.conv_general_dilated`. The choice depends on the platform that a program is compiled for, not on the one it is
traced on, so that it is also right for exported programs. Parameters and, up to rounding, results are those of
`flax.linen.Conv` and `flax.linen.ConvTranspose` with `padding="SAME"`.
"""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from aevb.networks.mlp import WeightInit, initializers

STRIDE = 2  # the stride of convolutions that halve or double an image
SCALING_SIZE = 4  # the size of their kernels, a multiple of the stride so that all pixels are in equally many windows
RESIDUAL_SIZE = 3
_LAYOUT = ("NHWC", "HWIO", "NHWC")

_by_platform = lax.platform_dependent


def convolve(image: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Return the convolution of an image, zero outside its borders.

    Args:
      image: `[H, W, C]`.
      kernel: `[size, size, C, features]`; `size` is a multiple of `stride`.
      stride: the step from one window to the next.

    Returns:
      `[ceil(H / stride), ceil(W / stride), features]`.
    """
    product = functools.partial(_convolve_by_product, stride=stride)
    native = functools.partial(_convolve_natively, stride=stride)
    return _by_platform(image, kernel, cpu=product, default=native)


def convolve_transposed(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the transposed convolution of stride 2, which doubles an image.

    Args:
      image: `[H, W, C]`.
      kernel: `[4, 4, C, features]`.

    Returns:
      `[2 H, 2 W, features]`.
    """
    return _by_platform(image, kernel, cpu=_transposed_by_product, default=_transposed_natively)


def _convolve_natively(image: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    strides = (stride, stride)
    return lax.conv_general_dilated(image[None], kernel, strides, "SAME", dimension_numbers=_LAYOUT)[0]


def _transposed_natively(image: jax.Array, kernel: jax.Array) -> jax.Array:
    strides = (STRIDE, STRIDE)
    return lax.conv_transpose(image[None], kernel, strides, "SAME", dimension_numbers=_LAYOUT)[0]


def _convolve_by_product(image: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolve with one product `[pixels, size^2 C] @ [size^2 C, features]`.

    When blocks of stride x stride pixels become channels, a kernel with a side of n strides becomes one with a side of
    n and stride 1. It needs n^2 slices of the image instead of size^2.
    """
    size, _, channels, features = kernel.shape
    n = size // stride
    padded = jnp.pad(image, (*(_same_padding(length, size, stride) for length in image.shape[:2]), (0, 0)))
    windows = _windows(_space_to_depth(padded, stride), n)
    blocks = kernel.reshape(n, stride, n, stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return windows @ blocks.reshape(-1, features)


def _transposed_by_product(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve with one product `[pixels, 4 C] @ [4 C, 4 features]`, from 2x2 pixels to 2x2 pixels of the result."""
    _, _, channels, features = kernel.shape
    blocks = kernel.reshape(STRIDE, STRIDE, STRIDE, STRIDE, channels, features)
    blocks = blocks[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5).reshape(-1, STRIDE**2 * features)
    windows = _windows(jnp.pad(image, ((1, 1), (1, 1), (0, 0))), SCALING_SIZE // STRIDE)
    return _depth_to_space(windows @ blocks, STRIDE)[1:-1, 1:-1]


def _same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the numbers of zeros before and after an axis for `padding="SAME"`."""
    total = (-(-length // stride) - 1) * stride + size - length
    return total // 2, total - total // 2


def _windows(image: jax.Array, size: int) -> jax.Array:
    """Return the windows of an image, concatenated along the channels, `[H - size + 1, W - size + 1, size^2 C]`."""
    height, width = (length - size + 1 for length in image.shape[:2])
    return jnp.concatenate([image[i : i + height, j : j + width] for i in range(size) for j in range(size)], axis=-1)


def _space_to_depth(image: jax.Array, block: int) -> jax.Array:
    """Move blocks of pixels into channels, `[H / block, W / block, block^2 C]`."""
    height, width, channels = image.shape
    blocks = image.reshape(height // block, block, width // block, block, channels).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(height // block, width // block, block * block * channels)


def _depth_to_space(image: jax.Array, block: int) -> jax.Array:
    """Move channels into blocks of pixels, `[block H, block W, C / block^2]`."""
    height, width, channels = image.shape
    blocks = image.reshape(height, width, block, block, channels // block**2).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(block * height, block * width, channels // block**2)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The initialization and the dtypes of layers.

    Attributes:
      init: see `convolutional_vae`.
      compute_dtype: the dtype of the products; `None` follows the inputs and parameters.
      param_dtype: the dtype of the parameters.
    """

    init: WeightInit = "glorot"
    compute_dtype: str | None = None
    param_dtype: str = "float32"

    def dense(self, width: int) -> nn.Dense:
        """Return a dense layer, which for an image `[H, W, C]` is a 1x1 convolution."""
        kernel_init, bias_init = initializers(self.init)
        return nn.Dense(
            width, kernel_init=kernel_init, bias_init=bias_init, dtype=self.compute_dtype, param_dtype=self.param_dtype
        )


class Convolution(nn.Module):
    """A layer that applies `convolve` or `convolve_transposed` with its own kernel and bias.

    Attributes:
      features: the number of channels of the result.
      size: the side of the kernel; 4 if transposed.
      stride: the step from one window to the next; 2 if transposed.
      is_transposed: whether the result is larger than the image instead of smaller.
      weights: the initialization and the dtypes.
    """

    features: int
    size: int = SCALING_SIZE
    stride: int = STRIDE
    is_transposed: bool = False
    weights: Weights = Weights()

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Return `[H', W', features]` from `[H, W, C]`."""
        kernel_init, bias_init = initializers(self.weights.init)
        shape = (self.size, self.size, image.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init, shape, self.weights.param_dtype)
        bias = self.param("bias", bias_init, (self.features,), self.weights.param_dtype)
        image, kernel, bias = promote_dtype(image, kernel, bias, dtype=self.weights.compute_dtype)
        if self.is_transposed:
            return convolve_transposed(image, kernel) + bias
        return convolve(image, kernel, self.stride) + bias


class ResidualBlock(nn.Module):
    """The map h + f(h), where f is relu, a 3x3 convolution, relu, a 1x1 convolution (van den Oord et al. 2017, 4.1).

    The 3x3 convolution has half as many channels, but at least one.
    """

    weights: Weights

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Return an image of the same shape."""
        channels = image.shape[-1]
        inner = Convolution(max(1, channels // 2), RESIDUAL_SIZE, stride=1, weights=self.weights)(nn.relu(image))
        return image + self.weights.dense(channels)(nn.relu(inner))


class ConvolutionalEncoder(nn.Module):
    """Convolutions that halve an image, residual blocks at the smallest size, dense layers, and a linear head.

    Attributes:
      num_channels: the number of channels after each halving.
      num_residual_blocks: the number of residual blocks.
      hidden_dims: the width of each dense layer.
      output_dim: the width of the head.
      weights: the initialization and the dtypes.
    """

    num_channels: tuple[int, ...]
    num_residual_blocks: int
    hidden_dims: tuple[int, ...]
    output_dim: int
    weights: Weights

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Return `[output_dim]` from `[H, W, C]`, in `param_dtype` or wider, whatever the dtype of the products."""
        hidden = Convolution(self.num_channels[0], weights=self.weights)(image)
        for channels in self.num_channels[1:]:
            hidden = Convolution(channels, weights=self.weights)(nn.relu(hidden))
        for _ in range(self.num_residual_blocks):
            hidden = ResidualBlock(self.weights)(hidden)
        hidden = nn.relu(hidden).reshape(-1)
        for width in self.hidden_dims:
            hidden = nn.relu(self.weights.dense(width)(hidden))
        return _at_least(self.weights.dense(self.output_dim)(hidden), self.weights.param_dtype)


class ConvolutionalDecoder(nn.Module):
    """The mirrored encoder: dense layers, residual blocks, and convolutions that double an image.

    If the sides of the image are not multiples of the strides, it is cropped from a larger one.

    Attributes:
      num_channels: the number of channels before each doubling.
      num_residual_blocks: the number of residual blocks.
      hidden_dims: the width of each dense layer.
      image_shape: the shape `(H, W, C)` of the result.
      weights: the initialization and the dtypes.
    """

    num_channels: tuple[int, ...]
    num_residual_blocks: int
    hidden_dims: tuple[int, ...]
    image_shape: tuple[int, int, int]
    weights: Weights

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Return `[H, W, C]` from `[J]`, in `param_dtype` or wider, whatever the dtype of the products."""
        height, width, channels = self.image_shape
        scale = STRIDE ** len(self.num_channels)
        smallest = -(-height // scale), -(-width // scale), self.num_channels[0]
        hidden = z
        for size in self.hidden_dims:
            hidden = nn.relu(self.weights.dense(size)(hidden))
        hidden = self.weights.dense(math.prod(smallest))(hidden).reshape(smallest)
        for _ in range(self.num_residual_blocks):
            hidden = ResidualBlock(self.weights)(hidden)
        for features in (*self.num_channels[1:], channels):
            hidden = Convolution(features, is_transposed=True, weights=self.weights)(nn.relu(hidden))
        return _at_least(hidden[:height, :width], self.weights.param_dtype)


def _at_least(outputs: jax.Array, dtype: str) -> jax.Array:
    """Convert outputs to at least this dtype: distributions need more precision than products."""
    return outputs.astype(jnp.promote_types(outputs.dtype, dtype))
