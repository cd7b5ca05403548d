"""Latents along time, and partly missing data, against a Kalman filter and smoother."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Markov, Observed
from aevb.distributions import zeros_and_mask
from tests.gaussians import path_elbo, recording, state_space
from tests.test_levels import COMBINATIONS, NUM_DRAWS, assert_unbiased

pytestmark = pytest.mark.usefixtures("barely_optimized")

LENGTH, PADDING = 40, 10
WRONG = {"shift": np.array([0.15, -0.1, 0.2]), "widen": np.array(1.4)}


def wrong(params):
    return params | {"encoder": WRONG}


def test_the_bound_is_tight_at_the_exact_smoother_and_its_gradient_is_the_kalman_filters(x64):
    """The path has 40 steps with a gap, a missing entry and ten steps of padding.

    q changes with theta, as the smoother does.
    """
    exact = state_space(LENGTH + PADDING)
    x = jnp.asarray(recording(LENGTH, PADDING))
    truth, slope = jax.value_and_grad(exact.log_marginal)(exact.params, x)
    bound = jax.jit(jax.value_and_grad(functools.partial(aevb.elbo, kl="sampled")))
    keys = jax.random.split(jax.random.key(0), 3)
    for key in keys:
        value, gradient = bound(exact.params, key, x, exact.model)
        assert abs(float(value - truth)) < 1e-10 * abs(float(truth))
        for name, leaf in gradient["decoder"].items():
            scale = np.max(np.abs(slope["decoder"][name]))
            np.testing.assert_allclose(leaf, slope["decoder"][name], rtol=0, atol=1e-10 * scale, err_msg=name)
    weighted = jax.jit(functools.partial(aevb.iwae_bound, num_samples=5))
    assert abs(float(weighted(exact.params, keys[0], x, exact.model) - truth)) < 1e-10 * abs(float(truth))


def test_the_score_is_left_out_of_sticking_the_landing(x64):
    """At the exact smoother its gradient in phi is 0 for every draw, unlike the pathwise one."""
    exact = state_space(LENGTH)
    x = jnp.asarray(recording(LENGTH))
    slopes = {}
    for gradient in ("sticking_the_landing", "pathwise"):
        bound = functools.partial(aevb.elbo, kl="sampled", gradient=gradient)
        slopes[gradient] = jax.jit(jax.grad(bound))(exact.params, jax.random.key(0), x, exact.model)["encoder"]
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(slopes["sticking_the_landing"])) < 1e-9
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(slopes["pathwise"])) > 1e-2


@pytest.mark.parametrize(("kl", "gradient"), COMBINATIONS)
def test_elbo_and_gradient_are_unbiased_at_a_wrong_posterior(x64, kl, gradient):
    """The path is short, with a gap, a missing entry and a padding step. Its exact bound is that of one Gaussian."""
    length = 5
    exact, x = state_space(length), jnp.asarray(recording(length - 1, 1))
    params = jax.tree.map(jnp.asarray, wrong(exact.params))
    value, slope = jax.value_and_grad(path_elbo)(params, x)
    np.testing.assert_allclose(path_elbo(exact.params, x), exact.log_marginal(exact.params, x), rtol=1e-12)
    assert value < exact.log_marginal(params, x) - 0.05
    bound = functools.partial(aevb.elbo, num_samples=2, kl=kl, gradient=gradient)
    draw = lambda key: jax.value_and_grad(bound)(params, key, x, exact.model)
    values, slopes = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(2), NUM_DRAWS))
    assert_unbiased(values, value)
    assert_unbiased(slopes, slope)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_padding_counts_nothing(x64, kl):
    """A padded path has the same bound, gradient and KL by step as the path without padding, draw by draw."""
    cut, padded = state_space(LENGTH), state_space(LENGTH + PADDING)
    x, longer = recording(LENGTH), recording(LENGTH, PADDING)
    params = wrong(cut.params)
    assert cut.log_marginal(params, x) == pytest.approx(float(padded.log_marginal(params, longer)), rel=1e-12)
    terms = jax.jit(jax.vmap(lambda key: aevb.elbo_terms(params, key, longer, padded.model, kl=kl)))
    found = terms(jax.random.split(jax.random.key(0), 20))
    assert found.kl_by_level["z"].shape == (20, LENGTH + PADDING)
    np.testing.assert_allclose(found.kl_by_level["z"][:, LENGTH:], 0, atol=1e-12)
    np.testing.assert_allclose(found.kl, jnp.sum(found.kl_by_level["z"], axis=1), rtol=1e-12)

    # Both have the same noise: the first steps of the longer path.
    short, posterior = cut.model.encode(params, jnp.asarray(x)), padded.model.encode(params, jnp.asarray(longer))
    z = jnp.asarray(posterior.sample(jax.random.key(1)))
    for one, other in ((short, posterior), (cut.model.prior(params), padded.model.prior(params))):
        assert isinstance(one, Markov)
        assert isinstance(other, Markov)
        np.testing.assert_allclose(one.log_probs(z[:LENGTH]), other.log_probs(z)[:LENGTH], rtol=1e-12)
    likelihoods = (cut.model.decode(params, z[:LENGTH]).log_prob(x), padded.model.decode(params, z).log_prob(longer))
    np.testing.assert_allclose(*likelihoods, rtol=1e-12)


def test_evaluate_reports_steps_and_counts_each_unit_once(x64):
    exact = state_space(6)
    data = np.random.RandomState(0).randn(200, 6, 4)
    data[:, 4:] = np.nan
    bound = aevb.evaluate(
        exact.params, jax.random.key(0), data, exact.model, aevb.Estimator(kl="sampled"), active_units=True
    )
    truth = float(np.mean(jax.vmap(exact.log_marginal, (None, 0))(exact.params, jnp.asarray(data))))
    assert bound.elbo == pytest.approx(truth, abs=1e-9)
    assert bound.kl_by_level["z"].shape == (6,)
    assert bound.kl == pytest.approx(bound.kl_by_level["z"].sum())
    assert bound.active_units == 3
    silent = aevb.evaluate(exact.params, jax.random.key(0), data, exact.model, aevb.Estimator(kl="sampled"))
    assert (silent.elbo, silent.active_units) == (bound.elbo, None)


# Observed


LIKELIHOODS = {
    "gaussian": lambda: dist.Normal(jnp.linspace(-1, 1, 12).reshape(3, 4), 0.7),
    "independent": lambda: dist.Normal(jnp.linspace(-1, 1, 12).reshape(3, 4), 0.7).to_event(2),
    "bernoulli": lambda: dist.Bernoulli(logits=jnp.linspace(-1, 1, 12).reshape(3, 4)),
    "gamma": lambda: dist.Gamma(jnp.linspace(1, 2, 12).reshape(3, 4), 2.0),
    "categorical": lambda: dist.Categorical(logits=jnp.linspace(-1, 1, 60).reshape(3, 4, 5)),
    "poisson": lambda: dist.Poisson(jnp.linspace(1, 2, 12).reshape(3, 4)),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_what_is_missing_counts_nothing(x64, name):
    """The density is the marginal of the observed values, and the gradients of both sides are finite."""
    make = LIKELIHOODS[name]
    value = np.array(make().sample(jax.random.key(0)), np.float64)
    missing = np.random.RandomState(0).rand(3, 4) < 0.4
    value[missing] = np.nan
    base = make()
    while isinstance(base, dist.Independent):
        base = base.base_dist
    is_discrete = base.support is not None and base.support.is_discrete
    filled = np.where(missing, np.ones(()), value).astype(int if is_discrete else float)
    expected = np.sum(np.asarray(base.log_prob(filled))[~missing])

    def density(scale, value):
        parts = jax.tree.map(lambda leaf: leaf * scale, make())
        return Observed(parts).log_prob(value)

    observed = Observed(make())
    assert (observed.batch_shape, observed.event_shape) == ((), (3, 4))
    assert abs(float(observed.log_prob(value)) - expected) < 1e-8
    assert np.isfinite(jax.grad(density)(1.0, jnp.asarray(value)))
    complete = np.asarray(make().sample(jax.random.key(1)))
    assert float(Observed(make()).log_prob(complete)) == pytest.approx(
        float(np.sum(base.log_prob(complete))), rel=1e-12
    )
    if not is_discrete:
        slope = jax.grad(density, argnums=1)(1.0, jnp.asarray(value))
        assert np.all(np.isfinite(slope))
        np.testing.assert_array_equal(np.asarray(slope)[missing], 0)
    assert np.shape(observed.sample(jax.random.key(2), (5,))) == (5, 3, 4)
    np.testing.assert_array_equal(observed.mean, base.mean)


def test_an_encoder_sees_zeros_and_a_mask():
    values, mask = zeros_and_mask(jnp.array([1.0, jnp.nan, 3.0]))
    np.testing.assert_array_equal(values, [1, 0, 3])
    np.testing.assert_array_equal(mask, [1, 0, 1])


# Markov


def random_walk(params, z, inputs):
    return dist.Normal(z + inputs[..., None], params).to_event(1)


def standalone(params, z, inputs):
    """A step that does not depend on the one before."""
    return dist.Normal(inputs[..., None] * jnp.ones(2), params).to_event(1)


@pytest.mark.parametrize("step", [random_walk, standalone])
@pytest.mark.parametrize("sample_shape", [(), (3,), (3, 2)])
def test_paths_are_drawn_step_by_step_and_weighed_at_once(x64, step, sample_shape):
    path = Markov(step, jnp.array([0.5, 2.0]), jnp.zeros(2), jnp.arange(4.0))
    z = path.sample(jax.random.key(0), sample_shape)
    assert z.shape == (*sample_shape, 4, 2)
    assert (path.event_shape, path.batch_shape, path.has_rsample) == ((4, 2), (), True)
    expected, previous = [], jnp.zeros((*sample_shape, 2))
    for t in range(4):
        expected.append(step(path.params, previous, jnp.float64(t)).log_prob(z[..., t, :]))
        previous = z[..., t, :]
    np.testing.assert_allclose(path.log_probs(z), jnp.stack(expected, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(path.log_prob(z), sum(expected), rtol=1e-12)
    assert len(np.unique(z)) == z.size  # every step and every path has its own noise


def test_paths_of_discrete_states_are_drawn_and_weighed():
    """The probabilities of a hidden Markov chain of three states sum to one over all paths."""
    weights = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]))
    step = lambda params, state, inputs: dist.Categorical(logits=params[state])
    chain = Markov(step, weights, jnp.int32(0), jnp.arange(4))
    paths = jnp.stack(jnp.meshgrid(*[jnp.arange(3)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    assert float(jnp.sum(jnp.exp(chain.log_prob(paths)))) == pytest.approx(1, abs=1e-5)
    assert not chain.has_rsample
    draws = chain.sample(jax.random.key(0), (4000,))
    assert draws.shape == (4000, 4)
    assert np.mean(np.asarray(draws[:, 0]) == 1) == pytest.approx(0.2, abs=0.03)
