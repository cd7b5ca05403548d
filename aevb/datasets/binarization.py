"""What a pixel becomes before the model sees it. Part of every result: bounds on different targets do not compare."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from aevb.random_bits import fused

Binarization: TypeAlias = Literal["grey", "stochastic", "fixed", "threshold"]

FIXED_SEED = 0
"""The seed of the one draw that "fixed" makes, whatever the seed of the run: the targets are the same for all."""


def check_binarization(binarization: str) -> None:
    """Raises `ValueError` for an unknown name."""
    if binarization not in get_args(Binarization):
        raise ValueError(f"binarization must be one of {get_args(Binarization)}, got {binarization!r}")


def binarize_once(images: jax.Array, binarization: Binarization) -> jax.Array:
    """The part of a binarization that is done before training.

    "fixed" draws each pixel once from Bernoulli(intensity), by `FIXED_SEED` and the image's position, "threshold"
    cuts at one half, and "grey" and "stochastic" leave the images as they are.

    Args:
      images: `[N, ...]`, intensities in [0, 1].
      binarization: which.

    Returns:
      The same shape and dtype.
    """
    check_binarization(binarization)
    if binarization == "fixed":
        return jax.random.bernoulli(jax.random.key(FIXED_SEED), images).astype(images.dtype)
    if binarization == "threshold":
        return (images > 0.5).astype(images.dtype)
    return images


def binarize_batch(key: jax.Array, images: jax.Array, binarization: Binarization) -> jax.Array:
    """The part that is done every time a batch is seen: "stochastic" redraws every pixel; the others do nothing.

    Args:
      key: a typed key.
      images: `[M, ...]`, after `binarize_once`.
      binarization: which.

    Returns:
      The same shape and dtype.
    """
    check_binarization(binarization)
    if binarization == "stochastic":
        targets = jax.random.bernoulli(fused(key), images).astype(images.dtype)
        # Exact for 0 and 1, and too dear for XLA to do twice: without it every use of the targets draws them again.
        return jnp.sqrt(targets)
    return images
