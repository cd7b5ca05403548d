"""The precision of matrix products in reported numbers.

By default, JAX multiplies float32 matrices on an accelerator in less than float32: a TPU rounds the factors to 8
significant bits (bfloat16), a GPU to 11 (TF32). Training uses that default, or what `jax.default_matmul_precision`
around `fit` sets. Bounds and estimates of log p(x) are sums of hundreds of terms and are computed in float32
everywhere. On a CPU the two are the same.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def at_highest_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `function`, which is to be compiled, with its matrix products in full float32."""

    @functools.wraps(function)
    def at_highest(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **options)

    return at_highest
