"""Programs with abstract arguments, which have shapes but no values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Program(NamedTuple):
    """A jitted function and the arguments to trace it with.

    Attributes:
      function: A function returned by `jax.jit`, or a `DonatingProgram`.
      arguments: The shapes of the positional arguments.
      options: Static arguments, by name.
      donates: Whether the buffers of the first argument are donated to the result.
    """

    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any] | None = None
    donates: bool = False

    def trace(self) -> jax.stages.Traced:
        """Trace the function."""
        return self.function.trace(*self.arguments, **(self.options or {}))


def key() -> Any:
    """Return the shape of a typed key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """Return the shape of an array."""
    return jax.ShapeDtypeStruct(shape, dtype)


def count() -> jax.ShapeDtypeStruct:
    """Return the shape of an integer scalar."""
    return array(dtype=jnp.int32)


def shapes_of(data: Any, first: int | None = -1) -> Any:
    """Return the shapes of data `[N, ...]`, or of their first `first` datapoints; `None` means a single datapoint."""
    cut = lambda leaf: leaf.shape[1:] if first is None else (len(leaf) if first < 0 else first, *leaf.shape[1:])
    as_device = lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(cut(leaf), as_device(leaf)), data)
