from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.algorithms import monte_carlo_em, wake_sleep
from aevb.algorithms.monte_carlo_em import NUM_UPDATES
from aevb.algorithms.wake_sleep import log_joint, log_recognition_of_dream
from tests import oracles
from tests.models import DATA_DIM, linear_gaussian_model

pytestmark = pytest.mark.usefixtures("barely_optimized")

EXACT = oracles.LinearGaussian.random(DATA_DIM, 3, 0)
LATENT_DIM = 3


def wrong_encoder(model: aevb.Model):
    """Return parameters away from the exact posterior, so that gradients are not zero."""
    params = model.init(jax.random.key(0))
    encoder = dict(params["encoder"])
    encoder["gain"] = 0.7 * encoder["gain"]
    encoder["offset"] = encoder["offset"] + 0.3
    encoder["factor"] = 1.5 * encoder["factor"]
    return {**params, "encoder": encoder}


def mean_and_error(samples):
    mean = jax.tree.map(lambda a: jnp.mean(a, 0), samples)
    return mean, jax.tree.map(lambda a: jnp.std(a, 0) / len(a) ** 0.5, samples)


def assert_within_errors(samples, exact):
    mean, error = mean_and_error(samples)
    for got, standard_error, wanted in zip(*map(jax.tree.leaves, (mean, error, exact)), strict=True):
        # 5 standard errors, because some 60 numbers are compared. The errors are small relative to the values.
        assert float(jnp.max(jnp.abs(got - wanted) / (standard_error + 1e-12))) < 5
        assert float(jnp.max(standard_error)) < 0.1 * float(jnp.max(jnp.abs(wanted)))


def test_sleep_phase_ascends_the_recognition_of_dreams(x64):
    """E_{p(x, z)}[log q(z|x)] of a linear encoder has a closed form in the joint's first two moments."""
    model = linear_gaussian_model(EXACT)
    params = wrong_encoder(model)
    weights, bias = jnp.asarray(EXACT.weights), jnp.asarray(EXACT.bias)
    marginal = weights @ weights.T + EXACT.noise_variance * jnp.eye(DATA_DIM)

    def exact(encoder):
        # The residual z - (G x + o) is Gaussian under the joint.
        gain, center = encoder["gain"], encoder["gain"] @ bias + encoder["offset"]
        covariance = jnp.eye(LATENT_DIM) - gain @ weights - (gain @ weights).T + gain @ marginal @ gain.T
        precision = jnp.linalg.inv(encoder["factor"] @ encoder["factor"].T)
        quadratic = jnp.trace(precision @ covariance) + center @ precision @ center
        return -0.5 * (quadratic + LATENT_DIM * jnp.log(2 * jnp.pi)) - jnp.sum(jnp.log(jnp.diag(encoder["factor"])))

    x = jnp.zeros(DATA_DIM)  # only its shape is used
    keys = jax.random.split(jax.random.key(1), 40_000)
    samples = jax.vmap(lambda key: jax.grad(log_recognition_of_dream)(params, key, x, model))(keys)
    wanted = jax.grad(exact)(params["encoder"])
    wanted["factor"] = jnp.tril(wanted["factor"])  # numpyro only reads the lower triangle
    samples["encoder"]["factor"] = jnp.tril(samples["encoder"]["factor"])
    assert_within_errors(samples["encoder"], wanted)
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(samples["decoder"]))


def test_wake_phase_ascends_the_joint_in_theta_alone(x64):
    model = linear_gaussian_model(EXACT)
    params = wrong_encoder(model)
    x = jnp.asarray(np.random.RandomState(0).randn(DATA_DIM))
    posterior: Any = model.encode(params, x)

    def exact(decoder):
        residual = x - decoder["bias"] - decoder["weights"] @ posterior.mean
        spread = jnp.trace(decoder["weights"] @ posterior.covariance_matrix @ decoder["weights"].T)
        return -0.5 * (residual @ residual + spread) / EXACT.noise_variance

    keys = jax.random.split(jax.random.key(1), 20_000)
    samples = jax.vmap(lambda key: jax.grad(log_joint)(params, key, x, model))(keys)
    assert_within_errors(samples["decoder"], jax.grad(exact)(params["decoder"]))
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(samples["encoder"]))


def test_wake_sleep_finds_the_exact_posterior_of_a_fixed_decoder(x64):
    """With theta fixed, the sleep phase's optimum is p(z|x), where the bound is tight."""
    model = linear_gaussian_model(EXACT)
    start = wrong_encoder(model)
    model = aevb.Model(lambda key: jax.tree.map(jnp.copy, start), model.encode, model.decode, model.prior)
    frozen = optax.multi_transform(
        {"train": optax.adam(optax.linear_schedule(0.03, 0.0, 3000)), "hold": optax.set_to_zero()},
        {"encoder": "train", "decoder": "hold"},
    )
    rng = np.random.RandomState(0)
    data = (
        rng.randn(200, LATENT_DIM) @ EXACT.weights.T + EXACT.bias + EXACT.noise_variance**0.5 * rng.randn(200, DATA_DIM)
    )
    result = aevb.fit(
        data, model, key=jax.random.key(2), optimizer=frozen, algorithm=wake_sleep, num_epochs=1500,
        eval_every=1500, evaluation=aevb.Estimator(20, "sampled"),
    )  # fmt: skip
    best = np.mean([EXACT.log_marginal(x) for x in data])
    assert result.history[0].train_elbo < best - 1
    assert result.history[-1].train_elbo == pytest.approx(best, abs=0.03)


def test_monte_carlo_em_chains_have_the_exact_posterior(x64):
    """With theta fixed, the persistent chains of the E-step converge to p(z|x)."""
    model = linear_gaussian_model(EXACT)
    algorithm = monte_carlo_em(model, optax.sgd(0.0), 4000, map_prior=False)
    x = EXACT.bias + np.random.RandomState(0).randn(DATA_DIM)
    data = jnp.tile(jnp.asarray(x), (4000, 1))
    state = algorithm.init(jax.random.key(0))
    assert state.carry.z.shape == (4000, LATENT_DIM)
    epochs = aevb.make_train_epochs(algorithm, batch_size=200)
    state, _ = epochs(state, data, 20)
    mean, covariance = EXACT.posterior(x)
    z = np.asarray(state.carry.z)
    errors = np.sqrt(np.diag(covariance) / len(z))
    assert np.all(np.abs(z.mean(0) - mean) < 4 * errors)
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=5 * np.max(np.diag(covariance)) * (2 / len(z)) ** 0.5)
    assert float(state.carry.acceptance) == pytest.approx(0.9, abs=0.05)


def test_monte_carlo_em_updates_five_times_and_moves_only_who_was_visited():
    model = linear_gaussian_model(EXACT)
    algorithm = monte_carlo_em(model, optax.adam(1e-3), 30)
    before = algorithm.init(jax.random.key(0))
    indices = jnp.array([3, 17, 8])
    after, loss = jax.jit(algorithm.step)(before, jnp.ones((3, DATA_DIM)), indices)
    moved = np.any(np.asarray(after.carry.z != before.carry.z), axis=1)
    assert set(np.flatnonzero(moved)) <= {3, 8, 17}
    assert moved.any()
    assert int(after.step) == 1
    assert int(optax.tree.get(after.optimizer_state, "count")) == NUM_UPDATES == 5
    assert jnp.isfinite(loss)
    for one, other in zip(*(jax.tree.leaves(s.params["encoder"]) for s in (before, after)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_monte_carlo_em_learns_the_marginal_likelihood(x64):
    """From a wrong bias, EM climbs to the bias that maximizes log p(X), which is the mean of the data."""
    model = linear_gaussian_model(EXACT)
    start = model.init(jax.random.key(0))
    start["decoder"] = {**start["decoder"], "bias": start["decoder"]["bias"] + 1.0}
    model = aevb.Model(lambda key: jax.tree.map(jnp.copy, start), model.encode, model.decode, model.prior)
    rng = np.random.RandomState(0)
    data = (
        rng.randn(300, LATENT_DIM) @ EXACT.weights.T + EXACT.bias + EXACT.noise_variance**0.5 * rng.randn(300, DATA_DIM)
    )

    def log_marginal(params):
        weights, bias = (np.asarray(params["decoder"][name]) for name in ("weights", "bias"))
        fitted = oracles.LinearGaussian(weights, bias, EXACT.noise_variance)
        return np.mean([fitted.log_marginal(x) for x in data])

    result = aevb.fit(
        data, model, key=jax.random.key(1), optimizer=optax.adam(3e-3), algorithm=monte_carlo_em, num_epochs=80,
        eval_every=80, map_prior=False,
    )  # fmt: skip
    assert log_marginal(start) < log_marginal({"decoder": {"weights": EXACT.weights, "bias": EXACT.bias}}) - 1
    assert log_marginal(result.state.params) > log_marginal({"decoder": {"weights": EXACT.weights, "bias": EXACT.bias}})
    assert np.isnan(result.history[-1].train_elbo)  # without a recognition model there is no bound


@pytest.mark.parametrize("algorithm", [wake_sleep, monte_carlo_em])
def test_baselines_train_image_models_and_same_key_gives_same_bits(algorithm):
    model = aevb.mlp_vae((DATA_DIM,), 2, 8)
    data = np.random.RandomState(0).rand(60, DATA_DIM).astype(np.float32)
    fits = [
        aevb.fit(data, model, key=jax.random.key(0), algorithm=algorithm, num_epochs=2, batch_size=20) for _ in "ab"
    ]
    for one, other in zip(*(jax.tree.leaves(f.state._replace(key=0)) for f in fits), strict=True):
        np.testing.assert_array_equal(one, other)
    initial = model.init(jax.random.split(jax.random.split(jax.random.key(0))[0])[0])
    assert jax.tree.structure(initial) == jax.tree.structure(fits[0].state.params)
