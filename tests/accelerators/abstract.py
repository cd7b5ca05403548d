"""Programs and arguments that are shapes alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Program(NamedTuple):
    """A jitted function and what it is traced with.

    Attributes:
      function: what `jax.jit` returns, or a `DonatingProgram`.
      arguments: positional ones, shapes.
      options: static ones, by name.
      donates: whether the buffers of the first argument become those of the result.
    """

    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any] | None = None
    donates: bool = False

    def trace(self) -> jax.stages.Traced:
        """Trace it."""
        return self.function.trace(*self.arguments, **(self.options or {}))


def key() -> Any:
    """Return the shape of a typed key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """Return the shape of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)


def count() -> jax.ShapeDtypeStruct:
    """Return the shape of a number of something."""
    return array(dtype=jnp.int32)


def shapes_of(data: Any, first: int | None = -1) -> Any:
    """Return the shapes of data `[N, ...]`, of the `first` of them, or with `None` of one datapoint."""
    cut = lambda leaf: leaf.shape[1:] if first is None else (len(leaf) if first < 0 else first, *leaf.shape[1:])
    as_device = lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(cut(leaf), as_device(leaf)), data)
