"""Data sets as pytrees, with N on the leading axis of every array."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import describe
from aevb.model import Given, Model


def num_rows(data: Any, name: str = "data") -> int:
    """Return N for a pytree of arrays `[N, ...]`, or the length of an object that is not a pytree.

    Raises:
      TypeError: `data` is a model, or contains anything other than arrays of numbers.
      ValueError: the arrays do not all have the same number of rows.
    """
    if isinstance(data, Model):
        raise TypeError(f"{name} must be arrays, got a Model: pass the data before the model")
    sizes = {_place(path): _size(leaf, name) for path, leaf in jax.tree_util.tree_leaves_with_path(data)}
    if not sizes:
        raise TypeError(f"{name} must be arrays, got {describe(data)}")
    if len(set(sizes.values())) > 1:
        each = ", ".join(f"{path or 'value'} has {size}" for path, size in sizes.items())
        raise ValueError(f"every array of {name} must have the same number of rows: {each}")
    return next(iter(sizes.values()))


def rows(data: Any, indices: Any) -> Any:
    """Return the datapoints at `indices`: an integer, an array of integers, or a slice."""
    return jax.tree.map(lambda leaf: leaf[indices], data)


def contiguous(data: Any) -> Any:
    """Reshape arrays `[N, ...]` to tables `[N, D]`, from which `rows_of` takes rows.

    Compiled functions call this before they gather rows many times: a TPU lays `[N, 28, 28]` out with N innermost, so
    that one row is spread over 460 kB of tiles.
    """
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], -1) if _is_spread(leaf) else leaf, data)


def rows_of(tables: Any, data: Any, indices: jax.Array) -> Any:
    """Return `rows(data, indices)`, read from the `contiguous` tables of the data inside a compiled function.

    On a CPU, rows of the data are contiguous already and are read from the data themselves.
    """

    def of_leaf(table: jax.Array, leaf: jax.Array) -> jax.Array:
        if not _is_spread(leaf):
            return leaf[indices]
        restored = lambda indices, table, leaf: table[indices].reshape(*indices.shape, *leaf.shape[1:])
        as_it_is = lambda indices, table, leaf: leaf[indices]
        return jax.lax.platform_dependent(indices, table, leaf, cpu=as_it_is, default=restored)

    return jax.tree.map(of_leaf, tables, data)


def _is_spread(leaf: jax.Array) -> bool:
    return leaf.ndim > 2 and leaf.size > 0


def as_arrays(data: Any) -> Any:
    """Convert lists and numbers in `data` to NumPy arrays. Everything with a dtype is left unchanged."""
    return jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else np.asarray(leaf), data)


def map_value(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply `function` to the floating-point arrays of the modelled value. Integers and conditions are unchanged."""
    if isinstance(data, Given):
        return data._replace(value=map_value(function, data.value))
    return jax.tree.map(lambda leaf: function(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, data)


def _size(leaf: Any, name: str) -> int:
    kind = getattr(getattr(leaf, "dtype", None), "kind", None)
    try:
        if not isinstance(leaf, str | bytes) and kind not in ("O", "S", "U"):
            return len(leaf)
    except TypeError:
        pass
    view = "sequences" if getattr(leaf, "is_sequences", False) else "pixels"
    hint = f": use its .{view}()" if hasattr(leaf, view) else ""
    raise TypeError(f"{name} must be arrays of numbers [N, ...], got {describe(leaf)}{hint}")


def _place(path: Any) -> str:
    return jax.tree_util.keystr(path).lstrip(".")
