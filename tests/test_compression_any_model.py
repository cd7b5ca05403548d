"""Compression with any model, by compiled programs: levels, convolutions, plain functions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb.compression import CompressionError, compress, decompress, files, summary
from aevb.compression.compiled_model import CompiledModel
from aevb.compression.probabilities import order
from aevb.likelihoods.beta_binomial import GreyBetaBinomial
from aevb.likelihoods.discretized_logistic import DiscretizedLogistic
from aevb.models import convolutional_vae, hierarchical_vae
from tests.test_compression import OVERHEAD, SIZE, images_of


def near_black(model, number=300):
    """Return the model with darker pixels, parameters whose q is near the prior, and images of few white pixels."""

    def decode(params, z):
        logits = model.decode(params, z).base_dist.logits - 3.5
        return dist.BernoulliLogits(logits).to_event(jnp.ndim(logits))

    darker = aevb.Model(model.init, model.encode, decode, model.prior)
    params = model.init(jax.random.key(0))
    shape = aevb.model.data_shape(model, params)
    images = (np.random.RandomState(0).rand(number, *shape) < 0.03).astype(np.uint8)
    return darker, {**params, "encoder": jax.tree.map(lambda leaf: 0.2 * leaf, params["encoder"])}, images


MODELS = {
    "bottom up": hierarchical_vae((SIZE,), (4, 3), 8),
    "ladder": hierarchical_vae((SIZE,), (4, 3, 2), 8, inference="ladder"),
    "convolutional": convolutional_vae((6, 6), 3, num_channels=(4,), hidden_dim=8),
}
STEPS = {
    "bottom up": "pop z1, push x, pop z2, push z1, push z2",
    "ladder": "pop z3, pop z2, pop z1, push x, push z1, push z2, push z3",
    "convolutional": "pop z, push x, push z",
}


@pytest.mark.parametrize(
    "name", ["bottom up", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ladder", "convolutional"))]
)
def test_any_model(name, monkeypatch):
    model, params, images = near_black(MODELS[name])
    coder = CompiledModel(params, model)
    assert ", ".join(f"{'pop' if step.is_pop else 'push'} {step.name}" for step in coder.steps) == STEPS[name]
    data = compress(params, images, model)
    np.testing.assert_array_equal(decompress(params, data, model), images)
    found = summary(params, data, model)
    assert found.num_raw < 10
    key, estimator = jax.random.key(1), aevb.Estimator(num_samples=64)
    bound = aevb.evaluate(params, key, images.astype(np.float32), model, estimator).elbo
    bits = 8 * (len(data) - OVERHEAD - files.NUM_DIGEST_BYTES) - found.initial_bits
    assert bits == pytest.approx(-bound * len(images) / math.log(2), rel=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(jax, "__version__", "0.0.1")
        with pytest.raises(CompressionError, match="It can be read only there"):
            decompress(params, data, model)


GREY = {
    "logistic": lambda loc: DiscretizedLogistic(loc, -4.0),
    "beta-binomial": lambda loc: GreyBetaBinomial(4 * loc - 2, 5.0),
}


@pytest.mark.parametrize("name", ["logistic", pytest.param("beta-binomial", marks=pytest.mark.slow)])
def test_bare_functions_over_intensities(name):
    model = aevb.Model(
        lambda key: {"w": 0.1 * jax.random.normal(key, (SIZE, 2))},
        lambda params, x: dist.Normal(x @ params["w"], 1.0).to_event(1),
        lambda params, z: GREY[name](0.5 + 0.1 * params["w"] @ z).to_event(1),
        lambda params: dist.Normal(jnp.zeros(2), jnp.ones(2)).to_event(1),
    )
    params = model.init(jax.random.key(0))
    images = images_of(model, params, 60)
    data = compress(params, images, model)
    assert summary(params, data, model).num_raw == 0
    np.testing.assert_array_equal(decompress(params, data, model), images)


def test_order_of_steps():
    """With three levels from the data up, each is pushed as soon as the level above it is available."""
    by_q = {"a": {"x"}, "b": {"a"}, "c": {"b"}}
    by_p = {"x": {"a"}, "a": {"b"}, "b": {"c"}, "c": set()}
    found = order(["a", "b", "c"], by_q, by_p)
    words = [f"{'pop' if step.is_pop else 'push'} {step.name}" for step in found]
    assert words == ["pop a", "push x", "pop b", "push a", "pop c", "push b", "push c"]
    # If q depends on x at every level, nothing can be pushed before all levels are known.
    found = order(["a", "b"], {"a": {"x"}, "b": {"x", "a"}}, {"x": {"a"}, "a": {"b"}, "b": set()})
    assert [step.name for step in found] == ["a", "b", "x", "a", "b"]


def test_a_model_of_bare_functions():
    """The model has a scaled prior, and Bernoulli probabilities instead of logits."""

    def encode(params, x):
        return dist.Normal(x @ params["w"], 0.3).to_event(1)

    def decode(params, z):
        return dist.Bernoulli(probs=jax.nn.sigmoid(params["w"] @ z - 2)).to_event(1)

    model = aevb.Model(
        lambda key: {"w": jax.random.normal(key, (SIZE, 2))},
        encode,
        decode,
        lambda params: dist.Normal(jnp.zeros(2), 3.0).expand([2]).to_event(1),
    )
    params = model.init(jax.random.key(0))
    images = (np.random.RandomState(0).rand(50, SIZE) < 0.2).astype(np.uint8)
    np.testing.assert_array_equal(decompress(params, compress(params, images, model), model), images)
