"""Convolutions of one image `[H, W, C]`, and the encoder and decoder that are made of them.

On CPUs a convolution is written as windows of the image and a matrix product: inside a `lax.scan`, as training is, XLA
runs its own convolutions there on one thread, several times slower (RESULTS.md). Accelerators get
`lax.conv_general_dilated`. The platform that a program is compiled for decides, not the one it is traced on, so an
exported program has the right one. Parameters are those of `flax.linen.Conv` and `flax.linen.ConvTranspose` with
`padding="SAME"`, and so are the results, up to rounding.
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

STRIDE = 2  # of the convolutions that halve an image, and of those that double one
SCALING_SIZE = 4  # of their kernels: a multiple of the stride, so that every pixel is in as many windows as any other
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
    """Convolve by one product `[pixels, size^2 C] @ [size^2 C, features]`.

    A kernel of n strides a side, on an image whose blocks of stride x stride pixels have become channels, is a kernel
    of n a side with stride 1: n^2 slices in place of size^2.
    """
    size, _, channels, features = kernel.shape
    n = size // stride
    padded = jnp.pad(image, (*(_same_padding(length, size, stride) for length in image.shape[:2]), (0, 0)))
    windows = _windows(_space_to_depth(padded, stride), n)
    blocks = kernel.reshape(n, stride, n, stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return windows @ blocks.reshape(-1, features)


def _transposed_by_product(image: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve by one product `[pixels, 4 C] @ [4 C, 4 features]`: 2x2 pixels decide 2x2 pixels of the result."""
    _, _, channels, features = kernel.shape
    blocks = kernel.reshape(STRIDE, STRIDE, STRIDE, STRIDE, channels, features)
    blocks = blocks[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5).reshape(-1, STRIDE**2 * features)
    windows = _windows(jnp.pad(image, ((1, 1), (1, 1), (0, 0))), SCALING_SIZE // STRIDE)
    return _depth_to_space(windows @ blocks, STRIDE)[1:-1, 1:-1]


def _same_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis that `padding="SAME"` means."""
    total = (-(-length // stride) - 1) * stride + size - length
    return total // 2, total - total // 2


def _windows(image: jax.Array, size: int) -> jax.Array:
    """Return `[H - size + 1, W - size + 1, size^2 C]`, the windows of an image side by side in its channels."""
    height, width = (length - size + 1 for length in image.shape[:2])
    return jnp.concatenate([image[i : i + height, j : j + width] for i in range(size) for j in range(size)], axis=-1)


def _space_to_depth(image: jax.Array, block: int) -> jax.Array:
    """Return `[H / block, W / block, block^2 C]`."""
    height, width, channels = image.shape
    blocks = image.reshape(height // block, block, width // block, block, channels).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(height // block, width // block, block * block * channels)


def _depth_to_space(image: jax.Array, block: int) -> jax.Array:
    """Return `[block H, block W, C / block^2]`."""
    height, width, channels = image.shape
    blocks = image.reshape(height, width, block, block, channels // block**2).transpose(0, 2, 1, 3, 4)
    return blocks.reshape(block * height, block * width, channels // block**2)


@dataclasses.dataclass(frozen=True)
class Weights:
    """How the parameters of layers are drawn and used.

    Attributes:
      init: see `convolutional_vae`.
      compute_dtype: dtype of the products; `None` follows the inputs and parameters.
      param_dtype: dtype of the parameters.
    """

    init: WeightInit = "glorot"
    compute_dtype: str | None = None
    param_dtype: str = "float32"

    def dense(self, width: int) -> nn.Dense:
        """Return a dense layer, which of an image `[H, W, C]` is a 1x1 convolution."""
        kernel_init, bias_init = initializers(self.init)
        return nn.Dense(
            width, kernel_init=kernel_init, bias_init=bias_init, dtype=self.compute_dtype, param_dtype=self.param_dtype
        )


class Convolution(nn.Module):
    """`convolve` or `convolve_transposed` with a kernel and a bias of its own.

    Attributes:
      features: channels of the result.
      size: side of the kernel; 4 if transposed.
      stride: the step from one window to the next; 2 if transposed.
      is_transposed: whether the result is larger than the image, and not smaller.
      weights: how the parameters are drawn and used.
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
    """h + f(h), where f is relu, a 3x3 convolution, relu, a 1x1 convolution (van den Oord et al. 2017, section 4.1).

    The 3x3 convolution has half of the channels, at least one.
    """

    weights: Weights

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Return an image of the same shape."""
        channels = image.shape[-1]
        inner = Convolution(max(1, channels // 2), RESIDUAL_SIZE, stride=1, weights=self.weights)(nn.relu(image))
        return image + self.weights.dense(channels)(nn.relu(inner))


class ConvolutionalEncoder(nn.Module):
    """Convolutions that halve an image, residual blocks at its smallest, dense layers, and a linear head.

    Attributes:
      num_channels: of the image after each halving.
      num_residual_blocks: how many.
      hidden_dims: the width of each dense layer.
      output_dim: the width of the head.
      weights: how the parameters are drawn and used.
    """

    num_channels: tuple[int, ...]
    num_residual_blocks: int
    hidden_dims: tuple[int, ...]
    output_dim: int
    weights: Weights

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Return `[output_dim]` from `[H, W, C]`, in `param_dtype` or wider whatever the products' dtype."""
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
    """The encoder mirrored: dense layers, residual blocks, and convolutions that double an image.

    An image whose sides are no multiples of the strides is cropped from one whose sides are.

    Attributes:
      num_channels: of the image before each doubling.
      num_residual_blocks: how many.
      hidden_dims: the width of each dense layer.
      image_shape: `(H, W, C)` of the result.
      weights: how the parameters are drawn and used.
    """

    num_channels: tuple[int, ...]
    num_residual_blocks: int
    hidden_dims: tuple[int, ...]
    image_shape: tuple[int, int, int]
    weights: Weights

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Return `[H, W, C]` from `[J]`, in `param_dtype` or wider whatever the products' dtype."""
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
    """Return outputs in the precision that distributions need and products do not."""
    return outputs.astype(jnp.promote_types(outputs.dtype, dtype))
