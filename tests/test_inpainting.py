"""Posteriors of z and of hidden values against exact ones, of a linear-Gaussian model and by a grid over z."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.diagnostics import effective_sample_size
from scipy.special import logsumexp

import aevb
from aevb import posterior
from tests.models import linear_gaussian_model
from tests.oracles import LinearGaussian, log_normal

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
ERRORS = 4.5  # allowed error of an estimate, in standard errors
DATA_DIM, LATENT_DIM, NUM_CHAINS = 5, 2, 4
OPTIONS: dict[str, Any] = {"num_samples": 800, "num_warmup": 80, "num_transitions": 400, "num_chains": NUM_CHAINS}
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)  # each compiles its own programs


# A linear-Gaussian model


EXACT = LinearGaussian.random(DATA_DIM, LATENT_DIM, 0)
LINEAR = linear_gaussian_model(EXACT, full_covariance=False)
PARAMS = LINEAR.init(KEY)
_NOISE = np.random.RandomState(1).randn(4, LATENT_DIM + DATA_DIM)
TRUTH = _NOISE[:, :LATENT_DIM] @ EXACT.weights.T + EXACT.bias + EXACT.noise_variance**0.5 * _NOISE[:, LATENT_DIM:]
TRUTH = TRUTH.astype(np.float32)
HIDDEN = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
SEEN = np.where(HIDDEN, np.float32(np.nan), TRUTH)
NOISE = 0.8


class Gaussian(NamedTuple):
    mean: np.ndarray
    covariance: np.ndarray


def joint(noise_scale: float = 0.0) -> Gaussian:
    """Return the Gaussian of z, x and y, `[J + 2 D]`, y = x + noise."""
    weights, variance = EXACT.weights, EXACT.noise_variance
    response = np.concatenate([np.eye(LATENT_DIM), weights, weights])
    covariance = response @ response.T
    covariance[LATENT_DIM:, LATENT_DIM:] += variance * np.tile(np.eye(DATA_DIM), (2, 2))
    covariance[-DATA_DIM:, -DATA_DIM:] += noise_scale**2 * np.eye(DATA_DIM)
    return Gaussian(np.concatenate([np.zeros(LATENT_DIM), EXACT.bias, EXACT.bias]), covariance)


def given(y: np.ndarray, noise_scale: float = 0.0) -> Gaussian:
    """Return the Gaussian of z and x, `[J + D]`, given the values of y that are not NaN."""
    mean, covariance = joint(noise_scale)
    seen = LATENT_DIM + DATA_DIM + np.flatnonzero(~np.isnan(y))
    rest = slice(LATENT_DIM + DATA_DIM)
    gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen, rest]).T
    found = mean[rest] + gain @ (y[~np.isnan(y)] - mean[seen])
    return Gaussian(found, covariance[rest, rest] - gain @ covariance[seen, rest])


def assert_draws_are_of(draws: np.ndarray, exact: Gaussian) -> None:
    """Require that draws `[S, D]`, chain after chain, have this mean and covariance within their standard errors."""
    chains = np.float64(draws).reshape(NUM_CHAINS, -1, draws.shape[-1])
    deviations = chains - exact.mean
    products = deviations[..., :, None] * deviations[..., None, :]
    for values, expected in ((deviations, 0 * exact.mean), (products, exact.covariance)):
        error = values.std(axis=(0, 1)) / np.sqrt(np.asarray(effective_sample_size(values)))
        assert np.all(np.abs(values.mean(axis=(0, 1)) - expected) <= ERRORS * error + 1e-6)


@pytest.mark.slow
def test_draws_of_z_have_the_exact_mean_and_covariance():
    """This holds for x seen in part, as a whole, or not at all, where draws are the prior's."""
    found = posterior.draw(PARAMS, KEY, SEEN, LINEAR, **OPTIONS)
    assert found.z.shape == (4, OPTIONS["num_samples"], LATENT_DIM)
    assert np.all(found.r_hat < 1.05)
    assert np.all((found.acceptance > 0.8) & (found.acceptance < 0.97))
    for y, z in zip(SEEN, found.z, strict=True):
        exact = given(y)
        assert_draws_are_of(z, Gaussian(exact.mean[:LATENT_DIM], exact.covariance[:LATENT_DIM, :LATENT_DIM]))


def test_hidden_values_have_the_exact_mean_covariance_and_density():
    """The seen values stay unchanged."""
    num_draws = OPTIONS["num_samples"]
    found = posterior.impute(PARAMS, KEY, SEEN, LINEAR, truth=TRUTH, num_draws=num_draws, **OPTIONS)
    assert found.mean.shape == (4, DATA_DIM)
    assert found.draws.shape == (4, num_draws, DATA_DIM)
    for row, hidden in enumerate(HIDDEN):
        np.testing.assert_array_equal(found.mean[row, ~hidden], TRUTH[row, ~hidden])
        np.testing.assert_array_equal(found.draws[row][:, ~hidden], np.tile(TRUTH[row, ~hidden], (num_draws, 1)))
        assert np.all(np.isnan(found.log_likelihood[row]) == ~hidden)
        if not hidden.any():
            continue
        exact = given(SEEN[row])
        of_hidden = LATENT_DIM + np.flatnonzero(hidden)
        of_hidden = Gaussian(exact.mean[of_hidden], exact.covariance[np.ix_(of_hidden, of_hidden)])
        assert_draws_are_of(found.draws[row][:, hidden], of_hidden)
        scales = np.sqrt(np.diag(of_hidden.covariance))
        # Means of p(x|z) vary less than draws from it, and chains of this model are close to independent draws.
        np.testing.assert_array_less(np.abs(found.mean[row, hidden] - of_hidden.mean), 0.2 * scales)
        one_by_one = -0.5 * ((TRUTH[row, hidden] - of_hidden.mean) / scales) ** 2 - np.log(scales * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(found.log_likelihood[row, hidden], one_by_one, atol=0.6)  # of 800 draws


@pytest.mark.slow
def test_denoised_values_have_the_exact_mean_and_covariance():
    """Each value is informed by its own noisy observation, and by the others through z."""
    noise, num_draws = posterior.gaussian(NOISE), OPTIONS["num_samples"]
    found = posterior.impute(PARAMS, KEY, SEEN, LINEAR, truth=TRUTH, num_draws=num_draws, noise=noise, **OPTIONS)
    for row, y in enumerate(SEEN):
        exact = given(y, NOISE)
        of_x = Gaussian(exact.mean[LATENT_DIM:], exact.covariance[LATENT_DIM:, LATENT_DIM:])
        assert_draws_are_of(found.draws[row], of_x)
        scales = np.sqrt(np.diag(of_x.covariance))
        np.testing.assert_array_less(np.abs(found.mean[row] - of_x.mean), 0.2 * scales)
        one_by_one = -0.5 * ((TRUTH[row] - of_x.mean) / scales) ** 2 - np.log(scales * np.sqrt(2 * np.pi))
        np.testing.assert_allclose(found.log_likelihood[row], one_by_one, atol=0.6)  # of 800 draws


def test_refined_is_the_best_diagonal_gaussian():
    """The best approximation of a Gaussian with precision P has the same mean and variances 1 / P_jj."""
    found = posterior.draw(PARAMS, KEY, SEEN, LINEAR, 4000, method="refined", num_steps=400)
    assert found.r_hat is None
    for y, z in zip(SEEN, found.z, strict=True):
        exact = given(y)
        precision = np.linalg.inv(exact.covariance[:LATENT_DIM, :LATENT_DIM])
        scales = 1 / np.sqrt(np.diag(precision))
        np.testing.assert_array_less(np.abs(z.mean(0) - exact.mean[:LATENT_DIM]), 0.25 * scales)
        np.testing.assert_allclose(z.std(0), scales, rtol=0.15)


def test_the_encoder_sees_the_mean_in_the_place_of_what_is_hidden():
    found = posterior.draw(PARAMS, KEY, SEEN, LINEAR, 4000, method="encoder").z
    means = np.where(HIDDEN, EXACT.bias, TRUTH)  # those of x under the prior, up to the error of 64 draws
    expected = posterior.encode(PARAMS, np.float32(means), LINEAR)
    gains = np.abs(np.asarray(PARAMS["encoder"]["gain"]))
    spread = np.sqrt(np.diag(EXACT.weights @ EXACT.weights.T)) / 64**0.5
    allowed = ERRORS * (expected.scale / 4000**0.5 + HIDDEN @ (gains * spread).T)
    assert np.all(np.abs(found.mean(1) - expected.mean) <= allowed)
    np.testing.assert_allclose(found.std(1), expected.scale, rtol=0.06)
    told: list[int] = []
    parts = posterior.draw(PARAMS, KEY, SEEN, LINEAR, 4000, method="encoder", chunk_size=3, on_chunk=told.append).z
    np.testing.assert_allclose(parts, found, rtol=1e-5, atol=1e-5)
    assert told == [3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [None, NOISE])
def test_log_predictive_is_exact_within_its_error(noise):
    """Tests log p(hidden | seen) and, through noise, log p(x | y), of all values together."""
    options = {"num_samples": 2000, "num_chains": 2, "num_warmup": 50, "num_fit_samples": 50}
    channel = None if noise is None else posterior.gaussian(noise)
    told = []
    found = posterior.log_predictive(
        PARAMS, KEY, SEEN, TRUTH, LINEAR, noise=channel, on_chunk=told.append, chunk_size=3, **options
    )
    assert told == [3, 4, 7, 8]
    for row, (y, x) in enumerate(zip(SEEN, TRUTH, strict=True)):
        exact = given(y, noise or 0.0)
        chosen = HIDDEN[row] if noise is None else np.ones(DATA_DIM, bool)
        of_x = LATENT_DIM + np.flatnonzero(chosen)
        expected = log_normal(x[chosen], exact.mean[of_x], exact.covariance[np.ix_(of_x, of_x)]) if any(chosen) else 0.0
        assert abs(found.log_predictive[row] - expected) <= ERRORS * found.standard_error[row] + 1e-4
    assert np.all(found.standard_error < 0.1)


# A Bernoulli model of two latents, on a grid


PIXELS = 9
BERNOULLI = aevb.mlp_vae((PIXELS,), 2, 6)
_STEPS = np.linspace(-6, 6, 241)
GRID = np.stack(np.meshgrid(_STEPS, _STEPS), axis=-1).reshape(-1, 2).astype(np.float32)


@functools.cache
def bernoulli() -> Any:
    rng = np.random.RandomState(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.randn(*leaf.shape), jnp.float32), jax.eval_shape(BERNOULLI.init, KEY)
    )


@functools.cache
def grid_probabilities() -> np.ndarray:
    """P(x_i = 1 | z) at each z of the grid, `[Z, D]`."""
    means = jax.vmap(lambda z: BERNOULLI.decode(bernoulli(), z).mean)(GRID)
    return np.clip(np.asarray(means, np.float64), 1e-7, 1 - 1e-7)


def by_grid(log_evidence: np.ndarray) -> np.ndarray:
    """Return the posterior masses of the grid, `[Z]`, from log p(y|z)."""
    log_joint = log_evidence - 0.5 * np.sum(np.float64(GRID) ** 2, axis=1)
    return np.exp(log_joint - logsumexp(log_joint))


X = (np.random.RandomState(3).rand(3, PIXELS) < 0.5).astype(np.float32)
GAPS = np.random.RandomState(4).rand(3, PIXELS) < 0.4
FLIP = 0.2


def evidence(y: np.ndarray, noise: str | None) -> np.ndarray:
    """Return log p(y_i | x_i = 0) and log p(y_i | x_i = 1), `[2, D]`, 0 for unseen values."""
    values = np.array([[0.0], [1.0]])
    with np.errstate(divide="ignore"):
        if noise == "gaussian":
            of_each = -0.5 * ((y - values) / NOISE) ** 2 - np.log(NOISE * np.sqrt(2 * np.pi))
        else:
            of_each = np.log(np.where(y == values, 1 - (FLIP if noise else 0), FLIP if noise else 0))
    return np.where(np.isnan(y), 0, of_each)


def exact_pixels(y: np.ndarray, noise: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return P(x_i = 1 | y), the standard deviation of P(x_i = 1 | z, y) over p(z | y), and p(z | y) on the grid."""
    p = grid_probabilities()
    zero, one = np.exp(evidence(y, noise))
    of_y = p * one + (1 - p) * zero
    masses = by_grid(np.sum(np.log(of_y), axis=1))
    restored = p * one / of_y
    mean = np.clip(masses @ restored, 0, 1)  # above 1 by rounding
    return mean, np.sqrt(masses @ (restored - mean) ** 2), masses


@pytest.mark.parametrize("noise", [SLOW(None), "flips", SLOW("gaussian")])
def test_pixels_have_the_probabilities_that_a_grid_over_z_says(noise):
    channel = {"flips": posterior.flips(FLIP), "gaussian": posterior.gaussian(NOISE)}.get(noise or "")
    y = np.where(GAPS, np.float32(np.nan), X)
    if noise == "gaussian":
        y = (y + NOISE * np.random.RandomState(5).randn(*y.shape)).astype(np.float32)
    options = OPTIONS | {"num_samples": 400, "num_transitions": 400}
    found = posterior.impute(bernoulli(), KEY, y, BERNOULLI, truth=X, num_draws=200, noise=channel, **options)
    assert np.all(found.r_hat < 1.1)
    for row in range(len(y)):
        probability, spread, _ = exact_pixels(y[row], noise)
        counts = np.ones(PIXELS, bool) if noise else GAPS[row]
        error = ERRORS * spread / (400 / 4) ** 0.5 + 1e-3  # 400 draws are worth at least 100 independent ones
        assert np.all(np.abs(found.mean[row] - probability)[counts] <= error[counts])
        of_truth = np.where(X[row] == 1, probability, 1 - probability)
        estimate = np.exp(found.log_likelihood[row])
        assert np.all(np.abs(estimate - of_truth)[counts] <= error[counts])
        assert np.all(np.isnan(found.log_likelihood[row]) == ~counts)
        assert set(np.unique(found.draws[row])) <= {0.0, 1.0}
        of_draws = ERRORS * np.sqrt(probability * (1 - probability) / (200 / 4)) + 1e-3
        assert np.all(np.abs(found.draws[row].mean(0) - probability)[counts] <= of_draws[counts])


@pytest.mark.slow
@pytest.mark.parametrize("noise", [None, "flips"])
def test_log_predictive_is_what_a_grid_over_z_says(noise):
    y = np.where(GAPS, np.float32(np.nan), X)
    channel = posterior.flips(FLIP) if noise else None
    found = posterior.log_predictive(
        bernoulli(), KEY, y, X, BERNOULLI, noise=channel, num_samples=5000, num_chains=4, num_warmup=50
    )
    p = grid_probabilities()
    for row in range(len(y)):
        *_, masses = exact_pixels(y[row], noise)
        if noise is None:
            hidden = GAPS[row]
            each = np.where(X[row] == 1, p, 1 - p)[:, hidden]
            expected = np.log(masses @ np.prod(each, axis=1))
        else:  # p(x | y) = E[prod_i p(x_i | z, y_i)]
            zero, one = np.exp(evidence(y[row], noise))
            restored = p * one / (p * one + (1 - p) * zero)
            expected = np.log(masses @ np.prod(np.where(X[row] == 1, restored, 1 - restored), axis=1))
        assert abs(found.log_predictive[row] - expected) <= ERRORS * found.standard_error[row] + 1e-3
    assert np.all(found.standard_error < 0.1)


# Chunks


@pytest.mark.slow
@pytest.mark.parametrize("method", ["encoder", "refined", "hmc"])
def test_draws_depend_on_the_key_and_the_position_alone(x64, method):
    """They do not depend on the size of the chunks or on other datapoints."""
    linear = linear_gaussian_model(EXACT, full_covariance=False)
    params, seen = linear.init(KEY), SEEN.astype(np.float64)
    options = {"num_samples": 8, "num_warmup": 8, "num_transitions": 8, "num_chains": 2, "num_steps": 4}
    impute = functools.partial(posterior.impute, num_draws=4, method=method, **options)
    told: list[int] = []
    whole = impute(params, KEY, seen, linear, on_chunk=told.append)
    assert told == [4]
    parts = impute(params, KEY, seen, linear, chunk_size=3, on_chunk=told.append)
    assert told == [4, 3, 4]
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    alone = impute(params, KEY, seen[:3], linear)
    np.testing.assert_allclose(alone.draws, whole.draws[:3], rtol=1e-6, atol=1e-6)
    other = impute(params, jax.random.key(1), seen[:3], linear)
    assert np.all(np.any(other.draws != alone.draws, axis=(1, 2)) == HIDDEN[:3].any(axis=1))
