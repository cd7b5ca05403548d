import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb.model import data_shape
from tests import oracles
from tests.models import DATA_DIM, MODELS, linear_gaussian_model

NUM_DRAWS = 100_000
MOST_SIGMA = 4.5  # one false alarm in 150,000 tests

NETWORKS = [("bernoulli", False), ("gaussian", False), ("gaussian", True)]


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(values, np.float64)
    return values.mean(0), values.std(0) / np.sqrt(len(values))


def random_params(model: aevb.Model, scale: float = 0.5) -> dict:
    """Return parameters of order one, because at the small initial ones most formulas are nearly linear."""
    leaves, structure = jax.tree.flatten(model.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    draws = [scale * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, draws)


@pytest.mark.parametrize(("likelihood", "squash_mean"), NETWORKS)
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("num_samples", [1, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_elbo_and_gradient_equal_numpy_formula(precision, likelihood, squash_mean, kl, num_samples, dtype, tolerance):
    model = aevb.mlp_vae((DATA_DIM,), 3, 8, likelihood, squash_mean=squash_mean, param_dtype=dtype)
    params = random_params(model)
    x = jax.random.uniform(jax.random.key(2), (DATA_DIM,), dtype)
    key = jax.random.key(3)
    standard = dist.Normal(jnp.zeros(3, dtype), jnp.ones(3, dtype)).to_event(1)
    noise = np.asarray(aevb.reparameterize(standard, key, (num_samples,)), np.float64)
    expected = oracles.mlp_elbo(
        jax.tree.map(lambda a: np.asarray(a, np.float64), params), np.asarray(x, np.float64), noise,
        likelihood, squash_mean, kl,
    )  # fmt: skip

    value, gradient = jax.value_and_grad(aevb.elbo)(params, key, x, model, num_samples, kl)

    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected.elbo, rtol=tolerance)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        want = functools.reduce(lambda tree, entry: tree[entry.key], path, expected.params)
        # Relative to the leaf, because single entries may cancel to nearly zero.
        assert np.max(np.abs(leaf - want)) <= tolerance * np.max(np.abs(want)), path


def test_bound_is_tight_at_the_exact_posterior(x64):
    exact = oracles.LinearGaussian.random(DATA_DIM, 3, seed=0)
    model = linear_gaussian_model(exact)
    params = model.init(jax.random.key(0))
    for seed in range(5):
        x = np.random.RandomState(seed).randn(DATA_DIM)
        # log p(x, z) - log q(z|x) is log p(x) for every z: one draw is enough.
        bound = aevb.elbo(params, jax.random.key(seed), jnp.asarray(x), model, kl="sampled")
        assert abs(float(bound) - exact.log_marginal(x)) < 1e-9


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("full_covariance", [True, False])
def test_both_estimators_and_their_gradients_are_unbiased(x64, kl, full_covariance):
    exact = oracles.LinearGaussian.random(4, 2, seed=1)
    model = linear_gaussian_model(exact, full_covariance)
    params = model.init(jax.random.key(0))
    # Away from the optimum, so that the bound is loose and no gradient is 0.
    params["encoder"] = jax.tree.map(lambda a: 1.2 * a + 0.1 * (a != 0), params["encoder"])
    x = jnp.asarray(np.random.RandomState(0).randn(4))

    def exact_bound(encoder):
        mean = encoder["gain"] @ x + encoder["offset"]
        factor = encoder["factor"] if full_covariance else jnp.diag(encoder["factor"])
        return exact.elbo(np.asarray(x), np.asarray(mean), np.asarray(factor @ factor.T))

    keys = jax.random.split(jax.random.key(5), NUM_DRAWS)
    estimator = jax.value_and_grad(functools.partial(aevb.elbo, kl=kl))
    bounds, gradients = jax.jit(jax.vmap(estimator, (None, 0, None, None)), static_argnums=3)(params, keys, x, model)

    mean, error = mean_and_error(bounds)
    assert abs(mean - exact_bound(params["encoder"])) < MOST_SIGMA * error + 1e-9
    for index in range(2):  # by central differences of the exact bound in each entry of the offset
        step = jnp.zeros(2).at[index].set(1e-5)
        up, down = (
            exact_bound({**params["encoder"], "offset": params["encoder"]["offset"] + s}) for s in (step, -step)
        )
        mean, error = mean_and_error(gradients["encoder"]["offset"][:, index])
        assert abs(mean - (up - down) / 2e-5) < MOST_SIGMA * error + 1e-6
    diagonal = (lambda f, s: f + jnp.diag(jnp.array([s, 0.0]))) if full_covariance else (lambda f, s: f.at[0].add(s))
    up, down = (
        exact_bound({**params["encoder"], "factor": diagonal(params["encoder"]["factor"], s)}) for s in (1e-5, -1e-5)
    )
    factor_gradients = gradients["encoder"]["factor"]
    mean, error = mean_and_error(factor_gradients[:, 0, 0] if full_covariance else factor_gradients[:, 0])
    assert abs(mean - (up - down) / 2e-5) < MOST_SIGMA * error + 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_transformations_compose(name):
    model, kl = MODELS[name]
    params = model.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 6)
    xs = jax.random.uniform(jax.random.key(2), (6, *data_shape(model, params)))
    elbo = functools.partial(aevb.elbo, kl=kl)
    one_by_one = jnp.stack([elbo(params, key, x, model) for key, x in zip(keys, xs, strict=True)])
    together = jax.jit(jax.vmap(elbo, (None, 0, 0, None)))(params, keys, xs, model)
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    np.testing.assert_allclose(together, one_by_one, rtol=tolerance)
    terms = aevb.elbo_terms(params, keys[0], xs[0], model, kl=kl)
    np.testing.assert_allclose(terms.reconstruction - terms.kl, one_by_one[0], rtol=tolerance)
    for leaf in jax.tree.leaves(jax.jit(jax.grad(elbo))(params, keys[0], xs[0], model)):
        assert bool(jnp.all(jnp.isfinite(leaf)))


def test_contract_calls():
    """The calls of the public contract, word for word."""
    model = aevb.mlp_vae(data_shape=(784,), latent_dim=20, hidden_dim=500, likelihood="bernoulli")
    params = model.init(jax.random.key(0))
    key, x = jax.random.key(1), jnp.zeros(784)
    keys, xs = jax.random.split(key, 3), jnp.zeros((3, 784))
    assert aevb.elbo(params, key, x, model).shape == ()
    assert aevb.elbo(params, key, x, model, num_samples=5, kl="sampled").shape == ()
    assert jax.tree.structure(jax.grad(aevb.elbo)(params, key, x, model)) == jax.tree.structure(params)
    assert jax.vmap(aevb.elbo, (None, 0, 0, None))(params, keys, xs, model).shape == (3,)
    assert jax.jit(aevb.elbo)(params, key, x, model).shape == ()
    assert hash(model) == hash(aevb.mlp_vae([784], 20))
    assert model == aevb.mlp_vae([784], 20)
    assert jax.tree.leaves(model) == []


def test_kl_is_of_the_right_size_and_sign():
    """Omitting the KL, or dividing it by the number of pixels, would raise bounds by tens of nats."""
    model = aevb.mlp_vae((4,), 2, 5)
    params = random_params(model, 2.0)
    x = jnp.array([0.0, 1.0, 0.5, 0.2])
    posterior = model.encode(params, x)
    mean, variance = np.asarray(posterior.mean, np.float64), np.asarray(posterior.variance, np.float64)
    expected = oracles.kl_normal(mean, np.diag(variance), np.zeros(2), np.eye(2))
    terms = aevb.elbo_terms(params, jax.random.key(0), x, model)
    assert expected > 0.5
    np.testing.assert_allclose(terms.kl, expected, rtol=1e-5)


def test_minibatch_elbo_is_the_sum_over_the_dataset():
    model = aevb.mlp_vae((DATA_DIM,), 3, 8)
    params = random_params(model)
    xs = jax.random.uniform(jax.random.key(2), (10, DATA_DIM))
    key = jax.random.key(3)
    keys = jax.random.split(key, 10)
    bounds = jax.vmap(aevb.elbo, (None, 0, 0, None))(params, keys, xs, model)
    np.testing.assert_allclose(aevb.minibatch_elbo(params, key, xs, model, 10), jnp.sum(bounds), rtol=1e-6)
    np.testing.assert_allclose(aevb.minibatch_elbo(params, key, xs, model, 500), 50 * jnp.sum(bounds), rtol=1e-6)
    with pytest.raises(ValueError, match="a minibatch of 10 cannot come from a data set of 9"):
        aevb.minibatch_elbo(params, key, xs, model, 9)


def test_flow_density_is_that_of_its_samples(x64):
    """The density of a draw equals the change of variables with the Jacobian of the whole map."""
    model = aevb.mlp_vae((DATA_DIM,), 3, 8, posterior="flow", param_dtype="float64")
    params = random_params(model)
    posterior = model.encode(params, jnp.linspace(0, 1, DATA_DIM))
    assert isinstance(posterior, dist.TransformedDistribution)
    noise = jax.random.normal(jax.random.key(0), (3,))

    def transform(u):
        for layer in posterior.transforms:
            u = layer(u)
        return u

    z = transform(noise)
    expected = posterior.base_dist.log_prob(noise) - jnp.linalg.slogdet(jax.jacfwd(transform)(noise))[1]
    np.testing.assert_allclose(posterior.log_prob(z), expected, rtol=1e-8)
    drawn, intermediates = posterior.sample_with_intermediates(jax.random.key(4))
    np.testing.assert_allclose(posterior.log_prob(drawn, intermediates), posterior.log_prob(drawn), rtol=1e-8)


@pytest.mark.parametrize("posterior", ["full_covariance", "flow"])
def test_a_richer_posterior_comes_closer_to_the_marginal_likelihood(posterior):
    """It is fitted to one x of a linear-Gaussian model with a correlated exact posterior."""
    import optax

    exact = oracles.LinearGaussian(np.array([[2.0, 1.9], [1.9, 2.0]]), np.zeros(2), 0.3)
    linear = linear_gaussian_model(exact, full_covariance=False)
    x = jnp.array([0.7, -0.3])

    def fitted(family: str) -> float:
        network = aevb.mlp_vae((2,), 2, 16, posterior=family)
        model = aevb.Model(
            lambda key: {**linear.init(key), "encoder": network.init(key)["encoder"]},
            lambda params, x: network.encode(params, x),
            linear.decode,
            linear.prior,
        )
        params = model.init(jax.random.key(0))
        optimizer = optax.adam(2e-2)

        def step(carry, key):
            params, state = carry
            loss = lambda encoder: -aevb.elbo({**params, "encoder": encoder}, key, x, model, 32, "sampled")
            updates, state = optimizer.update(jax.grad(loss)(params["encoder"]), state)
            return ({**params, "encoder": optax.apply_updates(params["encoder"], updates)}, state), None

        carry = (params, optimizer.init(params["encoder"]))
        (params, _), _ = jax.lax.scan(step, carry, jax.random.split(jax.random.key(1), 1500))
        return float(aevb.elbo(params, jax.random.key(2), x, model, 20_000, "sampled"))

    log_marginal = exact.log_marginal(np.asarray(x))
    diagonal, rich = fitted("gaussian"), fitted(posterior)
    assert diagonal < log_marginal - 0.5  # the gap of a diagonal Gaussian here
    assert log_marginal - 0.1 < rich < log_marginal + 0.05


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_finite_at_extreme_logits(precision, dtype, logit):
    from aevb.likelihoods import GreyBernoulli

    def log_probability(logits, x):
        return GreyBernoulli(logits).to_event(1).log_prob(x)

    logits, x = jnp.full(3, logit, dtype), jnp.array([0.0, 0.5, 1.0], dtype)
    value, gradient = jax.value_and_grad(log_probability)(logits, x)
    expected = np.sum(np.array([0.0, 0.5, 1.0]) * logit - np.logaddexp(0, logit))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    sigmoid = 1 / (1 + np.exp(-np.clip(logit, -700, 700)))
    np.testing.assert_allclose(gradient, np.array([0.0, 0.5, 1.0]) - sigmoid, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("log_variance", [-50.0, 50.0])
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_finite_at_extreme_log_variances(precision, dtype, log_variance, kl):
    model = aevb.mlp_vae((4,), 2, 5, "gaussian", param_dtype=dtype)
    params = model.init(jax.random.key(0))
    for part in ("encoder", "decoder"):
        bias = params[part]["Dense_1"]["bias"]
        params[part]["Dense_1"]["bias"] = bias.at[len(bias) // 2 :].set(log_variance)
    x = jnp.array([0.0, 1.0, 0.5, 0.2], dtype)
    value, gradient = jax.value_and_grad(aevb.elbo)(params, jax.random.key(1), x, model, 2, kl)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        assert bool(jnp.all(jnp.isfinite(leaf)))


def test_bfloat16_computes_near_float32_and_keeps_its_parameters():
    half = aevb.mlp_vae((DATA_DIM,), 3, 8, compute_dtype="bfloat16")
    single = aevb.mlp_vae((DATA_DIM,), 3, 8)
    params = random_params(single)
    x, key = jax.random.uniform(jax.random.key(0), (DATA_DIM,)), jax.random.key(1)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half.init(key))} == {"float32"}
    value, gradient = jax.value_and_grad(aevb.elbo)(params, key, x, half, 100)
    assert value.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradient)} == {"float32"}
    reference = aevb.elbo(params, key, x, single, 100)
    assert value != reference
    np.testing.assert_allclose(value, reference, rtol=1e-2)
    assert "bf16" in str(jax.make_jaxpr(lambda p: aevb.elbo(p, key, x, half))(params))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": jnp.zeros(5)}, ValueError, r"x has shape \(5,\), the model's datapoints have shape \(12,\)"),
        ({"x": jnp.zeros((7, DATA_DIM))}, ValueError, "jax.vmap it over a batch"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"num_samples": 2.0}, TypeError, "num_samples must be an integer, got 2.0"),
        ({"kl": "exact"}, ValueError, r"kl must be one of \('analytic', 'sampled'\), got 'exact'"),
        ({"model": "vae"}, TypeError, "model must be an aevb.Model, got 'vae'"),
        ({"model": MODELS["flow"][0]}, ValueError, 'use kl="sampled"'),
    ],
)
def test_errors_say_what_would_be_right(arguments, error, message):
    model = arguments.pop("model", MODELS["bernoulli"][0])
    params = model.init(jax.random.key(0)) if isinstance(model, aevb.Model) else {}
    x = arguments.pop("x", jnp.zeros(DATA_DIM))
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda p: aevb.elbo(p, jax.random.key(0), x, model, **arguments), params)


def test_traced_num_samples_says_how_to_bind_it():
    model = MODELS["bernoulli"][0]
    params = model.init(jax.random.key(0))
    with pytest.raises(TypeError, match=r"functools\.partial"):
        jax.jit(aevb.elbo)(params, jax.random.key(0), jnp.zeros(DATA_DIM), model, num_samples=3)


def test_decoder_without_event_dimensions_is_named():
    base = MODELS["bernoulli"][0]
    model = aevb.Model(base.init, base.encode, lambda p, z: dist.Normal(jnp.zeros(DATA_DIM), 1.0), base.prior)
    with pytest.raises(ValueError, match=r"to_event\(1\)"):
        aevb.elbo(model.init(jax.random.key(0)), jax.random.key(0), jnp.zeros(DATA_DIM), model)
