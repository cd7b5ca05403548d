import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from tests import oracles
from tests.models import DATA_DIM, MODELS, linear_gaussian_model


@pytest.mark.parametrize("binarization", ["grey", "stochastic"])
@pytest.mark.parametrize("chunk_size", [1, 7, 100, 1000])
def test_chunk_size_does_not_change_the_result(x64, chunk_size, binarization):
    """103 is prime, so every chunk size above 1 leaves a smaller last chunk."""
    model = aevb.mlp_vae((DATA_DIM,), 3, 8, param_dtype="float64")
    params = model.init(jax.random.key(0))
    data = np.random.RandomState(0).rand(103, DATA_DIM)
    whole = aevb.evaluate(params, jax.random.key(1), data, model, binarization=binarization, chunk_size=103)
    chunked = aevb.evaluate(params, jax.random.key(1), data, model, binarization=binarization, chunk_size=chunk_size)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), chunked, whole)


def test_bound_equals_the_exact_one(x64):
    exact = oracles.LinearGaussian.random(DATA_DIM, 3, 0)
    model = linear_gaussian_model(exact)
    data = np.random.RandomState(0).randn(57, DATA_DIM)
    params, sampled = model.init(jax.random.key(0)), aevb.Estimator(kl="sampled")
    bound = aevb.evaluate(params, jax.random.key(1), data, model, sampled, chunk_size=10)
    assert bound.elbo == pytest.approx(np.mean([exact.log_marginal(x) for x in data]), abs=1e-9)
    assert bound.elbo == pytest.approx(bound.reconstruction - bound.kl)


def test_every_datapoint_has_noise_of_its_own():
    """The same image repeated a thousand times gives a thousand different draws."""
    model, _ = MODELS["bernoulli"]
    params = jax.tree.map(lambda a: 50 * a, model.init(jax.random.key(0)))
    data = np.full((1000, DATA_DIM), 0.5, np.float32)
    many = aevb.evaluate(params, jax.random.key(1), data, model, chunk_size=10)
    one = aevb.evaluate(params, jax.random.key(1), data[:1], model)
    precise = aevb.evaluate(params, jax.random.key(2), data[:1], model, aevb.Estimator(100_000))
    assert many.elbo != one.elbo
    assert abs(many.elbo - precise.elbo) < 0.2 * abs(one.elbo - precise.elbo) + 0.05


@pytest.mark.parametrize("know_their_mean", [True, False])
def test_active_units_are_those_whose_posterior_mean_moves(know_their_mean):
    """Variances of means are 0.02, 0.005 and 0; the threshold is 0.01."""
    scales = jnp.sqrt(jnp.array([0.02, 0.005, 0.0, 1.0]))

    def encode(params, x):
        posterior = dist.Normal(scales * x, jnp.array([0.3, 0.3, 1.0, 0.3])).to_event(1)
        if know_their_mean:
            return posterior
        # An identity transform that hides the mean: a transformed distribution has no mean.
        return dist.TransformedDistribution(posterior, dist.transforms.PermuteTransform(jnp.arange(4)))

    prior = lambda params: dist.Normal(jnp.zeros(4), jnp.ones(4)).to_event(1)
    decode = lambda params, z: dist.Normal(z, 1.0).to_event(1)
    model = aevb.Model(lambda key: {}, encode, decode, prior)
    data = np.random.RandomState(0).randn(5000, 4).astype(np.float32)
    evaluate = functools.partial(aevb.evaluate, {}, jax.random.key(0), data, model, aevb.Estimator(kl="sampled"))
    assert evaluate(active_units=True).active_units == 2
    assert evaluate().active_units == (2 if know_their_mean else None)
    assert evaluate(active_units=False).active_units is None


def test_nothing_to_evaluate_is_an_error():
    model, _ = MODELS["bernoulli"]
    with pytest.raises(ValueError, match="data are empty"):
        aevb.evaluate({}, jax.random.key(0), np.zeros((0, DATA_DIM)), model)
