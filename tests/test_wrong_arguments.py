"""Wrong arguments are named, with their value, before anything is compiled."""

import functools
import math
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aevb
from aevb.arguments import describe
from tests.test_properties import KEY, PLAIN, TRACED, data_shapes, integers, random_data, random_params

no_count = st.one_of(
    integers(-(10**6), 0),
    st.floats(),
    st.booleans(),
    st.text(max_size=3),
    st.none(),
    st.just([]),
)
DATA = random_data(0, 6, 3)
PARAMS = random_params(PLAIN, 0)


def assert_named(function: Any, name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        function()
    message = str(caught.value)
    assert name in message
    assert f"got {value}" in message or f"got {describe(value)}" in message


@TRACED
@given(no_count)
def test_counts_that_are_none(count):
    x, key = DATA[0], KEY
    assert_named(lambda: aevb.elbo(PARAMS, key, x, PLAIN, count), "num_samples", count)
    assert_named(lambda: aevb.iwae_bound(PARAMS, key, x, PLAIN, count), "num_samples", count)
    assert_named(lambda: aevb.minibatch_elbo(PARAMS, key, DATA, PLAIN, 6, count), "num_samples", count)
    assert_named(lambda: aevb.Estimator(count), "num_samples", count)
    assert_named(lambda: aevb.evaluate(PARAMS, key, DATA, PLAIN, chunk_size=count), "chunk_size", count)
    fit = functools.partial(aevb.fit, DATA, PLAIN, key=key, batch_size=2)
    assert_named(lambda: fit(batch_size=count), "batch_size", count)
    assert_named(lambda: fit(eval_every=count), "eval_every", count)
    if count is not None and (count != 0 or isinstance(count, bool | float)):
        assert_named(lambda: fit(num_epochs=count), "num_epochs", count)
    for name in ("block_size", "num_threads"):
        assert_named(lambda name=name: aevb.Stream(DATA, **{name: count}), name, count)


@TRACED
@given(no_count)
def test_sizes_that_are_none(size):
    assert_named(lambda: aevb.mlp_vae((4,), size), "latent_dim", size)
    assert_named(lambda: aevb.mlp_vae((4, size), 2), "data_shape", size)
    assert_named(lambda: aevb.mlp_vae((4,), 2, (3, size)), "hidden_dim", size)
    if not isinstance(size, str | list):
        assert_named(lambda: aevb.mlp_vae((4,), 2, size), "hidden_dim", size)
        assert_named(lambda: aevb.mlp_vae(size, 2), "data_shape", size)


@TRACED
@given(st.text(max_size=9))
def test_names_that_are_none(name):
    x, key = DATA[0], KEY
    for argument in ("kl", "gradient"):
        assert_named(lambda a=argument: aevb.elbo(PARAMS, key, x, PLAIN, **{a: name}), argument, name)
    assert_named(lambda: aevb.evaluate(PARAMS, key, DATA, PLAIN, binarization=name), "binarization", name)
    assert_named(lambda: aevb.fit(DATA, PLAIN, key=key, batch_size=2, binarization=name), "binarization", name)
    for argument in ("kl", "gradient", "bound"):
        assert_named(lambda a=argument: aevb.Estimator(**{a: name}), argument, name)
    for argument in ("likelihood", "posterior", "weight_init"):
        assert_named(lambda a=argument: aevb.mlp_vae((4,), 2, **{a: name}), argument, name)


@TRACED
@given(st.one_of(st.floats(max_value=0.0), st.sampled_from([math.nan, math.inf])))
def test_step_sizes_that_are_none(rate):
    assert_named(lambda: aevb.paper_optimizer(rate), "learning_rate", rate)


@TRACED
@given(data_shapes.filter(lambda shape: shape != (3,)))
def test_datapoints_of_another_shape(shape):
    bad = np.zeros(shape, np.float32)
    for function in (aevb.elbo, functools.partial(aevb.iwae_bound, num_samples=2)):
        with pytest.raises(ValueError, match="the model's datapoints have shape") as caught:
            function(PARAMS, KEY, bad, PLAIN)
        assert f"x has shape {shape}" in str(caught.value)
    for function, what in (
        (lambda: aevb.minibatch_elbo(PARAMS, KEY, bad[None], PLAIN, 1), "x has"),
        (lambda: aevb.evaluate(PARAMS, KEY, bad[None], PLAIN), "datapoints of data have"),
        (lambda: aevb.fit(bad[None], PLAIN, key=KEY, batch_size=1), "datapoints of data have"),
        (lambda: aevb.fit(DATA, PLAIN, key=KEY, batch_size=1, test_data=bad[None]), "datapoints of test_data have"),
    ):
        with pytest.raises(ValueError, match="datapoints") as caught:
            function()
        assert f"{what} shape {shape}" in str(caught.value)


@TRACED
@given(st.sampled_from(["uint8", "int8", "uint16", "int32", "float32"]), integers(2, 100))
def test_pixels_that_are_not_scaled_are_refused(dtype, highest):
    """Pixels of 0 to 255 would have a meaningless bound."""
    data = np.zeros((4, 3), dtype)
    data[1, 2] = highest
    message = rf"ranges from 0 to {highest}, outside of the likelihood's support, \[0, 1\]: scale it first"
    for function in (
        lambda: aevb.evaluate(PARAMS, KEY, data, PLAIN),
        lambda: aevb.marginal_likelihood.evaluate(PARAMS, KEY, data, PLAIN, "is"),
        lambda: aevb.fit(data, PLAIN, key=KEY, batch_size=2),
        lambda: aevb.fit(DATA, PLAIN, key=KEY, batch_size=2, test_data=data),
    ):
        with pytest.raises(ValueError, match=message):
            function()


@TRACED
@given(st.one_of(integers(), st.floats(), st.none(), integers(1, 3).map(lambda n: jax.random.split(KEY, n))))
def test_keys_that_are_none(key):
    for function in (aevb.elbo, functools.partial(aevb.iwae_bound, num_samples=2)):
        with pytest.raises(TypeError, match="key must be one typed key"):
            function(PARAMS, key, DATA[0], PLAIN)


@TRACED
@given(integers(1, 40), integers(-3, 45))
def test_a_mesh_has_all_devices_or_is_refused(num_devices, member):
    """The devices are placeholders, because no mesh is used here."""
    devices = np.array(jax.devices() * num_devices)
    if member >= 1 and num_devices % member == 0:
        mesh = aevb.sharding.make_mesh(member, devices)
        assert dict(mesh.shape) == {"member": member, "batch": num_devices // member}
    else:
        with pytest.raises(ValueError, match=f"member must divide the {num_devices} devices, got {member}"):
            aevb.sharding.make_mesh(member, devices)
