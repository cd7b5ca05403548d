"""Estimates against the linear-Gaussian model, whose log p(x) is known.

Compilation dominates the run time: tests share data and options, and thereby compiled programs, where possible.
"""

import dataclasses
import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import aevb
from aevb import marginal_likelihood
from tests.conftest import ROOT
from tests.models import MODELS, linear_gaussian_model
from tests.oracles import LinearGaussian

DATA_DIM = 12
QUICK = {"xla_backend_optimization_level": 1}  # to compile
OPTIONS = {
    "is": {"num_samples": 1000},
    "hmc": {"num_chains": 4, "num_samples": 100, "num_fit_samples": 50, "num_warmup": 60, "num_prior_draws": 100},
    "mixture": {"num_samples": 2000, "num_chains": 4, "num_fit_samples": 100, "num_warmup": 60},
    "ais": {"num_distributions": 30, "num_chains": 16, "num_warmup": 60, "num_posterior_steps": 40},
}
FUNCTIONS = {
    "is": marginal_likelihood.importance_sampling,
    "hmc": marginal_likelihood.hmc_estimator,
    "mixture": marginal_likelihood.mixture_importance_sampling,
    "ais": marginal_likelihood.annealed_importance_sampling,
}


@functools.cache
def problem(latent_dim: int, full_covariance: bool = True, size: int = 60):
    """Return a model, parameters whose encoder is slightly too wide, data from the model, and their log p(x)."""
    exact = LinearGaussian.random(DATA_DIM, latent_dim, 0)
    whole = linear_gaussian_model(exact, full_covariance)
    # The prior of the diagonal model, because the other solves a triangular system at every leapfrog step.
    prior = linear_gaussian_model(exact, full_covariance=False).prior
    model = aevb.Model(whole.init, whole.encode, whole.decode, prior)
    params = whole.init(jax.random.key(0))
    if full_covariance:
        params["encoder"]["factor"] = 1.1 * params["encoder"]["factor"]
    rng = np.random.RandomState(1)
    z, noise = rng.randn(size, latent_dim), rng.randn(size, DATA_DIM)
    data = (z @ exact.weights.T + exact.bias + exact.noise_variance**0.5 * noise).astype(np.float32)
    return model, params, data, np.array([exact.log_marginal(x) for x in data])


def assert_within_errors(estimate, truth):
    """Require that errors divided by their standard errors have a root mean square of about 1."""
    values = estimate.per_datapoint
    errors = values.log_marginal - truth
    assert 0.7 < np.sqrt(np.mean((errors / values.standard_error) ** 2)) < 1.5
    assert abs(np.mean(errors)) < 4 * estimate.monte_carlo_error
    assert estimate.monte_carlo_error < 0.02
    assert estimate.mean == pytest.approx(np.mean(values.log_marginal, dtype=np.float64))
    assert estimate.standard_error == pytest.approx(np.std(truth, ddof=1) / len(truth) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("method", "latent_dim"),
    [("is", 2), ("is", 10), ("hmc", 2), ("hmc", 10), ("mixture", 2), ("mixture", 10), ("ais", 2), ("ais", 10)],
)
def test_every_method_lands_on_the_exact_value(method, latent_dim):
    model, params, data, truth = problem(latent_dim)
    estimate = marginal_likelihood.evaluate(params, jax.random.key(0), data, model, method, **OPTIONS[method])
    for part in estimate if method == "ais" else [estimate]:
        assert_within_errors(part, truth)
        assert part.per_datapoint.r_hat is None or np.max(part.per_datapoint.r_hat) < 1.2
    if method == "ais":
        lower, upper = estimate
        assert lower.mean - 3 * lower.monte_carlo_error < np.mean(truth) < upper.mean + 3 * upper.monte_carlo_error
    if method == "hmc":
        assert np.mean(estimate.per_datapoint.acceptance) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("method", "limit"), [("is", 0.05), ("hmc", 0.03)])
def test_errors_are_small_with_an_encoder_that_is_wrong(method, limit):
    """Three latents, 100 points and the defaults; the encoder has no covariances."""
    model, params, data, truth = problem(3, full_covariance=False, size=100)
    estimate = marginal_likelihood.evaluate(params, jax.random.key(0), data, model, method)
    error = np.sqrt(np.mean((estimate.per_datapoint.log_marginal - truth) ** 2))
    print(f"{method}: root mean square error {error:.4f} nats")  # for RESULTS.md: pytest -rP
    assert error < limit


def test_block_size_changes_nothing(x64):
    """Double precision is needed because the error is a small difference of large sums."""
    model, params, data, _ = problem.__wrapped__(2)
    x = jnp.asarray(data[0], jnp.float64)
    results = [
        marginal_likelihood.importance_sampling(params, jax.random.key(0), x, model, 103, block_size)
        for block_size in (1, 7, 103, 1000)
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result[:3], results[0][:3], rtol=1e-9)


@pytest.mark.parametrize("method", ["is", "hmc"])
def test_chunk_size_changes_nothing(method, x64):
    model, params, data, _ = problem.__wrapped__(2)  # its own data, in double precision
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
    options = {"num_samples": 9}
    if method == "hmc":
        options |= {"num_fit_samples": 8, "num_chains": 2, "num_warmup": 5, "num_prior_draws": 3}
    done = []
    whole, chunked = (
        marginal_likelihood.evaluate(
            params, jax.random.key(0), data[:5].astype(np.float64), model, method, size, done.append, **options
        )
        for size in (1000, 2)
    )
    assert done == [5, 2, 4, 5]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8), whole, chunked)


def test_the_sandwich_closes_with_more_temperatures():
    """The chains start from exact posterior draws, and from the distant prior."""
    exact = LinearGaussian.random(DATA_DIM, 3, 0)
    model, params, data, truth = problem(3)
    means, covariance = np.stack([exact.posterior(x)[0] for x in data]), exact.posterior(data[0])[1]
    noise = np.random.RandomState(2).randn(len(data), 16, 3)
    posterior = (means[:, None] + noise @ np.linalg.cholesky(covariance).T).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), len(data))

    def gap(num_distributions: int) -> float:
        ais = lambda key, x, z: marginal_likelihood.annealed_importance_sampling(
            params, key, x, model, num_distributions, use_encoder=False, posterior_samples=z
        )
        lower, upper = jax.jit(jax.vmap(ais), compiler_options=QUICK)(keys, data, posterior)
        below, above = np.mean(lower.log_marginal) - np.mean(truth), np.mean(upper.log_marginal) - np.mean(truth)
        errors = [np.sqrt(np.sum(np.square(bound.standard_error))) / len(data) for bound in (lower, upper)]
        assert below < 3 * errors[0]
        assert above > -3 * errors[1]
        return above - below

    coarse, fine = gap(5), gap(50)
    assert coarse > 1.0
    assert 0.0 < fine < 0.1 * coarse


def test_chains_in_different_modes_are_seen():
    """|z| is observed, with two modes 6 apart that no trajectory connects. The prior's starts are in both."""
    decode = lambda params, z: dist.Normal(jnp.abs(z), 0.1).to_event(1)
    prior = lambda params: dist.Normal(jnp.zeros(1), 2.0).to_event(1)
    encode = lambda params, x: dist.Normal(x, 0.1).to_event(1)
    model = aevb.Model(lambda key: {}, encode, decode, prior)
    data = np.array([[3.0], [0.0]], np.float32)
    estimate = marginal_likelihood.evaluate(
        {}, jax.random.key(0), data, model, "hmc", use_encoder=False, num_prior_draws=10
    )
    two_modes, one_mode = np.asarray(estimate.per_datapoint.r_hat)
    assert two_modes > 2
    assert one_mode < 1.2


def test_a_mode_without_mass_is_left():
    """A second mode is 22 nats below the first, and half of the chains start in it.

    The value is that of the first alone.
    """
    height = lambda z: jnp.where(z > 0, 0.0, 2.0)  # 22 nats of a second observation
    decode = lambda params, z: dist.Normal(jnp.concatenate([jnp.abs(z), height(z)]), jnp.array([0.1, 0.3])).to_event(1)
    prior = lambda params: dist.Normal(jnp.zeros(1), 2.0).to_event(1)
    encode = lambda params, x: dist.Normal(-x[:1], 0.1).to_event(1)
    model = aevb.Model(lambda key: {}, encode, decode, prior)
    x, scale = np.array([3.0, 0.0], np.float32), 4 + 0.1**2
    truth = -0.5 * (3.0**2 / scale + np.log(2 * np.pi * scale) + np.log(2 * np.pi * 0.3**2))
    options = {**OPTIONS["hmc"], "num_prior_draws": 10}
    estimate = marginal_likelihood.evaluate({}, jax.random.key(0), x[None], model, "hmc", **options).per_datapoint
    assert np.max(estimate.r_hat) < 1.2
    np.testing.assert_allclose(estimate.log_marginal[0], truth, atol=4 * estimate.standard_error[0] + 0.01, rtol=0)


def test_bias_of_hmc_is_upward_and_grows_with_latent_dimensions():
    """The bias comes from Jensen's inequality alone: 1 / p(x) is unbiased for any number of draws."""

    def bias(latent_dim: int) -> tuple[float, float]:
        model, params, data, truth = problem(latent_dim, size=600)
        options = {"num_samples": 4, "num_fit_samples": 20, "num_chains": 4}
        estimate = marginal_likelihood.evaluate(params, jax.random.key(0), data, model, "hmc", 600, **options)
        errors = estimate.per_datapoint.log_marginal - truth
        ratios = np.exp(-errors)
        assert abs(np.mean(ratios) - 1) < 3.5 * np.std(ratios) / len(ratios) ** 0.5
        return np.mean(errors), np.std(errors) / len(errors) ** 0.5

    (low, low_error), (high, high_error) = bias(2), bias(10)
    assert high > 3 * high_error
    assert high - low > 3 * np.hypot(low_error, high_error)


class Anything(constraints.Constraint):
    """A support that includes NaN."""

    def __call__(self, x):
        return jnp.ones(jnp.shape(x), bool)

    def tree_flatten(self):
        return (), ((), {})


class Unchecked(dist.Normal):
    support = Anything()


@pytest.mark.parametrize("method", ["is", "hmc"])
def test_what_is_not_a_number_is_not_hidden(method):
    model, params, data, _ = problem(2)
    data = data.copy()
    data[17, 3] = np.nan
    with pytest.raises(ValueError, match="data has NaN"):
        marginal_likelihood.evaluate(params, jax.random.key(0), data, model, method, **OPTIONS[method])

    def decode(params, z):
        mean = params["decoder"]["weights"] @ z + params["decoder"]["bias"]
        return Unchecked(mean, 0.5).to_event(1)

    model = dataclasses.replace(model, decode=decode)
    estimate = marginal_likelihood.evaluate(params, jax.random.key(0), data, model, method, **OPTIONS[method])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(estimate.per_datapoint.log_marginal)), [17])
    assert np.isnan(estimate.mean)
    assert np.isnan(estimate.monte_carlo_error)


@pytest.mark.parametrize("method", list(FUNCTIONS))
@pytest.mark.parametrize("name", ["flow", "full covariance", "image", "bfloat16"])
def test_every_model_is_traced(name, method):
    """The gradients of prior, encoder and decoder are traced, which is all that can fail before numbers appear."""
    model, _ = MODELS[name]
    params = model.init(jax.random.key(0))
    x = jnp.full(model.decode(params, jnp.zeros(3)).event_shape, 0.5)
    estimate = jax.eval_shape(lambda key: FUNCTIONS[method](params, key, x, model), jax.random.key(0))
    assert all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(estimate))


@pytest.mark.parametrize("method", ["hmc", "mixture", "ais"])
def test_no_encoder_is_needed(method):
    whole, _ = MODELS["bernoulli"]
    params = {"decoder": whole.init(jax.random.key(0))["decoder"]}
    model = aevb.Model(whole.init, lambda params, x: pytest.fail("encode was called"), whole.decode, whole.prior)
    function = functools.partial(FUNCTIONS[method], params, x=jnp.zeros(DATA_DIM), model=model, use_encoder=False)
    jax.eval_shape(lambda key: function(key=key), jax.random.key(0))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("importance", {}, "method must be one of .*'importance'"),
        ("is", {"num_samples": 1}, "num_samples must be at least 2, got 1"),
        ("is", {"block_size": 0}, "block_size must be at least 1, got 0"),
        ("is", {"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ("hmc", {"num_chains": 0}, "num_chains must be at least 1, got 0"),
        ("hmc", {"num_fit_samples": 1}, "num_fit_samples must be at least 2, got 1"),
        ("mixture", {"num_warmup": 0}, "num_warmup must be at least 1, got 0"),
        ("ais", {"num_distributions": 1}, "num_distributions must be at least 2, got 1"),
        ("ais", {"num_posterior_steps": 3}, "num_posterior_steps must be at least 4, got 3"),
    ],
)
def test_bad_arguments_are_named(method, options, message):
    model, params, data, _ = problem(2)
    with pytest.raises(ValueError, match=message):
        marginal_likelihood.evaluate(params, jax.random.key(0), data, model, method, **options)


def test_bad_data_and_types_are_named():
    model, params, data, _ = problem(2)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="data are empty"):
        marginal_likelihood.evaluate(params, key, data[:0], model, "is")
    with pytest.raises(ValueError, match=r"x has shape \(60, 12\).*\(12,\); this function takes one datapoint"):
        marginal_likelihood.hmc_estimator(params, key, data, model)
    with pytest.raises(TypeError, match=r"num_samples must be an integer, got 10\.0"):
        marginal_likelihood.importance_sampling(params, key, data[0], model, num_samples=10.0)
    with pytest.raises(ValueError, match=r"posterior_samples must have shape \(16, 2\), got \(3, 2\)"):
        marginal_likelihood.annealed_importance_sampling(
            params, key, data[0], model, posterior_samples=jnp.zeros((3, 2))
        )
    with pytest.raises(TypeError, match=r"model must be an aevb\.Model, got 'model'"):
        marginal_likelihood.importance_sampling(params, key, data[0], "model")


def test_import_aevb_does_not_import_blackjax():
    program = (
        "import sys, aevb; assert 'blackjax' not in sys.modules; "
        "aevb.marginal_likelihood.evaluate; assert 'blackjax' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
