"""The hierarchical families: against formulas in NumPy, against each other, and as users run them."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Chain, Model, models, posterior
from aevb.algorithms.wake_sleep import log_recognition_of_dream
from aevb.models.levels import product_of_gaussians
from tests.processes import assert_one_line_error, assert_same_run, experiment, metrics

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SIZE = 5
SIGMAS = 4.5  # allowed for a mean over draws
X = np.random.RandomState(1).rand(SIZE)


def build(inference: str, **arguments) -> Model:
    small = {"data_shape": (SIZE,), "latent_dim": (4, 3, 2), "hidden_dim": (7, 6, 5), "param_dtype": "float64"}
    return models.build("hierarchical", inference=inference, **(small | arguments))


def params_of(model: Model):
    """Return parameters at which no two terms are equal."""
    rng = np.random.RandomState(0)
    return jax.tree.map(lambda leaf: 0.4 * rng.randn(*leaf.shape), jax.eval_shape(model.init, KEY))


# The formulas, in NumPy


def mlp(weights, inputs, last_is_tanh: bool = False):
    for layer in range(len(weights)):
        outputs = inputs @ weights[f"Dense_{layer}"]["kernel"] + weights[f"Dense_{layer}"]["bias"]
        inputs = np.tanh(outputs) if last_is_tanh or layer < len(weights) - 1 else outputs
    return inputs


def log_normal(value, mean, variance):
    return np.sum(-0.5 * (np.log(2 * np.pi * variance) + (value - mean) ** 2 / variance))


def moments(outputs):
    mean, log_variance = np.split(outputs, 2)
    return mean, np.exp(log_variance)


def log_posterior(inference, params, x, z):
    phi, theta = params["encoder"], params["decoder"]
    total, seen, found = 0.0, x, {}
    for name in ("z1", "z2", "z3"):
        features = mlp(phi[name]["features"], seen, last_is_tanh=True)
        found[name] = moments(mlp(phi[name]["posterior"], features))
        seen = features if inference == "ladder" else z[name]
    for name, above in (("z1", "z2"), ("z2", "z3"), ("z3", None)):
        mean, variance = found[name]
        if inference == "ladder" and above:
            other_mean, other_variance = moments(mlp(theta[name], z[above]))
            precision = 1 / variance + 1 / other_variance
            mean, variance = (mean / variance + other_mean / other_variance) / precision, 1 / precision
        total += log_normal(z[name], mean, variance)
    return total


def log_joint(params, x, z):
    theta = params["decoder"]
    log_prior = log_normal(z["z3"], 0, np.ones(2))
    log_prior += sum(log_normal(z[low], *moments(mlp(theta[low], z[up]))) for low, up in (("z1", "z2"), ("z2", "z3")))
    logits = mlp(theta["likelihood"], z["z1"])
    return log_prior, np.sum(x * logits - np.logaddexp(0, logits))


@pytest.mark.parametrize("inference", ["bottom_up", "ladder"])
def test_densities_are_those_of_the_papers(x64, inference):
    model = build(inference)
    params = params_of(model)
    rng = np.random.RandomState(2)
    z = {"z1": rng.randn(4), "z2": rng.randn(3), "z3": rng.randn(2)}
    q, p = jax.jit(model.encode)(params, jnp.asarray(X)), jax.jit(model.prior)(params)
    assert list(p.levels) == ["z3", "z2", "z1"]
    assert list(q.levels) == (["z1", "z2", "z3"] if inference == "bottom_up" else ["z3", "z2", "z1"])
    log_prior, log_likelihood = log_joint(params, X, z)
    assert float(q.log_prob(z)) == pytest.approx(log_posterior(inference, params, X, z), rel=1e-12)
    assert float(p.log_prob(z)) == pytest.approx(log_prior, rel=1e-12)
    assert float(model.decode(params, z).log_prob(X)) == pytest.approx(log_likelihood, rel=1e-12)


def test_the_two_levels_of_burda_have_their_parameters():
    """784-200-200-100 and 100-100-100-50 in the encoder, 50-100-100-100 and 100-200-200-784 in the decoder."""
    dense = lambda *sizes: sum((one + 1) * other for one, other in itertools.pairwise(sizes))
    model = models.hierarchical_vae((784,), [100, 50], [200, 100])
    found = jax.eval_shape(model.init, KEY)
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert count(found["encoder"]) == dense(784, 200, 200, 2 * 100) + dense(100, 100, 100, 2 * 50)
    assert count(found["decoder"]) == dense(50, 100, 100, 2 * 100) + dense(100, 200, 200, 784)
    assert model == models.build("hierarchical", data_shape=[784], hidden_dim=[200, 100])


def test_the_product_of_gaussians_is_their_product_on_a_grid(x64):
    grid = np.linspace(-30, 30, 200_001)
    one, other = jnp.array([1.0, -2.0, 0.3, -1.5]), jnp.array([-0.5, 4.0, -1.0, 2.0])
    found = product_of_gaussians(one, other)
    for index in range(2):
        logs = [
            -0.5 * (grid - each[index]) ** 2 * np.exp(-each[index + 2]) for each in (np.asarray(one), np.asarray(other))
        ]
        density = np.exp(sum(logs))
        density /= density.sum()
        mean = density @ grid
        assert float(found.mean[index]) == pytest.approx(mean, rel=1e-9)
        assert float(found.variance[index]) == pytest.approx(density @ (grid - mean) ** 2, rel=1e-9)


@pytest.mark.parametrize(("one", "other"), [(80.0, -80.0), (-80.0, 80.0), (80.0, 80.0), (-80.0, -80.0)])
def test_the_product_of_gaussians_is_finite_in_single_precision(one, other):
    def mean(outputs):
        return product_of_gaussians(outputs, jnp.array([2.0, other])).mean[0]

    outputs = jnp.array([1.0, one])
    product = product_of_gaussians(outputs, jnp.array([2.0, other]))
    assert product.mean.dtype == jnp.float32
    assert float(mean(outputs)) == pytest.approx({80.0: 2.0, -80.0: 1.0}[one] if one != other else 1.5)
    assert float(jnp.log(product.variance[0])) == pytest.approx(min(one, other) - np.log(2) * (one == other))
    assert np.isfinite(product.log_prob(product.mean))
    assert np.all(np.isfinite(jax.grad(mean)(outputs)))


# q in either order, for one p


def test_either_order_estimates_the_same_marginal_likelihood(x64):
    """The same theta with both kinds of q, and without any."""
    found, found_decoder = [], None
    for inference in ("bottom_up", "ladder"):
        model = build(inference, latent_dim=(2, 2), hidden_dim=3, num_hidden_layers=1)
        params = jax.tree.map(lambda leaf: 0.5 * leaf, params_of(model))
        params["decoder"] = found_decoder = params["decoder"] if found_decoder is None else found_decoder
        estimate = jax.jit(
            lambda params, model=model: aevb.marginal_likelihood.importance_sampling(
                params, KEY, jnp.asarray(X), model, num_samples=20_000
            )
        )(params)
        found.append((float(estimate.log_marginal), float(estimate.standard_error)))
    z = model.prior(params).sample(jax.random.key(1), (50_000,))
    weights = np.exp(jax.jit(jax.vmap(lambda z: model.decode(params, z).log_prob(jnp.asarray(X))))(z))
    found.append((np.log(weights.mean()), weights.std() / weights.mean() / 50_000**0.5))
    for value, error in found[:2]:
        assert abs(value - found[2][0]) < SIGMAS * np.hypot(error, found[2][1])
        assert error < 0.02


@pytest.mark.parametrize("inference", ["bottom_up", "ladder"])
def test_analytic_and_sampled_kl_agree_by_level(x64, inference):
    model = build(inference)
    params, keys = params_of(model), jax.random.split(KEY, 4000)
    by_kl = []
    for kl in ("analytic", "sampled"):
        terms = jax.jit(
            jax.vmap(lambda key, kl=kl: aevb.elbo_terms(params, key, jnp.asarray(X), model, num_samples=5, kl=kl))
        )(keys)
        np.testing.assert_allclose(terms.kl, sum(terms.kl_by_level.values()), rtol=1e-10)
        by_kl.append({name: (value.mean(), value.std() / 4000**0.5) for name, value in terms.kl_by_level.items()})
    for name in ("z1", "z2", "z3"):
        (one, error), (other, other_error) = (each[name] for each in by_kl)
        assert abs(one - other) < SIGMAS * np.hypot(error, other_error) + 1e-12
        assert one > -SIGMAS * error


GRADIENTS = [
    pytest.param(aevb.elbo, {"kl": "analytic"}, marks=pytest.mark.slow),
    (aevb.elbo, {"kl": "sampled", "gradient": "sticking_the_landing"}),
    pytest.param(aevb.elbo, {"kl": "analytic", "gradient": "score_function_leave_one_out"}, marks=pytest.mark.slow),
    (aevb.iwae_bound, {"gradient": "doubly_reparameterized"}),
]


@pytest.mark.parametrize(("bound", "options"), GRADIENTS)
def test_gradients_of_shared_weights_are_those_of_the_pathwise_estimator(x64, bound, options):
    """A ladder's q contains theta: the parts of q that estimators hold fixed must not bias its gradient."""
    model = build("ladder", latent_dim=(2, 2), hidden_dim=3, num_hidden_layers=1)
    params, size = params_of(model), 20_000
    pathwise = {"kl": "sampled"} if bound is aevb.elbo else {}

    def draws(key, options):
        function = functools.partial(bound, num_samples=3, **options)
        gradient = lambda key: jax.grad(function)(params, key, jnp.asarray(X), model)
        return jax.jit(jax.vmap(gradient))(jax.random.split(key, size))

    one, other = draws(jax.random.key(1), options), draws(jax.random.key(2), pathwise)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        error = np.sqrt((a.var(0) + b.var(0)) / size)
        assert np.all(np.abs(a.mean(0) - b.mean(0)) < SIGMAS * error + 1e-9), jax.tree_util.keystr(path)


def test_the_sleep_phase_takes_theta_as_it_is():
    model = build("ladder", latent_dim=(3, 2), hidden_dim=4, num_hidden_layers=1, param_dtype="float32")
    slope = jax.jit(jax.grad(log_recognition_of_dream), static_argnums=3)(
        params_of(model), KEY, jnp.asarray(X, jnp.float32), model
    )
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slope["decoder"]))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slope["encoder"]))


# Convolutions


@pytest.mark.parametrize("inference", [pytest.param("bottom_up", marks=pytest.mark.slow), "ladder"])
def test_every_parameter_of_a_convolutional_ladder_matters(inference):
    model = models.build(
        "hierarchical_convolutional", data_shape=(5, 7, 3), latent_dim=(3, 2), hidden_dim=(6, 4), num_channels=[2, 3],
        inference=inference,
    )  # fmt: skip
    params = jax.tree.map(lambda leaf: leaf + 0.1, model.init(KEY))
    batch = np.random.RandomState(0).rand(10, 5, 7, 3).astype(np.float32)
    bounds = lambda params: jnp.sum(
        jax.vmap(aevb.elbo, (None, 0, 0, None))(params, jax.random.split(KEY, 10), batch, model)
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(bounds))(params)):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0), path


@pytest.mark.parametrize("likelihood", ["categorical", "gaussian", "discretized_logistic"])
@pytest.mark.parametrize("name", ["hierarchical", "hierarchical_convolutional"])
def test_any_likelihood(name, likelihood):
    model = models.build(name, data_shape=(3, 4), latent_dim=(3, 2), hidden_dim=4, likelihood=likelihood)
    x = jax.ShapeDtypeStruct((3, 4), np.float32)
    params = jax.eval_shape(model.init, KEY)
    assert jax.eval_shape(lambda params, x: aevb.elbo(params, KEY, x, model), params, x).shape == ()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"latent_dim": [20]},
            ValueError,
            r"sizes of two or more levels, the lowest first, such as \[100, 50\], got \[20\]",
        ),
        ({"latent_dim": 20}, ValueError, "sizes of two or more levels, the lowest first, .* got 20"),
        ({"latent_dim": [3, 0]}, ValueError, r"latent_dim\[1\] must be at least 1, got 0"),
        ({"latent_dim": [3, 2.5]}, TypeError, r"latent_dim\[1\] must be an integer, got 2.5"),
        ({"hidden_dim": [3, 4]}, ValueError, r"hidden_dim must be one number, or one per level for 3 levels"),
        ({"num_hidden_layers": 0}, ValueError, "num_hidden_layers must be at least 1, got 0"),
        ({"inference": "top_down"}, ValueError, "inference must be one of"),
        ({"data_shape": 784}, TypeError, "data_shape must be a sequence of sizes"),
    ],
)
@pytest.mark.parametrize("name", ["hierarchical", "hierarchical_convolutional"])
def test_wrong_arguments_are_refused_in_one_line(name, changes, error, message):
    with pytest.raises(error, match=message):
        models.build(name, **({"data_shape": (3, 4), "latent_dim": (4, 3, 2), "hidden_dim": 4} | changes))


# Samples with levels fixed


def _gaussian(mean, scale):
    return dist.Normal(mean, scale).to_event(1)


def _prior(params) -> Chain:
    del params
    standard = _gaussian(jnp.zeros(1), jnp.ones(1))
    return Chain(a=standard, b=lambda z: _gaussian(z["a"] + 1, 0.5), c=lambda z: _gaussian(z["a"] * z["b"], 0.1))


SHOWS_ITS_LATENTS = Model(
    lambda key: {"decoder": jnp.zeros(1), "encoder": jnp.zeros(1)},
    lambda params, x: _prior(params),
    lambda params, z: _gaussian(jnp.concatenate([z["a"], z["b"], z["c"]]), 1.0),
    _prior,
)


def drawn(*fixed: str, num_samples: int = 50, **options) -> np.ndarray:
    params = SHOWS_ITS_LATENTS.init(KEY)
    return posterior.sample(params, jax.random.key(3), num_samples, SHOWS_ITS_LATENTS, fixed=fixed, **options).T


def test_fixed_levels_have_one_noise():
    """A level with fixed ancestors has one value; otherwise its distance from its mean is fixed."""
    vary = lambda values: np.ptp(values) > 0.1
    constant = lambda values: np.ptp(values) < 1e-5
    a, b, c = drawn()
    assert vary(a) and vary(b) and vary(c)  # noqa: PT018
    a, b, c = drawn("a")
    assert constant(a) and vary(b) and vary(c)  # noqa: PT018
    np.testing.assert_allclose(np.std(b), 0.5, rtol=0.4)
    a, b, c = drawn("b", "a")
    assert constant(a) and constant(b) and vary(c)  # noqa: PT018
    a, b, c = drawn("c", "b")
    assert vary(a) and vary(b)  # noqa: PT018
    assert constant(b - a - 1) and constant(c - a * b)  # noqa: PT018
    assert all(constant(values) for values in drawn("a", "b", "c"))


def test_fixed_levels_do_not_depend_on_chunks_and_their_noise_is_a_draw():
    np.testing.assert_array_equal(drawn("a", num_samples=10), drawn("a", num_samples=10, chunk_size=3))
    params = SHOWS_ITS_LATENTS.init(KEY)
    values = [
        posterior.sample(params, key, 1, SHOWS_ITS_LATENTS, fixed=("a",))[0, 0]
        for key in jax.random.split(KEY, 40)
    ]  # fmt: skip
    assert abs(np.mean(values)) < SIGMAS / 40**0.5
    assert 0.6 < np.std(values) < 1.4


def test_levels_that_are_none_are_refused():
    with pytest.raises(ValueError, match="fixed must name levels of the prior, whose levels are a, b, c, got 'z1'"):
        drawn("z1")
    plain = aevb.mlp_vae((SIZE,), 2, 3)
    with pytest.raises(ValueError, match="fixed must name levels of the prior, which has no levels, got 'z'"):
        posterior.sample(plain.init(KEY), KEY, 2, plain, fixed="z")


# As users run it

LADDER = ("--model=hierarchical", "--inference=ladder", "--hidden_dim=8,6", "--num_hidden_layers=1", "--nomap_prior")


def test_digits_by_its_command(data_dir, tmp_path):
    """Levels appear in the log, the table, the metrics and the pictures; the run is resumed, and loaded again."""
    command = functools.partial(
        experiment, "digits", f"--data_dir={data_dir}", *LADDER, "--latent_dim=3-2", f"--workdir={tmp_path / 'run'}"
    )
    done = command("--num_epochs=1", "--eval_every=1", "--nodraw_pictures")
    assert done.returncode == 0, done.stderr
    assert "latent 3-2" in done.stdout
    done = command("--num_epochs=2", "--eval_every=1", "--resume")
    assert done.returncode == 0, done.stderr
    rows = metrics(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        levels = float(row["test_kl_by_level/z1"]) + float(row["test_kl_by_level/z2"])
        assert levels == pytest.approx(float(row["test_kl"]), rel=1e-5)
        assert int(row["active_units_by_level/z1"]) + int(row["active_units_by_level/z2"]) == int(row["active_units"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    kl = summary["test_kl_by_level"]
    assert kl == {level: float(rows[-1][f"test_kl_by_level/{level}"]) for level in ("z2", "z1")}
    assert summary["latent_dim"] == [3, 2]
    assert f"KL by level: z1 {kl['z1']:.2f} nats" in done.stdout or f"z1 {kl['z1']:.2f} nats" in done.stdout
    names = [path.stem for path in sorted((tmp_path / "run" / "figures").glob("*.png"))]
    assert names == [
        *("kl_by_level", "levels", "lower_bounds", "reconstruction_and_kl", "reconstructions", "samples"),
    ]
    model, params = aevb.load_run(tmp_path / "run")
    test = aevb.data.load("digits", "test", data_dir).pixels()
    bound = aevb.evaluate(params, KEY, test, model, aevb.Estimator(20))
    assert bound.elbo == pytest.approx(float(rows[-1]["test_elbo"]), abs=0.1)
    assert sum(bound.kl_by_level.values()) == pytest.approx(bound.kl)


@pytest.mark.slow
def test_a_resumed_run_is_one_that_never_stopped(data_dir, tmp_path):
    command = functools.partial(
        experiment, "digits", f"--data_dir={data_dir}", *LADDER, "--latent_dim=3-2", "--eval_every=1",
        "--nodraw_pictures",
    )  # fmt: skip
    for arguments in (
        (f"--workdir={tmp_path / 'whole'}", "--num_epochs=3"),
        (f"--workdir={tmp_path / 'parts'}", "--num_epochs=1"),
        (f"--workdir={tmp_path / 'parts'}", "--num_epochs=3", "--resume"),
    ):
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_sizes_of_levels_on_the_command_line(data_dir, tmp_path):
    command = functools.partial(
        experiment, "digits", f"--data_dir={data_dir}", f"--workdir={tmp_path}", *LADDER, "--num_epochs=0"
    )
    assert_one_line_error(
        command("--latent_dim=3,2"),
        "--latent_dim takes the sizes of one model joined by hyphens, 3-2, and commas between models, got 3,2",
    )
    assert_one_line_error(command("--latent_dim=3"), "latent_dim must be the sizes of two or more levels")
    assert_one_line_error(command("--latent_dim=3-x"), "--latent_dim takes integers separated by commas, got 3,x")
    assert not any(tmp_path.iterdir())
