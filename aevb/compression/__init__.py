"""Lossless compression of images with a trained model, to about minus their lower bound in bits.

    data = aevb.compression.compress(params, images, model)          # bytes
    images = aevb.compression.decompress(params, data, model)        # the same images, uint8

The method is bits-back coding (Townsend et al. 2019) with asymmetric numeral systems, and Bit-Swap (Kingma et al. 2019)
for models with several levels of latents. Models of `aevb.mlp_vae` with a Gaussian q are evaluated in integers: their
files are the same, byte for byte, on any machine and can be read on any machine. The files of any other model can be
read only with the same versions of JAX and on the same kind of device as they were written. Elsewhere they are refused.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aevb.arguments import describe
from aevb.compression import bits_back, files
from aevb.compression.compiled_model import CompiledModel
from aevb.compression.errors import CompressionError
from aevb.compression.images import as_images, as_values, pack, unpack
from aevb.compression.integer_model import IntegerModel, can_be_integer
from aevb.compression.probabilities import Probabilities
from aevb.compression.rans import Stack, random_words
from aevb.model import Model, Params, bind, check_params, data_shape

__all__ = ["CompressionError", "Summary", "compress", "decompress", "summary"]

OnChunk = Callable[[int], None]
"""A function called after every chunk with the number of images done."""


def compress(params: Params, images: Any, model: Model, *, on_chunk: OnChunk | None = None) -> bytes:
    """Compress images to about minus their lower bound in bits: 0.18 bits per pixel for binarized MNIST.

    Args:
      params: parameters of `model`.
      images: images `[N, ...]` of the model's data shape. Their values are 0 and 1, or 0 and 255, for a Bernoulli
        likelihood; for likelihoods over 0 to 255 they are integers, or floating-point numbers k / 255.
      model: a model with diagonal Gaussian latents at every level, and a likelihood that is a probability mass:
        Bernoulli, or one over 0 to 255.
      on_chunk: called after every chunk with the number of images done.

    Returns:
      The contents of the file.

    Raises:
      ValueError: there are no images, they have another shape or values without a probability, or the model has no
        probability mass that can be coded.
      TypeError: `model` is not a `Model`, or `images` is not an array of numbers.
    """
    coder, shape = _coder(params, model)
    values = as_values(images, shape, coder.num_values)
    coded = bits_back.encode(coder, values.x, on_chunk)
    message, raw = None, pack(values.x[coded.is_raw], coder.num_values)
    if not coded.is_raw.all():
        grids = [coded.grids[level] for level in coder.levels]
        stack = coded.stack
        message = files.Message(coded.log2_lanes, stack.num_seed_words, grids, stack.heads, stack.words)
    contents = files.Contents(coder.digest, coder.environment, values.shape, values.white, coded.is_raw, raw, message)
    everything_raw = contents._replace(
        is_raw=np.ones(len(values.x), bool), raw=pack(values.x, coder.num_values), message=None
    )
    return min(files.write(contents), files.write(everything_raw), key=len)


def decompress(params: Params, data: bytes, model: Model, *, on_chunk: OnChunk | None = None) -> np.ndarray:
    """Return the images stored by `compress`, `[N, ...]` uint8, in their original shape.

    Args:
      params: the parameters that the images were compressed with.
      data: the contents of the file.
      model: the model that the images were compressed with.
      on_chunk: called after every chunk with the number of images done.

    Raises:
      CompressionError: the file is damaged, has another format, belongs to another model, or was written in an
        environment where this model computes different numbers. `CompressionError` is a `ValueError`.
      TypeError: `model` is not a `Model`, or `data` is not bytes.
    """
    coder, contents = _read(params, data, model)
    x = np.empty((len(contents.is_raw), coder.data_size), np.uint8)
    num_raw = int(np.count_nonzero(contents.is_raw))
    x[contents.is_raw] = unpack(contents.raw, num_raw, coder.data_size, coder.num_values)
    if contents.message is not None:
        report = None if on_chunk is None else lambda done: on_chunk(num_raw + done)
        x[~contents.is_raw] = _decoded(coder, contents.message, len(x) - num_raw, report)
    return as_images(x, contents.shape, coder.num_values, contents.white)


class Summary(NamedTuple):
    """A summary of a compressed file.

    Attributes:
      num_images: N.
      shape: the shape of one image.
      num_values: the number of possible values of a pixel: 2 or 256.
      num_raw: the number of images stored without the model, because the model would expand them.
      initial_bits: the number of initial bits that the first image needed. They are part of the file's size.
    """

    num_images: int
    shape: tuple[int, ...]
    num_values: int
    num_raw: int
    initial_bits: int


def summary(params: Params, data: bytes, model: Model) -> Summary:
    """Return a summary of a file without decoding it. Arguments and errors are those of `decompress`."""
    coder, contents = _read(params, data, model)
    num_raw = int(np.count_nonzero(contents.is_raw))
    num_words = 0 if contents.message is None else contents.message.num_seed_words
    return Summary(len(contents.is_raw), contents.shape, coder.num_values, num_raw, 32 * num_words)


def _read(params: Params, data: Any, model: Model) -> tuple[Probabilities, files.Contents]:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data must be bytes, as returned by compress, got {describe(data)}")
    data = bytes(data)
    files.check(data)
    coder, shape = _coder(params, model)
    bits = 1 if coder.num_values == 2 else 8
    contents = files.read(data, coder.digest, coder.environment, len(coder.levels), bits)
    if math.prod(contents.shape) != math.prod(shape):
        raise CompressionError(f"the file has images of shape {contents.shape}, but the model expects shape {shape}")
    return coder, contents


def _decoded(coder: Probabilities, message: files.Message, num_coded: int, on_chunk: OnChunk | None) -> np.ndarray:
    """Return the datapoints of a message, `[n, D]`."""
    stack = Stack.of_message(message.heads, message.words)
    grids = dict(zip(coder.levels, message.grids, strict=True))
    x, end = np.empty((num_coded, coder.data_size), np.uint8), num_coded
    for chunk in bits_back.decode(coder, stack, num_coded, grids, message.log2_lanes, on_chunk):
        x[end - len(chunk) : end] = chunk
        end -= len(chunk)
    seed = random_words(message.num_seed_words) if len(stack.words) == message.num_seed_words else None
    if seed is None or not np.array_equal(stack.words[::-1], seed):
        raise CompressionError("the decoded message does not end with the seed: the images would be wrong")
    return x


def _coder(params: Params, model: Model) -> tuple[Probabilities, tuple[int, ...]]:
    """Return the integer distributions of a model, and the shape of its datapoints."""
    bind(model, None)
    check_params(model, params)
    coder = IntegerModel(params, model) if can_be_integer(model) else CompiledModel(params, model)
    return coder, data_shape(model, params)
