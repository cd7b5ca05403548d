"""Argument checks shared by several files. Each raises a one-line error before anything is compiled."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

_LONGEST = 60  # characters of a value shown in a message


def check_integers(**values: Any) -> None:
    """Raise `TypeError` unless all `values` are Python or NumPy integers."""
    for name, value in values.items():
        if not is_integer(value):
            hint = ": bind it with functools.partial before jax.jit" if isinstance(value, Tracer) else ""
            raise TypeError(f"{name} must be an integer, got {describe(value)}{hint}")


def check_counts(minimum: int, **counts: Any) -> None:
    """Raise `TypeError` or `ValueError` unless all `counts` are integers of at least `minimum`."""
    check_integers(**counts)
    for name, count in counts.items():
        if count < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {count}")


def check_shape(name: str, shape: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `shape` is a possibly empty sequence of positive integers."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"{name} must be a sequence of sizes, like the shape of an array, got {describe(shape)}")
    check_counts(1, **{f"{name}[{axis}]": size for axis, size in enumerate(shape)})


def float_dtype(name: str, dtype: Any) -> str:
    """Return the name of a floating-point dtype.

    Raises:
      ValueError: the dtype is unknown or not floating-point.
    """
    try:
        found = jnp.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # NumPy reads a string with a comma as fields
        raise ValueError(f"{name} must be float32, bfloat16, float16 or float64, got {describe(dtype)}") from None
    if not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"{name} must be float32, bfloat16, float16 or float64, got {found.name}")
    return found.name


def check_key(key: Any, name: str = "key") -> None:
    """Raise `TypeError` unless `key` is one typed key."""
    wanted = f"{name} must be one typed key, such as jax.random.key(0)"
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if dtype == np.uint32 and shape == (2,):
            raise TypeError(f"{wanted}, got an old-style key: jax.random.wrap_key_data converts it")
        raise TypeError(f"{wanted}, got {describe(key)}")
    if not isinstance(key, Tracer) and key.is_deleted():
        raise ValueError(f"{name} was part of a state that a training step consumed: split a key before using it twice")
    if shape != ():
        raise TypeError(f"{wanted}, got keys of shape {shape}: jax.vmap over them, or take one")


def check_not_donated(tree: Any, name: str) -> None:
    """Raise `ValueError` if a training step reused the buffers of arrays in `tree`."""
    buffers = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    if any(not isinstance(buffer, Tracer) and buffer.is_deleted() for buffer in buffers):
        raise ValueError(
            f"the buffers of {name} are gone because a training step reused them: continue from the state that it "
            f"returned, or keep a copy, jax.tree.map(jnp.copy, {name})"
        )


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def describe_shapes(shapes: Any) -> str:
    """Describe the shapes of a pytree, or only how many arrays it has if the shapes would be too long."""
    text = f"shape {shapes}"
    is_long = len(text) > _LONGEST or isinstance(shapes, list)
    return f"{len(jax.tree.leaves(shapes, is_leaf=_is_shape))} arrays in {describe(shapes)}" if is_long else text


def check_optimizer(optimizer: Any) -> None:
    """Raise `TypeError` unless `optimizer` is an optax transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        called = f"{optimizer.__name__}(1e-3)" if callable(optimizer) and hasattr(optimizer, "__name__") else None
        example = f"call it, optax.{called}" if called else "pass optax.adam(1e-3), for example"
        raise TypeError(f"optimizer must be an optax transformation, got {describe(optimizer)}: {example}")


def describe(value: Any) -> str:
    """Describe `value` in a few words, whatever its size."""
    if isinstance(value, str | bool | int | float | np.generic | None):
        text = repr(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, dict):
        return f"a dict with the entries {', '.join(map(str, list(value)[:5]))}{', ...' if len(value) > 5 else ''}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def is_integer(value: Any) -> bool:
    """Return whether `value` is a Python or NumPy integer, which a compiled program can take as a static argument."""
    if isinstance(value, bool | np.bool_ | jax.Array):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(size, int) for size in value)
