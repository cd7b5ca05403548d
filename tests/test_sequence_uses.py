"""Forecasts, imputation, smoothing and filtering against exact answers from one large Gaussian, in float64."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import norm

import aevb
from aevb import Markov, Model, prediction, sequences
from aevb.models import deep_markov_vae, linear_gaussian_state_space

KEY = jax.random.key(0)
LENGTH, DATA_DIM, LATENT_DIM, HORIZON = 7, 2, 2, 4
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)  # each compiles its own programs
METHODS = ("posterior", SLOW("particle"), SLOW("bootstrap"))
SAMPLES = {"posterior": 4000, "particle": 400, "bootstrap": 400}
PARTICLES = 1000
EFFECTIVE = {"posterior": 4000, "particle": 200, "bootstrap": 100}
"""Draws of a filter depend on each other through its particles: so many independent ones are worth as much."""


class Moments(NamedTuple):
    mean: np.ndarray
    variance: np.ndarray


def exact(theta, x: np.ndarray, num_steps: int) -> tuple[Moments, Moments]:
    """Return the moments of every z_t and x_t, t up to `num_steps`, given the non-NaN values of `x`, `[T, D]`.

    All of z and x is one Gaussian with an explicit covariance, without the recursion of a Kalman filter.
    """
    theta = {name: np.asarray(value, np.float64) for name, value in theta.items()}
    transition, emission = theta["transition"], theta["emission"]
    size, data_dim = len(transition), len(emission)
    noise = np.diag(np.exp(theta["transition_log_variance"]))
    power = functools.partial(np.linalg.matrix_power, transition)
    mean_z = np.concatenate([power(t + 1) @ theta["start"] for t in range(num_steps)])
    # z_t is the sum of A^(t - s) times the noise of every s <= t.
    blocks = [[power(t - s) if s <= t else np.zeros((size, size)) for s in range(num_steps)] for t in range(num_steps)]
    response = np.block(blocks)
    covariance_z = response @ np.kron(np.eye(num_steps), noise) @ response.T
    weights = np.kron(np.eye(num_steps), emission)
    mean = np.concatenate([mean_z, weights @ mean_z + np.tile(theta["offset"], num_steps)])
    covariance_x = weights @ covariance_z @ weights.T + np.diag(np.tile(np.exp(theta["log_variance"]), num_steps))
    covariance = np.block([[covariance_z, covariance_z @ weights.T], [weights @ covariance_z, covariance_x]])
    longer = np.concatenate([x, np.full((num_steps - len(x), data_dim), np.nan)]).ravel()
    seen = len(mean_z) + np.flatnonzero(~np.isnan(longer))
    gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen]).T
    given = mean + gain @ (longer[seen - len(mean_z)] - mean[seen])
    variance = np.diag(covariance - gain @ covariance[seen])
    of_z = Moments(given[: len(mean_z)].reshape(num_steps, size), variance[: len(mean_z)].reshape(num_steps, size))
    of_x = Moments(given[len(mean_z) :].reshape(-1, data_dim), variance[len(mean_z) :].reshape(-1, data_dim))
    return of_z, of_x


@pytest.fixture(scope="module")
def state_space():
    """Return a linear-Gaussian state space, parameters that couple its dimensions, and two sequences with gaps."""
    model = linear_gaussian_state_space((LENGTH, DATA_DIM), LATENT_DIM)
    theta = {
        "transition": jnp.array([[0.8, 0.4], [-0.4, 0.7]]),
        "transition_log_variance": jnp.log(jnp.array([0.5, 0.3])),
        "emission": jnp.array([[1.0, 0.5], [-0.3, 1.2]]),
        "offset": jnp.array([0.5, -1.0]),
        "log_variance": jnp.log(jnp.array([0.2, 0.4])),
        "start": jnp.array([1.0, -1.0]),
    }
    params = {"encoder": {}, "decoder": theta}
    xs = np.asarray(aevb.posterior.sample(params, jax.random.key(3), 2, model, mean=False))
    xs[0, 2:4] = np.nan  # a stretch
    xs[1, 1, 0] = np.nan  # a value
    xs[1, 5:] = np.nan  # after the end
    return model, params, xs


def assert_moments(draws: np.ndarray, expected: Moments, method: str = "posterior") -> None:
    """Assert that draws `[S, ...]` have the mean and the variance of a Gaussian, within five standard errors."""
    num_effective = EFFECTIVE[method]
    error = np.sqrt(expected.variance / num_effective)
    assert np.all(np.abs(draws.mean(0) - expected.mean) <= 5 * error + 1e-6)
    np.testing.assert_allclose(draws.var(0), expected.variance, rtol=5 * (2 / num_effective) ** 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_forecasts_have_the_exact_mean_and_variance_at_every_horizon(state_space, method):
    model, params, xs = state_space
    draws = sequences.forecast(params, KEY, xs, model, HORIZON, SAMPLES[method], method=method, num_particles=PARTICLES)
    assert draws.shape == (2, SAMPLES[method], HORIZON, DATA_DIM)
    for x, each, end in zip(xs, draws, (LENGTH, 5), strict=True):
        _, of_x = exact(params["decoder"], x[:end], end + HORIZON)
        assert_moments(each, Moments(*(moment[end:] for moment in of_x)), method)


@pytest.mark.parametrize("method", ["posterior", SLOW("particle"), "bootstrap"])
def test_imputed_values_have_the_exact_mean_and_variance_and_the_others_stay(state_space, method):
    model, params, xs = state_space
    draws = sequences.impute(params, KEY, xs, model, SAMPLES[method], method=method, num_particles=PARTICLES)
    assert draws.shape == (2, SAMPLES[method], LENGTH, DATA_DIM)
    for x, each, end in zip(xs, draws, (LENGTH, 5), strict=True):
        is_missing = np.isnan(x[:end])
        _, of_x = exact(params["decoder"], x[:end], end)
        assert_moments(each[:, :end][:, is_missing], Moments(*(m[is_missing] for m in of_x)), method)
        assert np.all(each[:, :end][:, ~is_missing] == x[:end][~is_missing])
        assert np.all(np.isnan(each[:, end:]))


def test_a_draw_fills_a_gap_as_a_whole(state_space):
    """Neighbouring values of one draw are consistent: their difference has the right variance."""
    model, params, xs = state_space
    draws = sequences.impute(params, KEY, xs[:1], model, 4000, method="posterior")[0][:, 2:4, 0]
    # The variance of a difference, by also conditioning on one of the two.
    _, both = exact(params["decoder"], xs[0], LENGTH)
    known = xs[0].copy()
    known[2, 0] = 0.0
    _, other = exact(params["decoder"], known, LENGTH)
    slope_squared = (both.variance[3, 0] - other.variance[3, 0]) / both.variance[2, 0]
    known[2, 0] = 1.0
    slope = exact(params["decoder"], known, LENGTH)[1].mean[3, 0] - other.mean[3, 0]
    np.testing.assert_allclose(slope**2, slope_squared, rtol=1e-6)
    expected = other.variance[3, 0] + (slope - 1) ** 2 * both.variance[2, 0]
    np.testing.assert_allclose(np.var(draws[:, 1] - draws[:, 0]), expected, rtol=5 * (2 / 4000) ** 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_smoothed_states_are_exact(state_space, method):
    model, params, xs = state_space
    found = sequences.smooth_states(params, KEY, xs, model, SAMPLES[method], method=method, num_particles=PARTICLES)
    for x, mean, scale, end in zip(xs, *found, (LENGTH, 5), strict=True):
        of_z, _ = exact(params["decoder"], x[:end], end)
        error = np.sqrt(of_z.variance / EFFECTIVE[method])
        assert np.all(np.abs(mean[:end] - of_z.mean) < 5 * error)
        np.testing.assert_allclose(scale[:end] ** 2, of_z.variance, rtol=5 * (2 / EFFECTIVE[method]) ** 0.5)
        assert np.all(np.isnan(mean[end:]))
        assert np.all(np.isnan(scale[end:]))


@pytest.mark.parametrize("method", [SLOW("particle"), "bootstrap"])
def test_filtered_states_and_one_step_predictions_are_exact(state_space, method):
    model, params, xs = state_space
    found = sequences.filter_states(params, KEY, xs, model, method=method, num_particles=50_000)
    for row, end in enumerate((LENGTH, 5)):
        for t in range(end):
            of_z, _ = exact(params["decoder"], xs[row, : t + 1], t + 1)
            np.testing.assert_allclose(found.mean[row, t], of_z.mean[t], atol=0.1)
            np.testing.assert_allclose(found.scale[row, t] ** 2, of_z.variance[t], rtol=0.2)
        assert np.all(np.isnan(found.mean[row, end:]))
    # The second value of row 1, step 1, whose first value is missing, given step 0.
    _, of_x = exact(params["decoder"], xs[1, :1], 2)
    expected = norm.logpdf(xs[1, 1, 1], of_x.mean[1, 1], of_x.variance[1, 1] ** 0.5)
    np.testing.assert_allclose(found.log_predictive[1, 1], expected, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_log_likelihood_of_what_was_held_out_is_exact_by_step(state_space, method):
    """The held-out values are no draws given the rest, but far out, where few draws of z are."""
    model, params, xs = state_space
    atol = 0.15 if method == "posterior" else 0.25
    truth = np.asarray(aevb.posterior.sample(params, jax.random.key(4), 2, model, mean=False))
    truth[0, 6] = np.nan  # also unknown
    found = sequences.log_likelihood(params, KEY, xs, truth, model, 4000, method=method, num_particles=4000)
    assert found.shape == (2, LENGTH)
    is_held_out = np.isnan(xs) & ~np.isnan(truth)
    for row, x in enumerate(xs):
        _, of_x = exact(params["decoder"], x, LENGTH)
        for t in range(LENGTH):
            each = is_held_out[row, t]
            if not each.any():
                assert np.isnan(found[row, t])
            elif each.sum() == 1:
                mean, variance = (moment[t][each] for moment in of_x)
                expected = norm.logpdf(truth[row, t][each], mean, variance**0.5).sum()
                np.testing.assert_allclose(found[row, t], expected, atol=atol)
    # Both values of a step: given the first, the second is also Gaussian.
    known = xs[0].copy()
    known[2, 0] = truth[0, 2, 0]
    (_, one), (_, other) = (exact(params["decoder"], x, LENGTH) for x in (xs[0], known))
    expected = sum(
        norm.logpdf(truth[0, 2, at], of.mean[2, at], of.variance[2, at] ** 0.5) for at, of in ((0, one), (1, other))
    )
    np.testing.assert_allclose(found[0, 2], expected, atol=atol)


# Any model


@pytest.fixture(scope="module")
def notes():
    """Return a deep Markov model of 0 and 1 with random parameters, and sequences of different lengths."""
    model = deep_markov_vae((6, 3), 2, emission_dim=4, transition_dim=4, rnn_dim=5)
    shapes, random = jax.eval_shape(model.init, KEY), np.random.RandomState(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.7 * random.randn(*leaf.shape), jnp.float32), shapes)
    xs = random.randint(0, 2, (3, 6, 3)).astype(np.float32)
    xs[1, 4:], xs[2, 1:3, 0] = np.nan, np.nan
    return model, params, xs


@pytest.mark.parametrize("method", METHODS)
def test_padding_and_chunks_change_nothing(notes, method):
    model, params, xs = notes
    longer = np.pad(xs, ((0, 0), (0, 5), (0, 0)), constant_values=np.nan)
    options = {"method": method, "num_particles": 20}
    for use in (functools.partial(sequences.forecast, horizon=3, mean=True), sequences.impute):
        whole, padded, one_by_one = (
            use(params, KEY, each, model, num_samples=5, chunk_size=size, **options)
            for each, size in ((xs, 10), (longer, 10), (xs, 1))
        )
        np.testing.assert_allclose(padded[:, :, : whole.shape[2]], whole, atol=1e-5)
        np.testing.assert_allclose(one_by_one, whole, atol=1e-5)
        assert np.all(np.isnan(padded[:, :, whole.shape[2] :]))


def test_forecasts_depend_on_the_past_alone(notes):
    """Values after the known beginnings have no effect, and forecasts continue at each beginning's own length."""
    model, params, xs = notes
    others = xs.copy()
    others[:, 3:] = 1 - others[:, 3:]
    (past, future), (same, other_future) = (sequences.cut(each, 3, 2) for each in (xs, others))
    assert not np.array_equal(np.nan_to_num(future), np.nan_to_num(other_future))
    draws = [sequences.forecast(params, KEY, each, model, 2, 5, mean=True) for each in (past, same, past[:, :3])]
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_allclose(draws[2], draws[0], atol=1e-5)


def test_an_encoder_that_is_wrong_after_the_end_has_no_part_in_a_forecast():
    """Steps after the last observed one are the prior's, even if q differs there."""
    transition = lambda theta, z, time: dist.Normal(theta * z, 1.0).to_event(1)
    far = lambda theta, z, time: dist.Normal(jnp.full_like(z, 100.0), 1.0).to_event(1)
    model = Model(
        lambda key: {"decoder": jnp.float32(0.5), "encoder": jnp.float32(0)},
        lambda params, x: Markov(far, params["decoder"], jnp.zeros(1), jnp.arange(6)),
        lambda params, z: aevb.Observed(dist.Normal(z, 1.0)),
        lambda params: Markov(transition, params["decoder"], jnp.zeros(1), jnp.arange(6)),
    )
    params = model.init(KEY)
    draws = sequences.forecast(params, KEY, np.full((1, 2, 1), 100, np.float32), model, 4, 2000)
    np.testing.assert_allclose(draws[0].mean((0, 2)), [50, 25, 12.5, 6.25], atol=0.3)


def test_nothing_observed_at_all_is_a_draw_of_the_prior(state_space):
    model, params, _ = state_space
    xs = np.full((1, 2, DATA_DIM), np.nan, np.float32)
    for method in ("posterior", "bootstrap"):
        draws = sequences.forecast(params, KEY, xs, model, HORIZON, 4000, method=method, num_particles=10)
        _, of_x = exact(params["decoder"], np.empty((0, DATA_DIM)), HORIZON)
        assert_moments(draws[0], of_x)


def test_cut_gives_beginnings_and_what_came_next():
    values = np.arange(12, dtype=np.uint8).reshape(2, 6, 1)
    past, future = sequences.cut(values, np.array([2, 5]), 3)
    np.testing.assert_array_equal(past[..., 0], [[0, 1, *[np.nan] * 4], [6, 7, 8, 9, 10, np.nan]])
    np.testing.assert_array_equal(future[..., 0], [[2, 3, 4], [11, np.nan, np.nan]])


def test_a_conditional_model_is_forecast_given_its_condition(notes):
    model, params, xs = notes
    conditional = Model(
        model.init,
        lambda params, x, label: aevb.models.of_length(model, len(x)).encode(params, x),
        lambda params, z, label: model.decode(params, z + label),
        lambda params, label: aevb.models.of_length(model, 9).prior(params),
    )
    labels = np.array([0, 0, 3])
    plain = sequences.forecast(params, KEY, xs, model, 3, 5, mean=True)
    given = sequences.forecast(params, KEY, aevb.Given(xs, labels), conditional, 3, 5, mean=True)
    np.testing.assert_allclose(given[:2], plain[:2], atol=1e-5)
    assert np.abs(given[2] - plain[2]).max() > 0.01


# Scores


def test_the_ranked_probability_score_is_that_of_a_gaussian_and_of_all_pairs():
    random = np.random.RandomState(0)
    draws, observed = random.randn(1, 20_000), np.array([0.7])
    z = observed[0]
    expected = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5  # Gneiting & Raftery 2007, eq. 21
    np.testing.assert_allclose(prediction.ranked_probability_score(draws, observed), expected, atol=0.02)
    draws, observed = random.randn(2, 6, 3), np.array([[0.1, np.nan, 0.5], [0, 1, 2]])
    pairs = np.abs(draws[:, :, None] - draws[:, None]).sum((1, 2)) / 30
    expected = np.abs(draws - observed[:, None]).mean(1) - pairs / 2
    np.testing.assert_allclose(prediction.ranked_probability_score(draws, observed), expected)


# Errors


def no_recipe(model: Model) -> Model:
    return Model(model.init, model.encode, model.decode, model.prior)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"method": "exact"}, "method must be one of"),
        ({"xs": lambda xs: xs[0]}, r"xs must be sequences \[N, T, D\].*xs\[None\]"),
        ({"xs": lambda xs: xs[..., :2]}, r"datapoints of xs have shape \(9, 2\), the model's .*\(9, 3\)"),
        ({"xs": lambda xs: 2 * xs}, "xs ranges from 0 to 2, outside of the likelihood's support"),
        ({"model": no_recipe}, "the model has 6 steps, but 9 are needed"),
        ({"model": lambda model: aevb.mlp_vae((18,), 2, 3)}, "params are not the parameters of this model"),
        ({"params": lambda params: params["decoder"]}, "params are not the parameters of this model"),
    ],
)
def test_mistakes_are_one_line(notes, change, message):
    arguments = dict(zip(("model", "params", "xs"), notes, strict=True)) | {"key": KEY, "horizon": 3, "num_samples": 4}
    arguments |= {name: value(arguments[name]) if callable(value) else value for name, value in change.items()}
    with pytest.raises((ValueError, TypeError), match=message) as error:
        sequences.forecast(**arguments)
    assert "\n" not in str(error.value)


def test_other_mistakes(notes):
    model, params, xs = notes
    with pytest.raises(ValueError, match="filtering needs particles"):
        sequences.filter_states(params, KEY, xs, model, method="posterior")
    with pytest.raises(ValueError, match=r"truth must be \[N, T, D\]"):
        sequences.log_likelihood(params, KEY, xs, xs[:2], model)
    with pytest.raises(ValueError, match="steps must be from 0 to the 6"):
        sequences.cut(xs, 7, 1)
