"""Likelihoods: masses that sum to one, comparisons with exact and double-precision oracles, and use in a model."""

import json
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from scipy import special, stats

import aevb
from aevb import Observed
from aevb.likelihoods import LIKELIHOODS, GreyBernoulli, Likelihood, bernoulli, bits_per_dimension
from aevb.likelihoods.beta_binomial import GreyBetaBinomial
from aevb.likelihoods.categorical import GreyCategorical
from aevb.likelihoods.discretized_logistic import DiscretizedLogistic
from aevb.likelihoods.spiked_logistic import SpikedLogistic
from experiments import defaults
from tests.own import assert_one_line
from tests.processes import assert_one_line_error, experiment

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
LEVELS = np.arange(256)
SIDE = np.array([-20, -8, -3, -1.5, -1, -0.3, 0, 0.2, 0.5, 1, 2, 2.5, 3, 3.5, 5, 8, 12, 20])
GRID = [axis.ravel() for axis in np.meshgrid(SIDE, SIDE)]
FAR = [np.repeat([-1e3, 1e3, 0.5, 1e6], 5), np.tile([-60.0, -20, 0, 7, 60], 4)]
LOGITS = np.random.RandomState(0).randn(64, 256) * np.logspace(-2, 4, 64)[:, None]
MASSES: dict[str, tuple[Any, tuple[np.ndarray, ...]]] = {
    "discretized_logistic": (DiscretizedLogistic, tuple(map(np.concatenate, zip(GRID, FAR, strict=True)))),
    "spiked_logistic": (
        SpikedLogistic,
        (
            *map(np.concatenate, zip(GRID, FAR, strict=True)),
            np.resize([0.0, -3.0, 2.0, 40.0, -40.0, 1e3, -1e3], len(GRID[0]) + len(FAR[0])),
            np.resize([0.0, 5.0, -2.0, 30.0, -1e3], len(GRID[0]) + len(FAR[0])),
        ),
    ),
    "beta_binomial": (GreyBetaBinomial, tuple(map(np.concatenate, zip(GRID, FAR, strict=True)))),
    "categorical": (GreyCategorical, (LOGITS,)),
}


log_prob = jax.jit(lambda distribution, value: distribution.log_prob(value))


def log_masses(make: Any, parameters: Any, dtype: str = "float32") -> np.ndarray:
    """Return the log-masses of all values, `[256, ...]`, in double precision."""
    distribution = make(*(jnp.asarray(each, dtype) for each in parameters))
    found = jax.jit(lambda d: d.log_prob(d.enumerate_support()))(distribution)
    assert found.dtype == dtype
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MASSES)
def test_masses_are_finite_and_sum_to_one(name, dtype, precision):
    make, parameters = MASSES[name]
    found = log_masses(make, parameters, dtype)
    assert np.all(np.isfinite(found))
    np.testing.assert_allclose(np.exp(found).sum(0), 1, rtol=0, atol=1e-6 if dtype == "float32" else 1e-8)


# Oracles: in double precision, and in rational numbers


def logistic_oracle(loc: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
    """Return log(cdf(upper) - cdf(lower)), computed from the side without cancellation."""
    k, scale = LEVELS[:, None], np.exp(log_scale)
    lower = np.where(k == 0, -np.inf, ((k - 0.5) / 255 - loc) / scale)
    upper = np.where(k == 255, np.inf, ((k + 0.5) / 255 - loc) / scale)
    low, high = np.where(lower > 0, -upper, lower), np.where(lower > 0, -lower, upper)
    with np.errstate(divide="ignore"):
        return np.log(stats.logistic.cdf(high) - stats.logistic.cdf(low))


def exact_beta_binomial(k: int, p: float, q: float, s: float) -> float:
    """Return the log-mass from rising factorials of rational numbers."""
    a, b = Fraction(s) * Fraction(p), Fraction(s) * Fraction(q)
    rising = lambda start, count: math.prod((start + i for i in range(count)), start=Fraction(1))
    mass = math.comb(255, k) * rising(a, k) * rising(b, 255 - k) / rising(a + b, 255)
    return math.log(mass.numerator) - math.log(mass.denominator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_discretized_logistic_against_its_cdf(dtype, precision):
    loc, log_scale = (np.float64(np.float32(each)) for each in GRID)
    expected = logistic_oracle(loc, log_scale)
    is_precise = expected > -14
    found = log_masses(DiscretizedLogistic, (loc, log_scale), dtype)
    # At a small scale, the edges are as close to the location as its rounding error.
    is_precise &= log_scale > -8
    tolerance = 2e-5 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(found[is_precise], expected[is_precise], rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_beta_binomial_against_scipy(dtype, precision):
    is_moderate = (np.abs(GRID[0]) < 10) & (np.abs(GRID[1]) < 6)
    logit, log_s = (np.float64(np.float32(each[is_moderate])) for each in GRID)
    s = np.exp(log_s)
    a, b = s * special.expit(logit), s * special.expit(-logit)
    expected = stats.betabinom.logpmf(LEVELS[:, None], 255, a, b)
    found = log_masses(GreyBetaBinomial, (logit, log_s), dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-8
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=3 * tolerance)


@pytest.mark.parametrize(
    ("logit", "log_concentration"),
    [(0.0, -20.0), (0.0, 20.0), (20.0, 20.0), (-20.0, 0.0), (5.0, -20.0), (-3.0, 12.0), (0.5, 3.5), (12.0, 2.0)],
)
def test_beta_binomial_against_rational_numbers(logit, log_concentration):
    p, q = special.expit(np.float64([logit, -logit]))
    found = log_masses(GreyBetaBinomial, ([logit], [log_concentration]))[:, 0]
    for k in (0, 1, 40, 127, 254, 255):
        expected = exact_beta_binomial(k, p, q, math.exp(log_concentration))
        assert found[k] == pytest.approx(expected, rel=2e-5, abs=5e-5), k


def test_categorical_is_a_softmax():
    found = log_masses(GreyCategorical, (LOGITS,))
    expected = special.log_softmax(np.float64(np.float32(LOGITS)), -1).T
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


# Gradients


def gradients(make: Any, parameters: Any, k: np.ndarray, dtype: str) -> list[np.ndarray]:
    with jax.enable_x64(dtype == "float64"):
        value = jnp.asarray(k / 255, dtype)
        of = lambda *parameters: jnp.sum(make(*parameters).log_prob(value))
        found = jax.jit(jax.grad(of, tuple(range(len(parameters)))))(*(jnp.asarray(each, dtype) for each in parameters))
        return [np.asarray(each, np.float64) for each in found]


@pytest.mark.parametrize("name", MASSES)
def test_gradients_in_single_precision_are_those_in_double(name):
    make, parameters = MASSES[name]
    parameters = [np.float64(np.float32(each)) for each in parameters]
    for k in (0, 1, 100, 255):
        value = np.full(len(parameters[0]), k)
        single, double = (gradients(make, parameters, value, dtype) for dtype in ("float32", "float64"))
        for one, other in zip(single, double, strict=True):
            assert np.all(np.isfinite(one))
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["discretized_logistic", "beta_binomial"])
def test_gradients_are_finite_differences(name, x64):
    make, parameters = MASSES[name][0], [axis[np.all(np.abs(GRID) < 6, axis=0)] for axis in GRID]
    step = 1e-5
    for k in (0, 3, 200, 255):
        value = np.full(len(parameters[0]), k) / 255
        for place, slope in enumerate(gradients(make, parameters, value * 255, "float64")):
            moved = [[each + sign * step * (i == place) for i, each in enumerate(parameters)] for sign in (1, -1)]
            up, down = (np.asarray(log_prob(make(*each), value)) for each in moved)
            np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-5, atol=1e-3)


# Draws and moments


DRAWN = {
    "discretized_logistic": [[0.5, -0.2, 1.0, 0.31, 0.5], [-1.5, -1.0, -3.0, -9.0, 4.0]],
    "spiked_logistic": [
        [0.5, -0.2, 1.0, 0.31, 0.5],
        [-1.5, -1.0, -3.0, -9.0, 4.0],
        [0.0, 1.0, -3.0, -20.0, 3.0],
        [0.0, -2.0, 2.0, -20.0, -3.0],
    ],
    "beta_binomial": [[0.0, 2.0, -8.0, 0.3, 1.0], [0.7, -6.0, 3.0, 20.0, 3.0]],
    "categorical": [LOGITS[[0, 20, 24, 28, 63]]],
}


@pytest.mark.parametrize("name", MASSES)
def test_draws_moments_and_cumulative_masses(name):
    make, size = MASSES[name][0], 4000
    masses = np.exp(log_masses(make, DRAWN[name]))
    distribution = make(*(jnp.asarray(each, jnp.float32) for each in DRAWN[name]))
    draws = np.asarray(jax.jit(lambda d: d.sample(KEY, (size,)))(distribution))
    assert draws.shape == (size, 5)
    assert draws.dtype == np.float32
    assert np.all(distribution.support(draws))
    k = np.round(255 * draws).astype(int)
    frequencies = np.stack([np.bincount(column, minlength=256) / size for column in k.T], axis=1)
    assert np.all(np.abs(frequencies - masses) <= 5.5 * np.sqrt(masses / size) + 5 / size)
    values = LEVELS[:, None] / 255
    mean = (masses * values).sum(0)
    moments = jax.jit(lambda d: (d.mean, d.variance))(distribution)
    np.testing.assert_allclose(moments[0], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments[1], (masses * (values - mean) ** 2).sum(0), rtol=1e-4, atol=1e-6)
    cdf = jax.jit(lambda d, value: d.cdf(value))
    for value in (-0.1, 0.0, 0.3, 100 / 255, 1.0, 7.0):
        expected = (masses * (values <= value + 1e-9)).sum(0)
        np.testing.assert_allclose(cdf(distribution, value), expected, rtol=0, atol=2e-6)


# The support, and missing values


@pytest.mark.parametrize("name", MASSES)
def test_values_off_the_grid_have_no_mass(name):
    make, parameters = MASSES[name]
    distribution = make(*(jnp.asarray(each[100 % len(each)], jnp.float32) for each in parameters))
    by_division, by_product = LEVELS / np.float32(255), LEVELS * np.float32(1 / 255)
    found = log_prob(distribution, by_division)
    assert np.all(np.isfinite(found))
    np.testing.assert_array_equal(log_prob(distribution, by_product), found)
    assert np.all(np.isneginf(log_prob(distribution, np.array([-1 / 255, 0.5, 0.001, 256 / 255, 200.0, np.inf]))))
    assert np.all(np.isneginf(log_prob(distribution, np.array([2, 255], np.uint8))))
    assert np.all(np.isfinite(log_prob(distribution, np.array([0, 1], np.uint8))))


XS = (np.random.RandomState(0).randint(0, 256, (40, 6)) / np.float32(255)).astype(np.float32)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (255 * XS, "outside of the likelihood's support, the 256 values k / 255: scale it first, x / 255 for pixels"),
        (0.999 * XS, "the 256 values k / 255: round it, np.round(255 * x) / 255"),
        (np.where(XS > 0.9, np.nan, XS), "NaN, which counts as not observed only under aevb.Observed(likelihood)"),
    ],
)
def test_data_outside_of_the_support_are_refused_in_a_line(data, words):
    model = aevb.mlp_vae((6,), 2, 8, likelihood="discretized_logistic")
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(model.init, KEY))
    for call in (
        lambda: aevb.evaluate(params, KEY, data, model),
        lambda: aevb.fit(data, model, key=KEY, batch_size=10),
        lambda: aevb.elbo(params, KEY, data[0], model),
    ):
        with pytest.raises(ValueError, match=r"x|data") as caught:
            call()
        assert_one_line(caught, words)


@pytest.mark.parametrize("name", MASSES)
def test_missing_values_count_nothing(name):
    make, parameters = MASSES[name]
    some = [jnp.asarray(each[40:46], jnp.float32) for each in parameters]
    value = jnp.asarray([0.0, jnp.nan, 1.0, 100 / 255, jnp.nan, 3 / 255])
    is_seen = ~np.isnan(value)
    of = lambda *parameters: Observed(make(*parameters)).log_prob(value)
    expected = log_prob(make(*(each[is_seen] for each in some)), value[is_seen])
    np.testing.assert_allclose(jax.jit(of)(*some), np.sum(expected), rtol=1e-6)
    for slope in jax.jit(jax.grad(of, tuple(range(len(some)))))(*some):
        assert np.all(np.isfinite(slope))
        assert np.all(np.asarray(slope)[~is_seen] == 0)


# By name


def test_the_registry_knows_which_are_masses():
    of = {name: LIKELIHOODS.get(name).is_mass_of for name in LIKELIHOODS.names()}
    assert {name for name, number in of.items() if number is not None} == set(MASSES)
    assert all(of[name] == 256 for name in MASSES)
    assert Likelihood(2, dist.Normal).is_mass_of is None
    numbers = {"discretized_logistic": 2, "spiked_logistic": 4, "beta_binomial": 2, "categorical": 256}
    for name, number in numbers.items():
        assert LIKELIHOODS.get(name).num_outputs == number


@pytest.mark.parametrize(
    ("name", "most"),
    [("beta_binomial", 8), ("categorical", 8), ("discretized_logistic", 8.5), ("spiked_logistic", 8.65)],
)
def test_outputs_of_zero_cover_all_values(name, most):
    likelihood = LIKELIHOODS.get(name)
    start = likelihood.of(jnp.zeros((likelihood.num_outputs, 256)))
    bits = bits_per_dimension(float(jnp.sum(log_prob(start, LEVELS / np.float32(255)))), 256)
    assert 8 - 1e-5 <= bits <= most + 1e-5


def test_a_fixed_scale_is_the_squared_error_less_a_constant():
    mean, value = np.random.RandomState(0).randn(2, 5).astype(np.float32)
    density = LIKELIHOODS.get("gaussian_fixed_scale").of(mean[None]).log_prob(value)
    np.testing.assert_allclose(density, -((value - mean) ** 2) - 0.5 * np.log(np.pi), rtol=1e-5)


def test_bits_per_dimension():
    assert bits_per_dimension(-784 * math.log(256), 784) == pytest.approx(8)
    np.testing.assert_allclose(bits_per_dimension(np.log([0.5, 0.25]), 1), [1, 2])
    with pytest.raises(ValueError, match="num_values"):
        bits_per_dimension(-1.0, 0)


@pytest.mark.parametrize("name", LIKELIHOODS.names())
def test_every_likelihood_through_a_model(name, tmp_path):
    model = aevb.mlp_vae((6,), 2, 8, likelihood=name)
    result = aevb.fit(XS, model, key=KEY, optimizer=optax.adam(1e-2), num_epochs=8, batch_size=10, eval_every=8)
    first, last = result.history
    assert last.train_elbo > first.train_elbo
    params = result.state.params
    bound, slope = jax.value_and_grad(aevb.elbo)(params, KEY, XS[0], model)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves([bound, slope]))
    draws = aevb.posterior.sample(params, KEY, 5, model, mean=False)
    assert draws.shape == (5, 6)
    if LIKELIHOODS.get(name).is_mass_of:
        aevb.posterior.encode(params, draws, model)  # NaN is in the support
        assert bits_per_dimension(last.train_elbo, 6) < 8.5
    aevb.save(tmp_path / "saved", model, params)
    again, loaded = aevb.load(tmp_path / "saved")
    assert again is model
    np.testing.assert_array_equal(*(jax.tree.leaves(each)[0] for each in (loaded, params)))


# In experiments


def own(images: np.ndarray) -> aevb.data.Dataset:
    return aevb.data.from_arrays(images).train


def test_the_likelihood_of_ones_own_images():
    grey = np.random.RandomState(0).randint(0, 256, (40, 4, 4)).astype(np.uint8)
    assert defaults.likelihood_for(own(grey))[0] == "discretized_logistic"
    assert defaults.likelihood_for(own(255 * (grey // 128)))[0] == "bernoulli"
    assert defaults.likelihood_for(own((grey / 255).astype(np.float32)))[0] == "discretized_logistic"
    assert defaults.likelihood_for(own(grey), "stochastic")[0] == "bernoulli"
    floats = np.random.RandomState(0).rand(40, 4, 4).astype(np.float32)
    assert defaults.likelihood_for(own(floats))[0] == "squashed_gaussian"
    floats[:, 0, 0] = 0.5  # never varies
    assert defaults.likelihood_for(own(floats))[0] == "bernoulli"


def test_a_run_tells_bits_per_dimension(tmp_path, data_dir):
    images = np.random.RandomState(0).randint(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    small = ("--num_train_samples=200", "--hidden_dim=8", "--latent_dim=2", "--nodraw_pictures", "--eval_every=5")
    done = experiment("images", f"--data={tmp_path / 'images.npy'}", f"--workdir={tmp_path / 'run'}", *small)
    assert done.returncode == 0, done.stderr
    assert "likelihood discretized_logistic, because pixels have one of 256 values" in done.stdout
    assert "bits/dim" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test_bits_per_dimension"] == pytest.approx(bits_per_dimension(summary["test_elbo"], 48))
    assert f"{summary['test_bits_per_dimension']:.3f}" in done.stdout
    refused = experiment("digits", f"--data_dir={data_dir}", "--likelihood=beta_binomial", "--num_epochs=1")
    assert_one_line_error(refused, "the 256 values k / 255")


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(("shape", "num_axes"), [((784,), 1), ((5, 13), 2), ((3, 28, 28), 2), ((2, 7), 1)])
def test_bernoulli_events_against_their_pixels(monkeypatch, shape, num_axes, elsewhere, x64):
    """The whole density, its gradient and curvature against sums over pixels, including extreme logits.

    What accelerators compute takes the place of what a CPU computes.
    """
    if elsewhere:
        monkeypatch.setattr(bernoulli, "_by_products", bernoulli._in_one_pass)
        monkeypatch.setattr(bernoulli, "_by_products_with_mean", bernoulli._in_one_pass_with_mean)
    rng = np.random.RandomState(0)
    logits = jnp.asarray(20 * rng.randn(*shape)).at[..., :2].set(jnp.array([800.0, -800.0]))
    x = jnp.asarray(rng.rand(*shape)).at[..., 2:4].set(jnp.array([0.0, 1.0]))
    axes = tuple(range(-num_axes, 0))

    def by_pixel(logits):
        return jnp.sum(x * logits - jnp.logaddexp(0.0, logits), axes)

    def whole(logits):
        return GreyBernoulli(logits).to_event(num_axes).log_prob(x)

    np.testing.assert_allclose(whole(logits), by_pixel(logits), rtol=1e-12)
    mean = special.expit(np.asarray(logits))
    gradient = jax.grad(lambda logits: jnp.sum(whole(logits)))
    np.testing.assert_allclose(gradient(logits), x - mean, rtol=1e-9, atol=1e-15)
    curvature = jax.jvp(gradient, (logits,), (jnp.ones(shape),))[1]
    np.testing.assert_allclose(curvature, -mean * (1 - mean), rtol=1e-9, atol=1e-15)
    single = GreyBernoulli(logits.astype(jnp.float32)).to_event(num_axes).log_prob(x.astype(jnp.float32))
    np.testing.assert_allclose(single, by_pixel(logits), rtol=1e-6)


def test_bernoulli_events_of_integers():
    """Binary integers have a mass; pixels of 0..255 have none."""
    event = GreyBernoulli(jnp.array([0.0, 2.0, -1.0])).to_event()
    expected = np.log(0.5) - np.log1p(np.exp(-2)) - np.log1p(np.exp(-1))
    assert event.log_prob(jnp.array([1, 1, 0])) == pytest.approx(expected, rel=1e-6)
    assert event.log_prob(jnp.array([1, 255, 0])) == -jnp.inf
