"""Linear-Gaussian state spaces, with their exact posterior and with recognition models, against a Kalman filter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import Model
from aevb.models import linear_gaussian_state_space
from aevb.models.recognition import recurrent_recognition
from tests.gaussians import recording, state_space

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
LENGTH, PADDING = 40, 10


def kalman(theta, x):
    """Return log p of the observed values by the tests' filter, which has no offset."""
    others = {
        "F": theta["transition"],
        "H": theta["emission"],
        "log_q": theta["transition_log_variance"],
        "log_r": theta["log_variance"],
        "start": theta["start"],
    }
    return state_space(len(x)).log_marginal({"decoder": others}, x - theta["offset"])


def some_theta():
    """Return parameters of a model with four values and three states, far from the initial ones."""
    rng = np.random.RandomState(3)
    theta = {
        "transition": 0.95 * np.linalg.qr(rng.randn(3, 3))[0],
        "transition_log_variance": np.log(0.3 + rng.rand(3)),
        "emission": rng.randn(4, 3),
        "offset": rng.randn(4),
        "log_variance": np.log(0.2 + rng.rand(4)),
        "start": rng.randn(3),
    }
    return jax.tree.map(jnp.asarray, theta)


def assert_as_close(found, expected, rtol):
    for name, leaf in expected.items():
        scale = np.max(np.abs(leaf))
        np.testing.assert_allclose(found[name], leaf, rtol=0, atol=rtol * scale, err_msg=name)


def test_the_bound_of_a_linear_model_is_the_kalman_filters_and_so_is_its_gradient(x64):
    """The series has 40 steps with a gap, a missing entry and ten steps of padding. The noise does not matter."""
    x, theta = jnp.asarray(recording(LENGTH, PADDING)), some_theta()
    model = linear_gaussian_state_space(x.shape, 3, param_dtype="float64")
    assert jax.tree.map(jnp.shape, model.init(KEY)) == {"encoder": {}, "decoder": jax.tree.map(jnp.shape, theta)}
    truth, slope = jax.jit(jax.value_and_grad(kalman))(theta, x)
    bound = jax.jit(jax.value_and_grad(functools.partial(aevb.elbo, kl="sampled")))
    for seed in range(2):
        value, gradient = bound({"encoder": {}, "decoder": theta}, jax.random.key(seed), x, model)
        assert abs(float(value - truth)) < 1e-10 * abs(float(truth))
        assert_as_close(gradient["decoder"], slope, 1e-10)


def test_another_posterior_is_below_the_kalman_filter(x64):
    """The posterior is an untrained recurrent network.

    Its bound is unbiased, so the mean of many draws is below log p.
    """
    x, theta = jnp.asarray(recording(6, 2)), some_theta()
    model = linear_gaussian_state_space(x.shape, 3, "recurrent", 5, param_dtype="float64")
    params = {"encoder": model.init(KEY)["encoder"], "decoder": theta}
    bound = lambda key: jnp.stack([aevb.elbo(params, key, x, model, kl=kl) for kl in ("analytic", "sampled")])
    values = np.asarray(jax.jit(jax.vmap(bound))(jax.random.split(KEY, 4000)))
    errors = np.std(values, axis=0) / 4000**0.5
    assert np.all(np.mean(values, axis=0) + 5 * errors < float(kalman(theta, x)))
    assert abs(np.mean(values[:, 0] - values[:, 1])) < 5 * np.std(values[:, 0] - values[:, 1]) / 4000**0.5


@pytest.mark.slow
def test_training_a_linear_model_ends_at_a_maximum_of_the_likelihood(x64):
    """Gradient steps on 40 series raise log p of held-out series, which the filter computes."""
    model = linear_gaussian_state_space((12, 4), 3, param_dtype="float64")
    truth = state_space(12)
    z = truth.model.prior(truth.params).sample(jax.random.key(1), (120,))
    series = np.array(
        jax.vmap(lambda key, z: truth.model.decode(truth.params, z).sample(key))(jax.random.split(KEY, 120), z)
    )
    result = aevb.fit(
        series[:80], model, key=KEY, optimizer=optax.adam(0.03), num_epochs=60, batch_size=20, eval_every=60,
        estimator=aevb.Estimator(kl="sampled"), map_prior=False, test_data=series[80:],
    )  # fmt: skip
    log_p = jax.jit(jax.vmap(kalman, (None, 0)))
    found = float(np.mean(log_p(result.state.params["decoder"], jnp.asarray(series[80:]))))
    best = float(np.mean(jax.vmap(truth.log_marginal, (None, 0))(truth.params, jnp.asarray(series[80:]))))
    assert result.history[-1].test_elbo == pytest.approx(found, abs=1e-8)
    assert best - 1.0 < found < best


def linear_model_and_posterior(posterior):
    """Return a linear state space of three states with only their sum observed, and a neural recognition model."""

    def transition(theta, z):
        return z @ theta["transition"].T, jnp.exp(0.5 * theta["transition_log_variance"])

    model = linear_gaussian_state_space((3, 4), 3, "recurrent", 6, param_dtype="float64")
    recognition = recurrent_recognition(4, 3, 6, posterior, transition, "float64")
    emission, log_variance = jnp.zeros((4, 3)).at[0].set(1.0), jnp.zeros(4).at[0].set(-2.0)
    theta = model.init(KEY)["decoder"] | {"emission": emission, "log_variance": log_variance}
    params = {"encoder": recognition.init(jax.random.key(1)), "decoder": theta}
    return Model(model.init, recognition.encode, model.decode, model.prior), params


def test_a_flow_comes_closer_to_the_kalman_filter_than_independent_dimensions(x64):
    """The observations couple the three states. Particles that move by the flow find the filter's log p."""
    x, gaps = jnp.asarray(np.random.RandomState(0).randn(3, 4)), {}
    for posterior in ("structured", "flow"):
        model, params = linear_model_and_posterior(posterior)
        truth = float(jax.jit(kalman)(params["decoder"], x))
        params, bound = fitted(model, params, x)
        gaps[posterior] = truth - bound
        if posterior == "flow":
            found = aevb.marginal_likelihood.particle_filter(params, KEY, x, model, 1000)
            assert float(found.log_marginal) == pytest.approx(truth, abs=0.2)
    assert 0 < gaps["flow"] < 0.5 * gaps["structured"]


def fitted(model, params, x):
    """Return parameters with phi fitted to one sequence and theta unchanged, and the bound there."""
    bound = functools.partial(aevb.elbo, num_samples=10, kl="sampled")
    optimizer = optax.adam(3e-2)

    def loss(phi, key):
        return -bound({"encoder": phi, "decoder": params["decoder"]}, key, x, model)

    def step(state, key):
        phi, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(phi, key), moments)
        return (optax.apply_updates(phi, updates), moments), None

    @jax.jit
    def train(phi):
        (phi, _), _ = jax.lax.scan(step, (phi, optimizer.init(phi)), jax.random.split(KEY, 200))
        return phi, -jnp.mean(jax.vmap(loss, (None, 0))(phi, jax.random.split(jax.random.key(9), 200)))

    phi, value = train(params["encoder"])
    return {"encoder": phi, "decoder": params["decoder"]}, float(value)
