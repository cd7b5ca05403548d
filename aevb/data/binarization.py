"""What a pixel becomes before the model sees it. Part of every result: bounds on different targets do not compare."""

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
"""The seed of the one draw that "fixed" makes, whatever the seed of the run: the targets are the same for all."""


def check_binarization(binarization: str) -> None:
    """Raise `ValueError` for an unknown name."""
    check_choice("binarization", binarization, get_args(Binarization))


def check_intensities(data: Any, binarization: Binarization) -> None:
    """Raise `ValueError` for pixels that are to become 0 or 1 and are no probabilities; traced ones are not known."""
    check_binarization(binarization)
    if binarization != "grey":
        map_value(functools.partial(_check_intensities, binarization=binarization), data)


def check_block(block: Any, binarization: Binarization) -> None:
    """`check_intensities` of NumPy arrays that a `Stream` has just read: on the host, where they are."""
    if binarization != "grey":
        check = lambda images: _check_range(images.min(), images.max(), binarization) if images.size else None
        map_value(check, block)


def _check_intensities(images: Any, binarization: Binarization) -> Any:
    if not isinstance(images, Tracer) and images.size:
        low, high = map(np.asarray, _extremes(images))
        _check_range(low, high, binarization)
    return images


def _check_range(low: np.ndarray, high: np.ndarray, binarization: Binarization) -> None:
    if np.isnan(low) or np.isnan(high):
        raise ValueError(f'data have NaN, which binarization={binarization!r} would draw as a 0: use "grey"')
    if low < 0 or high > 1:
        raise ValueError(
            f"data range from {low:g} to {high:g}, but binarization={binarization!r} takes each for a probability: "
            f"scale them first, x / 255 for pixels of 0 to 255"
        )


@jax.jit
def _extremes(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the lowest and the highest value; both are NaN where any is."""
    is_whole = ~jnp.any(jnp.isnan(images))
    return sharding.gather(tuple(jnp.where(is_whole, each, jnp.nan) for each in (jnp.min(images), jnp.max(images))))


def binarize_once(data: Any, binarization: Binarization) -> Any:
    """Return the data after the part of a binarization that is done before training.

    "fixed" draws each pixel once from Bernoulli(intensity), by `FIXED_SEED` and the image's position, "threshold"
    cuts at one half, and "grey" and "stochastic" leave the images as they are.

    Args:
      data: leaves `[N, ...]`, intensities in [0, 1]. Integers and the condition of a `Given` are left alone.
      binarization: which.

    Returns:
      The same shapes and dtypes.

    Raises:
      ValueError: an unknown binarization; or data that are to be binarized, now or later, and outside of [0, 1].
    """
    check_intensities(data, binarization)
    if binarization == "fixed":
        return _drawn(jax.random.key(FIXED_SEED), data)
    if binarization == "threshold":
        return map_value(_cut, data)
    return data


def binarize_batch(key: jax.Array, data: Any, binarization: Binarization) -> Any:
    """Return the data after the part that is done every time a batch is seen: "stochastic" redraws every pixel.

    Args:
      key: a typed key.
      data: leaves `[M, ...]`, or one datapoint, after `binarize_once`.
      binarization: which.

    Returns:
      The same shapes and dtypes.

    Raises:
      ValueError: an unknown binarization, or data to be drawn that are NaN or outside of [0, 1]; inside of `jax.jit`
        values are not known.
    """
    check_binarization(binarization)
    if binarization == "stochastic":
        check_intensities(data, binarization)
        return map_value(_drawn_once, _drawn(fused(key), data))
    return data


def _drawn_once(targets: jax.Array) -> jax.Array:
    """Return the targets, so that XLA does not draw them again for every use of them.

    A square root is exact for 0 and 1 and, to a CPU's compiler, too dear to do twice: fused with what draws them. The
    compilers of accelerators would do it twice.
    """
    return jax.lax.platform_dependent(targets, cpu=jnp.sqrt, default=jax.lax.optimization_barrier)


def possible_targets(binarization: Binarization) -> Callable[[Any], Any] | None:
    """Return what makes data, after `binarize_once`, some of the targets that may be drawn of them; `None` for itself.

    It draws nothing: a pixel that may become 1 does.
    """
    return _possible if binarization == "stochastic" else None


def _possible(data: Any) -> Any:
    return map_value(jnp.ceil, data)


def _cut(images: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(images), images, (images > 0.5).astype(images.dtype))


def _drawn(key: jax.Array, data: Any) -> Any:
    """Draw each floating-point value from Bernoulli(value); arrays beyond the first have keys of their own."""
    number = itertools.count()
    of_array = lambda: key if (index := next(number)) == 0 else jax.random.fold_in(key, index)
    return map_value(lambda images: jax.random.bernoulli(of_array(), images).astype(images.dtype), data)
