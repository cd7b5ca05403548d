"""Regression with latents: predictions against quadrature and exact models, baseline networks, the command."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import Given, Model, figures, prediction
from aevb.data.sources import bimodal
from aevb.models import conditional_vae, supervised_vae
from experiments.studies import regression_tables as tables
from experiments.studies.density_networks import gaussian_network, mixture_density_network
from tests.processes import assert_one_line_error, experiment
from tests.test_experiments import size_of_png

KEY = jax.random.key(0)
Y = np.linspace(-12, 12, 2001)


def random_params(model: Model, seed: int = 1, scale: float = 0.6):
    """Return parameters far from the initial ones, whose biases are 0."""
    random, shapes = np.random.RandomState(seed), jax.eval_shape(model.init, KEY)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * random.randn(*leaf.shape), jnp.float32), shapes)


# Predictions


def quadrature(model: Model, params, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return log p(y | x) of rows with one z, as a sum over a fine grid of z, in float64 except for the networks."""
    steps = np.linspace(-9, 9, 4001)  # from the prior's mean, in its standard deviations

    @jax.jit
    @jax.vmap
    def log_likelihoods(y, x):
        prior = model.prior(params, x)
        z = prior.mean + jnp.sqrt(prior.variance) * steps[:, None]
        return jax.vmap(lambda z: model.decode(params, z, x).log_prob(y))(z)

    joint = np.asarray(log_likelihoods(y, x), np.float64) - 0.5 * steps**2 - 0.5 * np.log(2 * np.pi)
    return np.log(np.trapezoid(np.exp(joint), steps))


@pytest.fixture(scope="module")
def one_latent():
    """Return a model with one z, its parameters, and rows.

    Its encoder is wide, so that importance sampling has an error.
    """
    model = supervised_vae((1,), 1, (2,), 8)
    params = random_params(model)
    params["encoder"]["Dense_1"] = {"kernel": jnp.zeros((8, 2)), "bias": jnp.array([0.0, 2.0])}
    random = np.random.RandomState(0)
    y, x = random.randn(6, 1).astype(np.float32), random.randn(6, 2).astype(np.float32)
    return model, params, y, x


def test_log_likelihood_equals_quadrature(one_latent):
    model, params, y, x = one_latent
    exact = quadrature(model, params, y, x)
    found = prediction.log_likelihood(params, KEY, Given(y, x), model, num_samples=20_000, chunk_size=6)
    errors = np.abs(found.per_datapoint.log_marginal - exact)
    assert np.all(errors < 4 * found.per_datapoint.standard_error + 1e-4)
    assert found.monte_carlo_error < 0.02


def test_log_density_equals_quadrature_and_integrates_to_one(one_latent):
    model, params, y, x = one_latent
    found = prediction.log_density(params, KEY, x, y, model, 20_000)
    np.testing.assert_allclose(np.diag(found), quadrature(model, params, y, x), atol=0.1)
    everywhere = np.exp(prediction.log_density(params, KEY, x, 8 * Y[:, None], model, 200, chunk_size=4))
    np.testing.assert_allclose(np.trapezoid(everywhere, 8 * Y), 1.0, atol=1e-3)


def exact_regression(noise_scale: float = 0.5) -> Model:
    """Return y = (x, -x) + z + noise, whose p(y | x) is N((x, -x), I + noise^2 I)."""

    def encode(params, y, x):
        return dist.Normal(y, 1.0).to_event(1)

    def decode(params, z, x):
        return dist.Normal(jnp.stack([x, -x]) + z, noise_scale).to_event(1)

    return Model(lambda key: {"encoder": {}, "decoder": {}}, encode, decode, lambda params, x: _standard(2))


def _standard(size: int) -> dist.Distribution:
    return dist.Normal(jnp.zeros(size), jnp.ones(size)).to_event(1)


def test_draws_of_the_true_model_are_calibrated_and_of_another_are_not():
    size, levels = 1500, [0.1, 0.5, 0.8, 0.9]
    random = np.random.RandomState(0)
    x = random.randn(size).astype(np.float32)
    y = np.stack([x, -x], 1) + np.sqrt(1.25) * random.randn(size, 2)
    model = exact_regression()
    draws = prediction.predict({"encoder": {}, "decoder": {}}, KEY, x, model, 199)
    assert draws.shape == (size, 199, 2)
    np.testing.assert_allclose(draws.mean(1), np.stack([x, -x], 1), atol=5 * np.sqrt(1.25 / 199))
    np.testing.assert_allclose(draws.var(1).mean(), 1.25, rtol=0.02)
    transform = prediction.probability_integral_transform(draws, y)
    counts = np.histogram(transform, 10, (0, 1))[0]  # of 2 * size, binomial with a share of 1/10
    assert np.all(np.abs(counts - 2 * size / 10) < 4 * np.sqrt(2 * size * 0.09))
    tolerance = 4 * np.sqrt(np.multiply(levels, np.subtract(1, levels)) / (2 * size))
    assert np.all(np.abs(prediction.coverage(transform, levels) - levels) < tolerance)
    narrow = prediction.predict({"encoder": {}, "decoder": {}}, KEY, x, exact_regression(0.01), 199)
    shares = prediction.coverage(prediction.probability_integral_transform(narrow, y), levels)
    assert np.all(np.subtract(levels, shares)[1:] > tolerance[1:])


def test_predictions_do_not_depend_on_chunks(one_latent):
    model, params, _, x = one_latent
    whole, parts = (prediction.predict(params, KEY, x, model, 3, chunk_size=size) for size in (6, 4))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)
    assert len(np.unique(whole)) == whole.size


def test_transform_interval_and_coverage_by_hand():
    draws = np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    transform = prediction.probability_integral_transform(draws, np.array([2.5, 5.0]))
    np.testing.assert_allclose(transform, [2.5 / 4, 0.5])
    assert np.isnan(prediction.probability_integral_transform(draws, np.array([np.nan, 0.0]))[0])
    np.testing.assert_allclose(prediction.coverage([0.04, 0.3, 0.5, np.nan, 0.97], [0.5, 0.93]), [0.5, 0.75])
    low, high = prediction.interval(np.arange(101.0)[None], 0.9)
    assert (low, high) == (pytest.approx([5.0]), pytest.approx([95.0]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, p, x: prediction.predict(p, KEY, x[:0], m), ValueError, "conditions are empty"),
        (lambda m, p, x: prediction.predict(p, KEY, x, m, 0), ValueError, "num_samples must be at least 1"),
        (lambda m, p, x: prediction.predict(KEY, p, x, m), TypeError, "key must be one typed key"),
        (lambda m, p, x: prediction.predict(p, KEY, x, aevb.mlp_vae((3,), 2, 4)), TypeError, "takes no condition"),
        (lambda m, p, x: prediction.log_likelihood(p, KEY, x, m), TypeError, "data must be aevb.Given"),
        (lambda m, p, x: prediction.log_density(p, KEY, x, x[:0, :1], m), ValueError, "values are empty"),
        (lambda m, p, x: prediction.interval(x[:, None], 1.0), ValueError, "level must be between 0 and 1, got 1.0"),
        (lambda m, p, x: prediction.interval(x[:, None] * np.nan, 0.5), ValueError, "samples contain NaN"),
        (
            lambda m, p, x: prediction.probability_integral_transform(x, x),
            ValueError,
            "must have the shapes [N, S, ...]",
        ),
        (lambda m, p, x: prediction.coverage(x * np.nan, [0.5]), ValueError, "no observed values"),
    ],
)
def test_mistakes_are_one_line(one_latent, call, error, message):
    model, params, _, x = one_latent
    with pytest.raises(error) as raised:
        call(model, params, x)
    assert message in str(raised.value)


# The models


def test_the_family_is_the_conditional_one_with_a_learned_prior():
    model = aevb.models.build("supervised", data_shape=(2,), latent_dim=1, condition_shape=(3,), hidden_dim=4)
    assert aevb.models.recipe_of(model)[0] == "supervised"
    other = conditional_vae((2,), 1, condition_shape=(3,), hidden_dim=4, likelihood="gaussian", learned_prior=True)
    params, same = model.init(KEY), other.init(KEY)
    assert jax.tree.structure(params) == jax.tree.structure(same)
    assert "prior" in params["decoder"]
    data = Given(jnp.ones(2), jnp.ones(3))
    bounds = [jax.jit(aevb.elbo)(*each) for each in ((params, KEY, data, model), (same, KEY, data, other))]
    assert bounds[0] == bounds[1]


@pytest.fixture(scope="module")
def mixture():
    model = mixture_density_network((1,), (2,), (6,), 3)
    return model, random_params(model)


def test_a_mixture_density_integrates_to_one(mixture):
    model, params = mixture
    x = np.random.RandomState(0).randn(4, 2).astype(np.float32)
    density = np.exp(prediction.log_density(params, KEY, x, Y[:, None], model, 1))
    np.testing.assert_allclose(np.trapezoid(density, Y), 1.0, atol=1e-4)
    assert np.all(np.sum(np.diff(np.sign(np.diff(density))) < 0, axis=1) >= 1)


def test_a_mixture_density_is_its_formula_and_its_gradient_is_finite_far_away(mixture):
    model, params = mixture
    x = jnp.ones(2)
    likelihood = model.decode(params, jnp.zeros(0), x)
    w = params["decoder"]
    outputs = np.asarray(jnp.tanh(x @ w["Dense_0"]["kernel"] + w["Dense_0"]["bias"]), float)
    outputs = outputs @ np.asarray(w["Dense_1"]["kernel"], float) + np.asarray(w["Dense_1"]["bias"], float)
    weights, mean, variance = np.exp(outputs[:3]), outputs[3:6], np.exp(outputs[6:])
    densities = np.exp(-0.5 * (0.3 - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    expected = np.log(np.sum(weights / weights.sum() * densities))
    np.testing.assert_allclose(likelihood.log_prob(jnp.array([0.3])), expected, rtol=1e-4)
    for y in (-1e4, 0.3, 1e4):
        gradient = jax.jit(jax.grad(aevb.elbo))(params, KEY, Given(jnp.array([y]), x), model)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_without_latents_every_bound_is_the_log_likelihood(mixture):
    model, params = mixture
    y, x = jnp.array([0.7]), jnp.ones(2)
    exact = model.decode(params, jnp.zeros(0), x).log_prob(y)
    for bound in (aevb.elbo, functools.partial(aevb.iwae_bound, num_samples=3)):
        np.testing.assert_allclose(jax.jit(bound)(params, KEY, Given(y, x), model), exact, rtol=1e-5)
    found = prediction.log_likelihood(params, KEY, Given(y[None], x[None]), model, num_samples=5)
    np.testing.assert_allclose(found.mean, exact, rtol=1e-5)
    assert found.monte_carlo_error < 1e-6


def test_the_optimum_of_a_linear_gaussian_network_is_least_squares(x64):
    """With two values of x, the line goes through the means of both groups, and the variances are the groups' own."""
    random = np.random.RandomState(0)
    x = np.repeat([-1.0, 1.0], 40)[:, None]
    y = 0.5 + 2 * x + (0.4 + 0.2 * x) * random.randn(80, 1)
    model = gaussian_network((1,), (1,), ())
    negative = lambda params: -jnp.mean(jax.vmap(lambda y, x: aevb.elbo(params, KEY, Given(y, x), model))(y, x))
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(negative)

    def step(carry, _):
        params, state = carry
        value, gradient = value_and_grad(params, state=state)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=negative)
        return (optax.apply_updates(params, updates), state), None

    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), model.init(KEY))
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=60)
    slope, intercept = np.polyfit(x[:, 0], y[:, 0], 1)
    for group in (-1.0, 1.0):
        found = model.decode(params, jnp.zeros(0), jnp.array([group]))
        np.testing.assert_allclose(found.mean, [slope * group + intercept], rtol=1e-5)
        np.testing.assert_allclose(found.variance, [y[x == group].var()], rtol=1e-4)


# The tables


def test_the_known_density_of_bimodal_is_one_and_gives_its_known_log_likelihood(data_dir):
    test = aevb.data.load("bimodal", "test", data_dir)
    y, x = test.arrays["y"], test.arrays["x"]
    assert (y.shape, aevb.data.load("bimodal", "train", data_dir).arrays["x"].shape) == ((1000, 1), (5000, 1))
    assert np.mean(bimodal.log_density(y, x)) == pytest.approx(-0.1043, abs=1e-4)
    assert np.mean(bimodal.log_best_gaussian(y, x)) == pytest.approx(-1.1329, abs=1e-4)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    grid = np.linspace(-4, 4, 20_001)
    log_density = bimodal.log_density(grid[None], nodes[:, None])
    density = np.exp(log_density)
    np.testing.assert_allclose(np.trapezoid(density, grid), 1.0, atol=1e-6)
    expected = {bimodal.log_density: -0.12815, bimodal.log_best_gaussian: -1.13811}
    for function, population in expected.items():
        inner = np.trapezoid(density * np.maximum(function(grid[None], nodes[:, None]), -1e4), grid)
        assert weights @ inner / 2 == pytest.approx(population, abs=1e-5)


def test_test_and_validation_rows_have_no_part_in_the_scaling():
    random = np.random.RandomState(0)
    table = tables.Table("mine", random.randn(100, 2), random.randn(100, 1) * 50 + 7)
    one = tables.split(table, 3)
    assert [len(part.value) for part in (one.train, one.valid, one.test)] == [64, 16, 20]
    order = np.random.RandomState(3).permutation(100)
    others = table._replace(x=table.x.copy(), y=table.y.copy())
    others.x[order[:36]] *= 100
    others.y[order[:36]] += 100
    other = tables.split(others, 3)
    np.testing.assert_array_equal(one.train.value, other.train.value)
    np.testing.assert_array_equal(one.train.condition, other.train.condition)
    assert np.abs(other.valid.value).max() > np.abs(one.valid.value).max()
    for leaf in one.train:
        np.testing.assert_allclose(
            [leaf.mean(0), leaf.std(0)], [[0.0] * leaf.shape[1], [1.0] * leaf.shape[1]], atol=1e-5
        )
    np.testing.assert_allclose(one.y_scaling.back(one.test.value), one.y, rtol=1e-4)
    standardized = dist.Normal(0.0, 1.0).log_prob(one.test.value)
    in_units = dist.Normal(one.y_scaling.mean, one.y_scaling.scale).log_prob(one.y)
    np.testing.assert_allclose(standardized - one.log_unit, in_units, rtol=1e-4)


# The command


def test_maps_of_densities_and_calibration_are_drawn(tmp_path):
    x, y = np.linspace(-1, 1, 20), np.linspace(-2, 2, 30)
    density = np.exp(bimodal.log_density(y[None], x[:, None]))
    figures.save(figures.density_maps({"a": density, "_$b": density}, x, y, (x, x), "title"), tmp_path / "maps.png")
    levels = np.array([0.2, 0.5, 0.8])
    figures.save(figures.calibration(levels, {"a": levels, "b": levels**2}, 50, "title"), tmp_path / "calibration.png")
    assert all(min(size_of_png(tmp_path / f"{name}.png")) > 200 for name in ("maps", "calibration"))


SMALL = (
    "--num_epochs=2", "--num_splits=2", "--num_draws=20", "--hidden_dim=4", "--num_components=2", "--num_samples=2",
    "--models=latent,standard_prior,gaussian,mixture",
)  # fmt: skip


@pytest.mark.slow
def test_a_table_of_ones_own(tmp_path):
    random = np.random.RandomState(0)
    x = random.randn(60, 3)
    np.savez(tmp_path / "mine.npz", x=x, y=100 * (x[:, 0] + random.randn(60)))
    arguments = (f"--data={tmp_path / 'mine.npz'}", f"--workdir={tmp_path / 'run'}", *SMALL)
    done = experiment("regression", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["num_rows"] == {"train": 39, "valid": 9, "test": 12}
    assert [row["model"] for row in results["rows"]] == [
        "latents, learned p(z|x)", "latents, N(0, I)", "Gaussian", "mixture density",
    ]  # fmt: skip
    gaussian = results["rows"][2]
    of_splits = [run["log_likelihood"] for run in results["runs"]["gaussian"]]
    assert gaussian["log_likelihood"] == pytest.approx(np.mean(of_splits))
    assert gaussian["standard_error"] == pytest.approx(np.std(of_splits, ddof=1) / 2**0.5)
    # In units of y, whose standard deviation is 141: standardized values have a log-likelihood near -1.4.
    assert gaussian["log_likelihood"] == pytest.approx(-1.4 - np.log(141), abs=1.0)
    assert results["command"].startswith("python -m experiments.regression --data=")
    assert all((tmp_path / "run" / name).stat().st_size > 1e4 for name in ("noise.png", "calibration.png"))
    assert "log p(y|x)" in done.stdout
    assert_one_line_error(experiment("regression", *arguments), "holds results already")
    taken = (*arguments[:1], f"--workdir={tmp_path / 'mine.npz'}")
    assert_one_line_error(experiment("regression", *taken), "mine.npz: File exists")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((30, 2)), "y": np.zeros(29)}, "has 30 rows of x and 29 of y"),
        ({"x": np.zeros((30, 2)), "y": np.full(30, np.nan)}, "has NaN or infinity in 30 rows"),
        ({"x": np.zeros((30, 2)), "y": np.zeros(30)}, "is constant over the training rows"),
        ({"x": np.zeros((3, 2)), "y": np.arange(3)}, "has 3 rows"),
        ({"x": np.zeros((30, 2)), "y": np.array(["a"] * 30)}, "must be numbers"),
        ({"x": np.zeros((30, 2, 2)), "y": np.arange(30)}, "must be numbers"),
    ],
)
def test_bad_tables_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(aevb.data.DatasetError, match=message):
        tables.split(tables.own(str(tmp_path / "mine.npz")), 0)


def test_mistakes_of_the_command_are_one_line(tmp_path, data_dir):
    bad, partial = tmp_path / "bad.npz", tmp_path / "partial.npz"
    bad.write_bytes(b"nonsense")
    np.savez(partial, x=np.zeros((30, 2)))
    for flags, message in {
        (f"--data={bad}",): "damaged or not a .npz file",
        (f"--data={partial}",): "has no y, but x",
        (f"--data={partial}", "--dataset=bimodal"): "give one of them",
        ("--models=forest",): "--models takes one or more of latent,standard_prior,gaussian,mixture, got forest",
        ("--dataset=digits", f"--data_dir={data_dir}"): "digits has no x and no y, but images, labels",
    }.items():
        assert_one_line_error(experiment("regression", *flags, f"--workdir={tmp_path / 'run'}"), message)
    assert not (tmp_path / "run").exists()
