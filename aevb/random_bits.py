"""JAX's own random bits in a form that XLA can fuse with what uses them.

Keys, bits and whatever is computed from bits without rounding, such as Bernoulli draws, equal JAX's. Normals are
computed from the same bits, but in a fused loop XLA may round them otherwise: they agree to a few units in the last
place.

On a CPU JAX runs the rounds of Threefry as a loop over arrays, which nothing fuses with. Written out, they become one
pass over memory together with the comparison or the inverse of the normal distribution that they are drawn for: drawing
the targets of a minibatch takes a ninth of the time (RESULTS.md). On other devices JAX writes them out itself, and its
own are used: the platform that a program is compiled for decides, not the one that it is traced on.
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
    """Return the same key, whose bits are the same and, on a CPU, are fused with what uses them.

    Args:
      key: a typed key of JAX's default kind, `[...]`; keys of other kinds come back as they are.
    """
    if not _is_threefry(key):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_WRITTEN_OUT)


def unfused(key: jax.Array) -> jax.Array:
    """Return a key that `fused` gave, or one split from it, as JAX's default kind again."""
    if jax.random.key_impl(key) != _WRITTEN_OUT:
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")


def _is_threefry(key: jax.Array) -> bool:
    return jax.random.key_impl(key) == "threefry2x32" and jax.config.values["jax_threefry_partitionable"]


def _hash(key: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011): two words for each pair of counters."""
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
    """The hash of every position in an array of `shape`, counted along its axes."""
    count = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        count += np.uint32(stride) * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        stride *= shape[axis]
    if stride > 2**32:
        raise ValueError(f"at most 2^32 numbers are drawn at once, got an array of shape {tuple(shape)}")
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
    """Return what `written_out` computes from the words of a key on a CPU, and `of_jax` from the key elsewhere."""

    def elsewhere(words: jax.Array, *others: Any) -> jax.Array:
        return of_jax(jax.random.wrap_key_data(words, impl="threefry2x32"), *others)

    return jax.lax.platform_dependent(key, *others, cpu=written_out, default=elsewhere)


def _as_arrays(key: jax.Array) -> jax.Array:
    """Fused with nothing: XLA would write the hash of a hash of a key out once more for each of its uses.

    From jaxlib 0.11 on that takes many minutes to compile, and before it took 1.5 times as long as this.
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
