import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.baselines import monte_carlo_em, wake_sleep
from tests.models import DATA_DIM, MODELS

MODEL, _ = MODELS["bernoulli"]
FIT = functools.partial(aevb.fit, MODEL, key=jax.random.key(0), batch_size=20, num_epochs=3)
BLOCK = 70  # rounds to three minibatches or four of the eleven that 230 datapoints make: there is always an odd end


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (230, DATA_DIM)).astype(np.uint8)


@pytest.fixture
def floats(pixels) -> np.ndarray:
    return pixels / np.float32(255)


def assert_same_fit(one: aevb.FitResult, other: aevb.FitResult):
    assert_equal_trees(one.state, other.state)
    np.testing.assert_allclose([r[:-1] for r in one.history], [r[:-1] for r in other.history], rtol=1e-6)


def assert_equal_trees(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(*(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
                                        for x in (a, b)))  # fmt: skip


@pytest.mark.parametrize("binarization", ["grey", "stochastic", "threshold"])
def test_streamed_equals_resident(pixels, floats, binarization):
    resident = FIT(floats, test_data=floats[:90], binarization=binarization)
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    test = aevb.Stream(pixels[:90], max_value=255, block_size=BLOCK)
    assert_same_fit(FIT(stream, test_data=test, binarization=binarization), resident)


@pytest.mark.parametrize("algorithm", [wake_sleep, monte_carlo_em])
def test_streamed_equals_resident_by_other_algorithms(pixels, floats, algorithm):
    """Monte Carlo EM keeps something for each datapoint: it needs to be told which ones it is given."""
    stream = aevb.Stream(pixels, max_value=255, block_size=BLOCK)
    fit = functools.partial(FIT, algorithm=algorithm)
    assert_same_fit(fit(stream), fit(floats))
