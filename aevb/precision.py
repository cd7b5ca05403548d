"""How precisely matrices are multiplied in what is reported.

Left to itself, JAX multiplies float32 matrices on an accelerator in less than float32: on a TPU with factors of 8 bits
(bfloat16), on a GPU with 11 (TF32). Training takes that as it is, or as `jax.default_matmul_precision` around `fit`
says; bounds and estimates of log p(x) are sums of hundreds of terms, and are computed in float32 everywhere. On a CPU
the two are the same.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def at_highest_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `function`, to be compiled, with its matrix products in full float32."""

    @functools.wraps(function)
    def at_highest(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **options)

    return at_highest
