"""JAX's own random bits in a form that XLA can fuse with the operations that use them.

Keys, bits and values computed from bits without rounding, such as Bernoulli draws, equal JAX's. Normals are computed
from the same bits, but XLA may round them differently in a fused loop: they agree to a few units in the last place.

On a CPU, JAX runs the rounds of Threefry as a loop over arrays, which cannot be fused. Unrolled, the rounds become one
pass over memory together with the comparison or the inverse normal CDF that uses the bits: drawing the targets of a
minibatch takes a ninth of the time (RESULTS.md). On other devices JAX unrolls the rounds itself, and its own
implementation is used. The choice is by the platform that a program is compiled for, not the one that traces it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def fused(key: jax.Array) -> jax.Array:
    """Return a key with the same bits, which on a CPU are fused with the operations that use them.

    Args:
      key: typed keys of JAX's default implementation, `[...]`. Keys of other implementations are returned unchanged.
    """
    if not _is_threefry(key):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_WRITTEN_OUT)


def unfused(key: jax.Array) -> jax.Array:
    """Convert a key returned by `fused`, or one split from it, back to JAX's default implementation."""
    if jax.random.key_impl(key) != _WRITTEN_OUT:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")


def _is_threefry(key: jax.Array) -> bool:
    return jax.random.key_impl(key) == "threefry2x32" and jax.config.values["jax_threefry_partitionable"]


def _hash(key: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011): two words per pair of counters."""
    words = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    high, low = high + words[0], low + words[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            high = high + low
            low = high ^ ((low << rotation) | (low >> (32 - rotation)))
        high = high + words[(group + 1) % 3]
        low = low + words[(group + 2) % 3] + np.uint32(group + 1)
    return high, low


def _counted(key: jax.Array, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Return the hash of every flat (row-major) position in an array of `shape`."""
    count = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        count += np.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        stride *= shape[axis]
    if stride > 2**32:
        raise ValueError(f"at most 2^32 numbers can be drawn at once, got an array of shape {tuple(shape)}")
    return _hash(key, jnp.zeros(shape, jnp.uint32), count)


def _random_bits(key: jax.Array, bit_width: int, shape: Sequence[int]) -> jax.Array:
    dtype = jnp.dtype(f"uint{bit_width}")

    def written_out(key: jax.Array) -> jax.Array:
        high, low = _counted(key, shape)
        if bit_width == 64:
            return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
        return (high ^ low).astype(dtype)

    return _by_platform(written_out, lambda key: jax.random.bits(key, tuple(shape), dtype), key)


def _split(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    written_out = lambda key: _as_arrays(jnp.stack(_counted(key, shape), axis=-1))
    return _by_platform(written_out, lambda key: jax.random.key_data(jax.random.split(key, tuple(shape))), key)


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    def written_out(key: jax.Array, data: jax.Array) -> jax.Array:
        return _as_arrays(jnp.stack(_hash(key, jnp.zeros((), jnp.uint32), data)))

    of_jax = lambda key, data: jax.random.key_data(jax.random.fold_in(key, data))
    return _by_platform(written_out, of_jax, key, jnp.asarray(data, jnp.uint32))


def _by_platform(
    written_out: Callable[..., jax.Array], of_jax: Callable[..., jax.Array], key: jax.Array, *others: Any
) -> jax.Array:
    """On a CPU, return `written_out` of the words of a key; on other platforms, return `of_jax` of the key."""

    def elsewhere(words: jax.Array, *others: Any) -> jax.Array:
        return of_jax(jax.random.wrap_key_data(words, impl="threefry2x32"), *others)

    return jax.lax.platform_dependent(key, *others, cpu=written_out, default=elsewhere)


def _as_arrays(key: jax.Array) -> jax.Array:
    """Prevent fusion: XLA would recompute the hash that made a key in each use of that key.

    From jaxlib 0.11 on, compiling that takes many minutes; before, it took 1.5 times as long as with this barrier.
    """
    return jax.lax.optimization_barrier(key)


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))


_WRITTEN_OUT = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_written_out",
    tag="fry_written_out",
)
