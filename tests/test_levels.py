"""Levels of latents against an exact model: two levels, drawn in either order, given a condition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb import Given, marginal_likelihood
from aevb.distributions.levels import closed_form_kl, log_densities, sampled_kl
from aevb.model import bind
from tests.gaussians import SIZE_C, SIZE_X, two_levels

pytestmark = pytest.mark.usefixtures("barely_optimized")

NUM_DRAWS = 40_000
MOST_SIGMA = 4.5

DATAPOINT = Given(2 * np.random.RandomState(3).randn(SIZE_X), np.random.RandomState(4).randn(SIZE_C))

COMBINATIONS = [
    ("sampled", "pathwise"),
    ("sampled", "sticking_the_landing"),
    ("sampled", "score_function"),
    ("sampled", "score_function_leave_one_out"),
    ("analytic", "pathwise"),
    ("analytic", "score_function"),
    ("analytic", "score_function_leave_one_out"),
]


def assert_unbiased(draws, exact) -> None:
    """Require that the mean over draws of every component is exact, within `MOST_SIGMA` standard errors."""
    leaves = zip(jax.tree_util.tree_leaves_with_path(draws), jax.tree.leaves(exact), strict=True)
    for (path, found), expected in leaves:
        found = np.asarray(found, np.float64)
        error = found.std(0) / len(found) ** 0.5
        rounding = 1e-6 * (1 + np.abs(found).max())
        excess = np.abs(found.mean(0) - np.asarray(expected)) - (MOST_SIGMA * error + rounding)
        assert np.all(excess < 0), (jax.tree_util.keystr(path), excess.max())


@pytest.fixture(params=["up", pytest.param("down", marks=pytest.mark.slow)])
def order(request) -> str:
    return request.param


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
def test_bounds_are_tight_at_the_exact_posterior(precision, dtype, tolerance, order):
    exact = two_levels(order, tight=True)
    with jax.enable_x64(True):
        truth = float(exact.log_marginal(exact.params, DATAPOINT))
    params, datapoint = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (exact.params, DATAPOINT))

    @jax.jit
    @jax.vmap
    def bounds(key):
        elbo = aevb.elbo(params, key, datapoint, exact.model, kl="sampled")
        return elbo, aevb.iwae_bound(params, key, datapoint, exact.model, 4)

    np.testing.assert_allclose(jnp.stack(bounds(jax.random.split(jax.random.key(0), 5))), truth, rtol=0, atol=tolerance)
    estimate = jax.jit(functools.partial(marginal_likelihood.importance_sampling, num_samples=300))
    found = estimate(params, jax.random.key(1), datapoint, exact.model)
    assert abs(float(found.log_marginal) - truth) < tolerance
    assert float(found.effective_sample_size) == pytest.approx(300, rel=1e-4)


@pytest.mark.parametrize(
    "method", ["hmc", pytest.param("mixture", marks=pytest.mark.slow), pytest.param("ais", marks=pytest.mark.slow)]
)
def test_estimates_of_the_marginal_likelihood_are_within_their_errors(method, order):
    exact = two_levels(order, tight=False)
    params, datapoint = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (exact.params, DATAPOINT))
    truth = float(exact.log_marginal(params, datapoint))
    xs = jax.tree.map(lambda leaf: leaf[None], datapoint)
    options = {"num_distributions": 300} if method == "ais" else {}
    found = marginal_likelihood.evaluate(params, jax.random.key(1), xs, exact.model, method, **options)
    for each in found if method == "ais" else (found,):
        values = each.per_datapoint
        assert abs(each.mean - truth) < MOST_SIGMA * float(values.standard_error[0]) + 1e-3
        assert values.standard_error[0] < 0.1
        assert values.r_hat is None or values.r_hat[0] < 1.1


@pytest.mark.parametrize(("kl", "gradient"), COMBINATIONS)
def test_elbo_and_gradient_are_unbiased_at_a_wrong_posterior(x64, order, kl, gradient):
    exact = two_levels(order, tight=False)
    value, slope = jax.value_and_grad(exact.exact)(exact.params, DATAPOINT)
    assert value < exact.log_marginal(exact.params, DATAPOINT) - 0.1
    bound = functools.partial(aevb.elbo, num_samples=2, kl=kl, gradient=gradient)
    draw = lambda key: jax.value_and_grad(bound)(exact.params, key, DATAPOINT, exact.model)
    values, slopes = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(2), NUM_DRAWS))
    assert_unbiased(values, value)
    assert_unbiased(slopes, slope)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["doubly_reparameterized", "score_function", "score_function_leave_one_out"])
@pytest.mark.parametrize("kl_weight", [1.0, 0.6])
def test_gradients_of_the_weighted_bound_agree(x64, order, gradient, kl_weight):
    """They agree with the pathwise one, which is unbiased by definition. This includes a weighted KL."""
    exact = two_levels(order, tight=False)
    xs = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], DATAPOINT)

    def draws(gradient, key):
        estimator = aevb.Estimator(3, gradient=gradient, bound="iwae")
        loss = aevb.make_loss(exact.model, 1, estimator, kl_weight=kl_weight)
        return jax.jit(jax.vmap(lambda key: jax.grad(loss)(exact.params, key, xs)))(jax.random.split(key, NUM_DRAWS))

    pathwise, other = draws("pathwise", jax.random.key(3)), draws(gradient, jax.random.key(4))
    for one, two in zip(jax.tree.leaves(pathwise), jax.tree.leaves(other), strict=True):
        error = np.sqrt((one.var(0) + two.var(0)) / NUM_DRAWS)
        assert np.all(np.abs(one.mean(0) - two.mean(0)) < MOST_SIGMA * error + 1e-9)


def test_the_score_term_of_a_lower_levels_kl_is_needed(x64):
    """Without it, as for a single level, the gradient is far off, and the oracle detects it."""
    exact = two_levels("up", tight=False)
    slope = jax.grad(exact.exact)(exact.params, DATAPOINT)

    def without(params, key):
        arguments = (params, key, DATAPOINT, exact.model, 2)
        terms = aevb.elbo_terms(*arguments, gradient="score_function_leave_one_out")
        bound, x = bind(exact.model, DATAPOINT)
        q, p = bound.encode(params, x), bound.prior(params)
        z = jax.lax.stop_gradient(q.sample(key, (2,)))
        levels = sampled_kl(log_densities(q, z), log_densities(p, z)) | closed_form_kl(q, p, z)
        return terms.reconstruction - sum(jnp.mean(level) for level in levels.values())

    draw = jax.jit(jax.vmap(lambda key: jax.grad(without)(exact.params, key)))
    with pytest.raises(AssertionError):
        assert_unbiased(draw(jax.random.split(jax.random.key(2), 5000)), slope)


def test_kl_by_level_adds_up_and_its_means_do_not_depend_on_the_estimator(x64, order):
    exact = two_levels(order, tight=False)
    keys = jax.random.split(jax.random.key(5), NUM_DRAWS)
    means = []
    for kl in ("analytic", "sampled"):
        terms = jax.jit(jax.vmap(lambda key, kl=kl: aevb.elbo_terms(exact.params, key, DATAPOINT, exact.model, kl=kl)))(
            keys
        )
        assert set(terms.kl_by_level) == {"z1", "z2"}
        np.testing.assert_allclose(terms.kl, sum(terms.kl_by_level.values()), rtol=1e-12)
        means.append({k: (v.mean(), v.std() / NUM_DRAWS**0.5) for k, v in terms.kl_by_level.items()})
    # The first level has no closed form if p draws it last: both are then sampled from the same draws.
    for level in ("z1", "z2"):
        (one, error), (two, other_error) = (each[level] for each in means)
        assert abs(one - two) < MOST_SIGMA * (error + other_error)


def test_evaluate_reports_levels(order):
    exact = two_levels(order, tight=False)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), exact.params)
    rng = np.random.RandomState(6)
    data = Given(rng.randn(500, SIZE_X).astype(np.float32), rng.randn(500, SIZE_C).astype(np.float32))
    bound = aevb.evaluate(params, jax.random.key(0), data, exact.model, aevb.Estimator(50), active_units=True)
    expected = float(np.mean(jax.vmap(exact.exact, (None, 0))(params, data)))
    assert bound.elbo == pytest.approx(expected, abs=0.05)
    assert bound.kl == pytest.approx(sum(bound.kl_by_level.values()), rel=1e-6)
    assert bound.active_units_by_level == {"z1": 3, "z2": 2}
    assert bound.active_units == 5
    assert aevb.evaluate(params, jax.random.key(0), data, exact.model).active_units is None
