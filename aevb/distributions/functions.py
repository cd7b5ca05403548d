"""Functions as parts of distributions: checks of static pytree structure, and `vmap` over leading axes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def over_leading_axes(function: Callable, number: int) -> Callable:
    """Return `function` mapped over `number` leading axes of all its arguments."""
    return functools.reduce(lambda mapped, _: jax.vmap(mapped), range(number), function)


def is_pytree(value: Any) -> bool:
    """Return whether `value` is a pytree node, such as a distribution or a `jax.tree_util.Partial`."""
    return not jax.tree_util.all_leaves([value])


def check_static(function: Callable, owner: str) -> None:
    """Raise `TypeError` if `function`, part of the static structure of `owner`, closes over arrays."""
    if _hides_arrays(function):
        raise TypeError(
            f"{owner} is a function that closes over arrays, which cannot pass through jax.jit, jax.vmap or a scan: "
            f"use jax.tree_util.Partial(function, arrays) with the arrays as its first arguments"
        )


def _hides_arrays(value: Any, depth: int = 3) -> bool:
    if any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value)):
        return True
    if not callable(value) or isinstance(value, type) or depth == 0:
        return False
    return any(_hides_arrays(each, depth - 1) for each in _parts(value))


def _parts(function: Any) -> list[Any]:
    """Return the objects that a function references: closure, defaults, bound arguments and attributes."""
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    cells = [_contents(cell) for cell in getattr(function, "__closure__", None) or ()]
    return [*cells, *(getattr(function, "__defaults__", None) or ()), *getattr(function, "__dict__", {}).values()] + (
        [function.__self__] if hasattr(function, "__self__") else []
    )


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not assigned yet
        return None
