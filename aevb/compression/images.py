"""Conversion between images and the whole numbers that a model assigns probabilities to."""

import math
from typing import Any, NamedTuple

import numpy as np

from aevb.arguments import describe
from aevb.compression.errors import CompressionError

_ROUNDING = 1e-4  # tolerance in units of 255 x: several roundings of float32
_LARGEST_BYTE = 255


class Values(NamedTuple):
    """Images as the model's whole numbers.

    Attributes:
      x: `[N, D]` uint8, in 0..num_values - 1.
      shape: the shape of one image.
      white: the pixel value that the model sees as its largest value: 1 or 255.
    """

    x: np.ndarray
    shape: tuple[int, ...]
    white: int


def as_values(images: Any, data_shape: tuple[int, ...], num_values: int) -> Values:
    """Return images as whole numbers.

    Args:
      images: `[N, *shape]`: 0 and 1, 0 and 255, intensities of 0 to 255, or k / 255 as floating-point numbers.
      data_shape: the data shape of the model. A flat one, `(D,)`, accepts any shape of D values.
      num_values: the number of possible values: 2 or 256.

    Raises:
      TypeError: `images` is not an array of numbers.
      ValueError: there are no images, or they have another shape or values without a probability under the model.
    """
    images = np.asarray(images)
    if images.dtype.kind not in "buif":
        raise TypeError(f"images must be an array of numbers, got {describe(images)}")
    if images.ndim == 0 or len(images) == 0:
        raise ValueError("images is empty: there is nothing to compress")
    shape = images.shape[1:]
    is_flat = len(data_shape) == 1 and math.prod(shape) == math.prod(data_shape)
    if shape != data_shape and not is_flat:
        raise ValueError(f"each image has shape {shape}, but the model expects shape {data_shape}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= _LARGEST_BYTE):
        raise ValueError(f"images must be in 0 to 255, or in 0 to 1, got values from {low:g} to {high:g}")
    x, white = _binary(images) if num_values == 2 else _bytes(images)
    return Values(x.reshape(len(images), math.prod(data_shape)), shape, white)


def as_images(x: np.ndarray, shape: tuple[int, ...], num_values: int, white: int) -> np.ndarray:
    """Return the model's whole numbers `[N, D]` as images `[N, *shape]` uint8."""
    x = x.astype(np.uint8)
    return (x * np.uint8(white) if num_values == 2 else x).reshape(len(x), *shape)


def pack(x: np.ndarray, num_values: int) -> bytes:
    """Return whole numbers `[n, D]` as bytes, stored without a model."""
    return (np.packbits(x) if num_values == 2 else x.astype(np.uint8)).tobytes()


def unpack(data: bytes, number: int, size: int, num_values: int) -> np.ndarray:
    """Return the whole numbers `[number, size]` that `pack` stored in `data`.

    Raises:
      CompressionError: unused bits are not 0.
    """
    values = np.frombuffer(data, np.uint8)
    if num_values == 2:
        values = np.unpackbits(values)
        if values[number * size :].any():
            raise CompressionError("the file is inconsistent, although its checksum is right: unused bits are not 0")
    return values[: number * size].reshape(number, size)


def _binary(images: np.ndarray) -> tuple[np.ndarray, int]:
    is_one, is_white = images == 1, images == _LARGEST_BYTE
    rest = (images != 0) & ~is_one & ~is_white
    if rest.any() or (is_one.any() and is_white.any()):
        raise ValueError(
            f"images have values between black and white, such as {images[rest | is_one][0]:g}, which have no "
            f"probability under a Bernoulli likelihood: binarize them, or train a model with "
            f"likelihood=discretized_logistic"
        )
    return (is_one | is_white).astype(np.uint8), _LARGEST_BYTE if is_white.any() else 1


def _bytes(images: np.ndarray) -> tuple[np.ndarray, int]:
    if images.dtype.kind != "f":
        return images.astype(np.uint8), 1
    scaled = images.astype(np.float64) * _LARGEST_BYTE
    rounded = np.round(scaled)
    if scaled.max() > _LARGEST_BYTE + 1 or np.abs(scaled - rounded).max() > _ROUNDING:
        wrong = images[np.abs(scaled - rounded) > _ROUNDING]
        shown = f"{(wrong if wrong.size else images).max():g}"
        raise ValueError(
            f"images of floating-point numbers must have values k / 255, k = 0..255, got {shown}: round them with "
            "np.round(255 * x) / 255, or pass pixels of 0 to 255 as integers"
        )
    return rounded.astype(np.uint8), 1
