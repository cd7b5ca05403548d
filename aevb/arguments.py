"""What arguments must be, said before anything is compiled: the checks that several files share."""

from typing import Any

import jax.numpy as jnp
from numpyro.util import is_prng_key


def check_counts(minimum: int, **counts: int) -> None:
    """Fails if one of `counts` is no Python int of at least `minimum`."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(
                f"{name} must be a Python int, got {count!r}: bind it with functools.partial before jax.jit"
            )
        if count < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {count}")


def check_key(key: Any) -> None:
    """Raises `TypeError` unless `key` is one key and not several, nor a number."""
    if not is_prng_key(key):
        raise TypeError(f"key must be one typed key, from jax.random.key or one of jax.random.split, got {key!r}")


def check_floating(dtype: Any) -> None:
    """Raises `ValueError` for data that are not floating-point: as Bernoulli targets, 0 to 255 give no bound at all."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"data must be floating-point, got {dtype}: scale integer pixels to [0, 1] first")
