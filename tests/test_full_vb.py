import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb.algorithms.full_vb import draw, full_vb, kl_from_prior, posterior_mean, spread
from tests.models import DATA_DIM, MODELS

NOISE_VARIANCE = 0.5

pytestmark = pytest.mark.usefixtures("barely_optimized")


def unknown_mean_model() -> aevb.Model:
    """x ~ N(theta, s^2 I) with a z that has no effect: p(theta|X) and log p(X) are known."""
    standard = lambda params: dist.Normal(jnp.zeros(1), 1.0).to_event(1)
    return aevb.Model(
        init=lambda key: {"encoder": {}, "decoder": {"theta": jnp.zeros(2)}},
        encode=lambda params, x: standard(params),
        decode=lambda params, z: dist.Normal(params["decoder"]["theta"], NOISE_VARIANCE**0.5).to_event(1),
        prior=standard,
    )


def test_converges_to_the_exact_posterior_and_log_evidence(x64):
    """In this conjugate model, the optimum of Appendix F's bound is p(theta|X), and the bound there is log p(X)."""
    size = 20
    data = 1.0 + NOISE_VARIANCE**0.5 * np.random.RandomState(0).randn(size, 2)
    model = unknown_mean_model()
    optimizer = optax.adam(optax.exponential_decay(0.05, 500, 0.5))
    algorithm = full_vb(model, optimizer, size)
    epochs = aevb.make_train_epochs(algorithm, batch_size=size)
    state, _ = epochs(algorithm.init(jax.random.key(0)), jnp.asarray(data), 6000)

    variance = 1 / (1 + size / NOISE_VARIANCE)
    mean = variance * data.sum(0) / NOISE_VARIANCE
    posterior = state.params["decoder"]
    np.testing.assert_allclose(posterior["mean"]["theta"], mean, atol=0.01)
    np.testing.assert_allclose(np.exp(posterior["log_scale"]["theta"]), variance**0.5, rtol=0.03)

    # At the exact posterior, the sampled bound is log p(X) apart from its noise.
    keys = jax.random.split(jax.random.key(1), 4000)
    likelihood = lambda key: aevb.minibatch_elbo(draw(state.params, key), key, jnp.asarray(data), model, size)
    bound = jnp.mean(jax.vmap(likelihood)(keys)) - kl_from_prior(state.params)
    covariance = np.eye(size) * NOISE_VARIANCE + np.ones((size, size))
    exact = sum(
        -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + column @ np.linalg.solve(covariance, column))
        for column in data.T
    )
    assert float(bound) == pytest.approx(exact, abs=0.1)
    assert float(bound) < exact + 0.05


def test_kl_is_numpyros(x64):
    rng = np.random.RandomState(0)
    params = {
        "decoder": {"mean": {"a": jnp.asarray(rng.randn(3, 2))}, "log_scale": {"a": jnp.asarray(rng.randn(3, 2))}}
    }
    posterior = dist.Normal(params["decoder"]["mean"]["a"], jnp.exp(params["decoder"]["log_scale"]["a"]))
    expected = jnp.sum(dist.kl_divergence(posterior, dist.Normal(jnp.zeros((3, 2)), 1.0)))
    np.testing.assert_allclose(kl_from_prior(params), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["squashed gaussian", "flow", "linear gaussian"])
def test_any_model(name):
    model, kl = MODELS[name]
    params = spread(model.init(jax.random.key(0)))
    drawn = draw(params, jax.random.key(1))
    assert jax.tree.structure(drawn) == jax.tree.structure(model.init(jax.random.key(0)))
    assert not np.array_equal(*(jax.tree.leaves(p["decoder"])[0] for p in (drawn, posterior_mean(params))))
    shape = aevb.model.data_shape(model, posterior_mean(params))
    data = np.random.RandomState(0).rand(20, *shape).astype(np.float32)
    algorithm = functools.partial(full_vb, estimator=aevb.Estimator(kl=kl))
    result = aevb.fit(data, model, key=jax.random.key(0), algorithm=algorithm, num_epochs=1, batch_size=10)
    assert np.isfinite(result.history[-1].train_elbo)


def test_needs_the_prior():
    with pytest.raises(ValueError, match="map_prior must be true"):
        full_vb(MODELS["bernoulli"][0], optax.sgd(0.1), 10, map_prior=False)


@pytest.mark.slow
def test_few_data_keep_the_posterior_wide():
    """With the prior's weight, the posterior given 5 datapoints is wider than given 500."""
    model = MODELS["bernoulli"][0]
    rng = np.random.RandomState(0)
    scales = []
    for size in (5, 500):
        data = (rng.rand(size, DATA_DIM) < 0.2).astype(np.float32)
        result = aevb.fit(
            data, model, key=jax.random.key(0), algorithm=full_vb, optimizer=optax.adam(0.01), batch_size=5,
            num_epochs=2000 // (size // 5), eval_every=2000,
        )  # fmt: skip
        scales.append(float(jnp.mean(jnp.exp(result.state.params["decoder"]["log_scale"]["Dense_1"]["bias"]))))
    assert scales[0] > 2 * scales[1]
