"""The bits of `aevb.random_bits` are JAX's own, and normals agree up to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb.data.binarization import binarize_batch
from aevb.random_bits import fused, unfused

KEY = jax.random.key(7)
SHAPES = [(), (1,), (7, 5), (3, 4, 5), (0, 3), (100, 784)]
MOST_ULP = 4  # of normals, units in the last place


def same_keys(one: jax.Array, other: jax.Array) -> None:
    np.testing.assert_array_equal(jax.random.key_data(one), jax.random.key_data(other))


def same_normals(one: jax.Array, other: jax.Array) -> None:
    assert one.dtype == other.dtype
    np.testing.assert_array_max_ulp(np.asarray(one), np.asarray(other), MOST_ULP)


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_are_those_of_jax(shape):
    for dtype in (jnp.uint8, jnp.uint16, jnp.uint32):
        np.testing.assert_array_equal(jax.random.bits(fused(KEY), shape, dtype), jax.random.bits(KEY, shape, dtype))
    np.testing.assert_array_equal(jax.random.uniform(fused(KEY), shape), jax.random.uniform(KEY, shape))
    np.testing.assert_array_equal(jax.random.bernoulli(fused(KEY), 0.3, shape), jax.random.bernoulli(KEY, 0.3, shape))
    same_normals(jax.random.normal(fused(KEY), shape), jax.random.normal(KEY, shape))
    same_keys(jax.random.split(fused(KEY), shape), jax.random.split(KEY, shape))


def test_numbers_of_64_bits_are_those_of_jax(x64):
    for shape in ((5, 3), (1000,)):
        bits = [jax.random.bits(key, shape, jnp.uint64) for key in (fused(KEY), KEY)]
        np.testing.assert_array_equal(*bits)
        same_normals(*(jax.random.normal(key, shape, jnp.float64) for key in (fused(KEY), KEY)))


def test_normals_agree_where_they_are_fused_with_what_uses_them():
    """Each program also has a product and a sum with their own rounding."""

    @jax.jit
    def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        noise = jax.random.normal(key, (100, 200))
        return noise, 0.1 + 0.5 * noise

    (one, shifted), (other, expected) = draw(fused(KEY)), draw(KEY)
    same_normals(one, other)
    np.testing.assert_allclose(shifted, expected, rtol=0, atol=1e-6)


def test_keys_are_those_of_jax():
    same_keys(jax.random.fold_in(fused(KEY), 2**31 + 5), jax.random.fold_in(KEY, 2**31 + 5))
    np.testing.assert_array_equal(jax.random.permutation(fused(KEY), 1000), jax.random.permutation(KEY, 1000))
    draw = jax.vmap(lambda key: jax.random.normal(key, (4,)))
    same_normals(draw(jax.random.split(fused(KEY), 9)), draw(jax.random.split(KEY, 9)))


def test_a_key_comes_back_as_it_was():
    back = unfused(fused(KEY))
    assert back.dtype == KEY.dtype
    same_keys(back, KEY)
    assert unfused(KEY) is KEY


def test_keys_of_other_kinds_stay_what_they_are():
    key = jax.random.key(7, impl="rbg")
    assert fused(key) is key
    assert unfused(key) is key


def test_stochastic_targets_are_bernoulli_draws():
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (100, 784)) / 255, jnp.float32)
    targets = jax.jit(binarize_batch, static_argnums=2)(KEY, images, "stochastic")
    np.testing.assert_array_equal(targets, jax.random.bernoulli(KEY, images))
    assert targets.dtype == images.dtype
