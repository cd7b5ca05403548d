"""Binarization of pixels. It is part of every result, because bounds on different targets cannot be compared."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from aevb import sharding
from aevb.arguments import check_choice
from aevb.data.rows import map_value
from aevb.random_bits import fused

Binarization: TypeAlias = Literal["grey", "stochastic", "fixed", "threshold"]

FIXED_SEED = 0
"""The seed of the single draw for "fixed", independent of the seed of the run, so that all runs share the targets."""


def check_binarization(binarization: str) -> None:
    """Raise `ValueError` for an unknown name."""
    check_choice("binarization", binarization, get_args(Binarization))


def check_intensities(data: Any, binarization: Binarization) -> None:
    """Raise `ValueError` if pixels to be binarized are not probabilities. Traced values are not checked."""
    check_binarization(binarization)
    if binarization != "grey":
        map_value(functools.partial(_check_intensities, binarization=binarization), data)


def check_block(block: Any, binarization: Binarization) -> None:
    """Check the intensities of NumPy arrays read by a `Stream`, like `check_intensities` but on the host."""
    if binarization != "grey":
        check = lambda images: _check_range(images.min(), images.max(), binarization) if images.size else None
        map_value(check, block)


def _check_intensities(images: Any, binarization: Binarization) -> Any:
    if not isinstance(images, Tracer) and images.size:
        with jax.ensure_compile_time_eval():  # a constant of a program that is being traced is checked too
            low, high = map(np.asarray, _extremes(images))
        _check_range(low, high, binarization)
    return images


def _check_range(low: np.ndarray, high: np.ndarray, binarization: Binarization) -> None:
    if np.isnan(low) or np.isnan(high):
        raise ValueError(f'data contain NaN, which binarization={binarization!r} would draw as a 0: use "grey"')
    if low < 0 or high > 1:
        raise ValueError(
            f"data range from {low:g} to {high:g}, but binarization={binarization!r} needs probabilities: scale them "
            f"first, for example x / 255 for pixels from 0 to 255"
        )


@jax.jit
def _extremes(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the lowest and the highest value; both are NaN if any value is NaN."""
    is_whole = ~jnp.any(jnp.isnan(images))
    return sharding.gather(tuple(jnp.where(is_whole, each, jnp.nan) for each in (jnp.min(images), jnp.max(images))))


def binarize_once(data: Any, binarization: Binarization) -> Any:
    """Apply the part of a binarization that is done once, before training.

    "fixed" draws each pixel once from Bernoulli(intensity), determined by `FIXED_SEED` and the image's position.
    "threshold" cuts at one half. "grey" and "stochastic" leave the images unchanged.

    Args:
      data: leaves `[N, ...]`, intensities in [0, 1]. Integers and the condition of a `Given` are unchanged.
      binarization: the name of the binarization.

    Returns:
      The data, with the same shapes and dtypes.

    Raises:
      ValueError: the binarization is unknown, or data to be binarized, now or later, are outside [0, 1].
    """
    check_intensities(data, binarization)
    if binarization == "fixed":
        return _drawn(jax.random.key(FIXED_SEED), data)
    if binarization == "threshold":
        return map_value(_cut, data)
    return data


def binarize_batch(key: jax.Array, data: Any, binarization: Binarization) -> Any:
    """Apply the part of a binarization that is done whenever a batch is used: "stochastic" redraws every pixel.

    Args:
      key: a typed key.
      data: leaves `[M, ...]`, or one datapoint, after `binarize_once`.
      binarization: the name of the binarization.

    Returns:
      The data, with the same shapes and dtypes.

    Raises:
      ValueError: the binarization is unknown, or data to be binarized are NaN or outside [0, 1]. Values inside
        `jax.jit` are not checked.
    """
    check_binarization(binarization)
    if binarization == "stochastic":
        check_intensities(data, binarization)
        return map_value(_drawn_once, _drawn(fused(key), data))
    return data


def _drawn_once(targets: jax.Array) -> jax.Array:
    """Return the targets behind a barrier that keeps XLA from drawing them again for every use.

    A square root is exact for 0 and 1. The CPU compiler fuses it with the draw and considers it too expensive to
    repeat. The compilers of accelerators would repeat it, so they get an optimization barrier.
    """
    return jax.lax.platform_dependent(targets, cpu=jnp.sqrt, default=jax.lax.optimization_barrier)


def possible_targets(binarization: Binarization) -> Callable[[Any], Any] | None:
    """Return a function from data, after `binarize_once`, to one possible draw of targets; `None` for the identity.

    The function is deterministic: every pixel that may become 1 does.
    """
    return _possible if binarization == "stochastic" else None


def _possible(data: Any) -> Any:
    return map_value(jnp.ceil, data)


def _cut(images: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(images), images, (images > 0.5).astype(images.dtype))


def _drawn(key: jax.Array, data: Any) -> Any:
    """Draw each floating-point value from Bernoulli(value). Each array after the first has its own key."""
    number = itertools.count()
    of_array = lambda: key if (index := next(number)) == 0 else jax.random.fold_in(key, index)
    return map_value(lambda images: jax.random.bernoulli(of_array(), images).astype(images.dtype), data)
