"""Lossless compression with a trained model: images to about minus their lower bound in bits, and back, bit for bit.

    data = aevb.compression.compress(params, images, model)          # bytes
    images = aevb.compression.decompress(params, data, model)        # the same images, uint8

Bits-back coding (Townsend et al. 2019) with asymmetric numeral systems; of levels of latents, Bit-Swap (Kingma et al.
2019). Models of `aevb.mlp_vae` with a Gaussian q are computed in integers, and their files are the same, byte for byte,
and can be read, on any machine. Those of any other model can be read only where they were written: with the same
versions of JAX and on the same kind of device. Elsewhere they are refused.
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
"""Called after every chunk with the number of images done."""


def compress(params: Params, images: Any, model: Model, *, on_chunk: OnChunk | None = None) -> bytes:
    """Return a file of images, about minus their lower bound in size: 0.18 bits per pixel of binarized MNIST.

    Args:
      params: parameters of `model`.
      images: `[N, ...]`, all of one shape, the model's. For a Bernoulli likelihood 0 and 1, or 0 and 255; for
        likelihoods over 0 to 255 integers, or floating-point numbers k / 255.
      model: with Gaussian latents, diagonal at every level, and a likelihood that is a probability mass: Bernoulli,
        or one over 0 to 255.
      on_chunk: called after every chunk with the number of images done.

    Raises:
      ValueError: there are no images, they have another shape or values that have no probability, or the model has
        no probability mass that can be coded.
      TypeError: `model` is no `Model`, or `images` are no array of numbers.
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
    """Return the images that `compress` made a file of, `[N, ...]` uint8, in their own shape.

    Args:
      params: the parameters that they were compressed with.
      data: the file.
      model: the model that they were compressed with.
      on_chunk: called after every chunk with the number of images done.

    Raises:
      CompressionError: the file is something else, damaged, of another model, or was written where this model
        computes other numbers. It is a `ValueError`.
      TypeError: `model` is no `Model`, or `data` are no bytes.
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
    """What is in a file.

    Attributes:
      num_images: N.
      shape: of one image.
      num_values: of a pixel: 2, or 256.
      num_raw: images that are stored without the model, which would expand them.
      initial_bits: bits that had to be there before the first image; they are part of the file's size.
    """

    num_images: int
    shape: tuple[int, ...]
    num_values: int
    num_raw: int
    initial_bits: int


def summary(params: Params, data: bytes, model: Model) -> Summary:
    """Return what is in a file, without decoding it. Arguments and errors are those of `decompress`."""
    coder, contents = _read(params, data, model)
    num_raw = int(np.count_nonzero(contents.is_raw))
    num_words = 0 if contents.message is None else contents.message.num_seed_words
    return Summary(len(contents.is_raw), contents.shape, coder.num_values, num_raw, 32 * num_words)


def _read(params: Params, data: Any, model: Model) -> tuple[Probabilities, files.Contents]:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data must be bytes, as compress returns them, got {describe(data)}")
    data = bytes(data)
    files.check(data)
    coder, shape = _coder(params, model)
    bits = 1 if coder.num_values == 2 else 8
    contents = files.read(data, coder.digest, coder.environment, len(coder.levels), bits)
    if math.prod(contents.shape) != math.prod(shape):
        raise CompressionError(f"the file has images of shape {contents.shape}, the model's have shape {shape}")
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
        raise CompressionError("the message does not end where it began: the images would be wrong")
    return x


def _coder(params: Params, model: Model) -> tuple[Probabilities, tuple[int, ...]]:
    """Return a model as integers, and the shape of its datapoints."""
    bind(model, None)
    check_params(model, params)
    coder = IntegerModel(params, model) if can_be_integer(model) else CompiledModel(params, model)
    return coder, data_shape(model, params)
