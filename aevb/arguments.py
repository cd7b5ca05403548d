"""What arguments must be, said before anything is compiled: the checks that several files share."""

from typing import Any

import jax.numpy as jnp
from numpyro.util import is_prng_key


def check_integers(**values: int) -> None:
    """Raises `TypeError` if one of `values` is no Python int."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(
                f"{name} must be a Python int, got {value!r}: bind it with functools.partial before jax.jit"
            )


def check_counts(minimum: int, **counts: int) -> None:
    """Raises `TypeError` or `ValueError` if one of `counts` is no Python int of at least `minimum`."""
    check_integers(**counts)
    for name, count in counts.items():
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
