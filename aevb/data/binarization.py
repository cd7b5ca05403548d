"""What a pixel becomes before the model sees it. Part of every result: bounds on different targets do not compare."""

import itertools
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from aevb.arguments import check_choice
from aevb.data.rows import map_value
from aevb.random_bits import fused

Binarization: TypeAlias = Literal["grey", "stochastic", "fixed", "threshold"]

FIXED_SEED = 0
"""The seed of the one draw that "fixed" makes, whatever the seed of the run: the targets are the same for all."""


def check_binarization(binarization: str) -> None:
    """Raise `ValueError` for an unknown name."""
    check_choice("binarization", binarization, get_args(Binarization))


def binarize_once(data: Any, binarization: Binarization) -> Any:
    """Return the data after the part of a binarization that is done before training.

    "fixed" draws each pixel once from Bernoulli(intensity), by `FIXED_SEED` and the image's position, "threshold"
    cuts at one half, and "grey" and "stochastic" leave the images as they are.

    Args:
      data: leaves `[N, ...]`, intensities in [0, 1]. Integers and the condition of a `Given` are left alone.
      binarization: which.

    Returns:
      The same shapes and dtypes.
    """
    check_binarization(binarization)
    if binarization == "fixed":
        return _drawn(jax.random.key(FIXED_SEED), data)
    if binarization == "threshold":
        return map_value(lambda images: (images > 0.5).astype(images.dtype), data)
    return data


def binarize_batch(key: jax.Array, data: Any, binarization: Binarization) -> Any:
    """Return the data after the part that is done every time a batch is seen: "stochastic" redraws every pixel.

    Args:
      key: a typed key.
      data: leaves `[M, ...]`, or one datapoint, after `binarize_once`.
      binarization: which.

    Returns:
      The same shapes and dtypes.
    """
    check_binarization(binarization)
    if binarization == "stochastic":
        # Exact for 0 and 1, and too dear for XLA to do twice: without it every use of the targets draws them again.
        return map_value(jnp.sqrt, _drawn(fused(key), data))
    return data


def _drawn(key: jax.Array, data: Any) -> Any:
    """Draw each floating-point value from Bernoulli(value); arrays beyond the first have keys of their own."""
    number = itertools.count()
    of_array = lambda: key if (index := next(number)) == 0 else jax.random.fold_in(key, index)
    return map_value(lambda images: jax.random.bernoulli(of_array(), images).astype(images.dtype), data)
