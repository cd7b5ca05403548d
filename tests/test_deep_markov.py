"""Deep Markov models: padding, what each step depends on, flows along time, and the networks against NumPy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.stats
from numpyro.distributions import TransformedDistribution
from numpyro.distributions.transforms import ComposeTransform

import aevb
from aevb import Markov, Observed
from aevb.models import deep_markov_vae, linear_gaussian_state_space, start_at_mean

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SIZES = (2, 6, 4, 6)
POSTERIORS = ("structured", "mean_field", "flow")


def model_of(length, **options):
    return deep_markov_vae((length, 3), *SIZES, **({"param_dtype": "float64"} | options))


def roll(length, padding=0):
    """Return a binary sequence with a gap, a missing value, and NaN after its end."""
    x = np.full((length + padding, 3), np.nan)
    x[:length] = np.random.RandomState(0).rand(length, 3) > 0.5
    x[2], x[1, 1] = np.nan, np.nan
    return jnp.asarray(x)


def trained(model):
    """Return parameters away from the initial ones, many of which are 0."""
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), model.init(KEY))


def steps_of(path, z):
    """Return the Gaussians of every step along a path."""
    assert isinstance(path, Markov)
    return path.conditionals(z).base_dist  # type: ignore[attr-defined]


def centres_of(path, z):
    """Return the path that zero noise gives, step by step."""
    steps = path.conditionals(z)
    if not isinstance(steps, TransformedDistribution):
        return steps.base_dist.loc
    return ComposeTransform(steps.transforms)(steps.base_dist.base_dist.loc)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("posterior", "kl"),
    [
        ("structured", "analytic"),
        ("mean_field", "sampled"),
        pytest.param("flow", "sampled", marks=pytest.mark.slow),
    ],
)
def test_padding_to_twice_the_length_changes_nothing(x64, posterior, kl):
    """The bound and its gradient stay the same with the same noise. Parameters work for any length."""
    short, long = model_of(6, posterior=posterior), model_of(12, posterior=posterior)
    params = trained(short)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, long.init(KEY))
    bound = jax.jit(jax.value_and_grad(functools.partial(aevb.elbo, num_samples=2, kl=kl)), static_argnums=3)
    value, gradient = bound(params, KEY, roll(6), short)
    padded_value, padded_gradient = bound(params, KEY, roll(6, 6), long)
    assert float(padded_value) == pytest.approx(float(value), rel=1e-12)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(padded_gradient), strict=True):
        assert np.any(one != 0)
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("posterior", ["structured", "mean_field"])
def test_a_padded_step_is_the_priors(x64, posterior):
    model = model_of(8, posterior=posterior)
    params, x = trained(model), roll(5, 3)
    q, p = model.encode(params, x), model.prior(params)
    z = q.sample(KEY, (4,))
    ours, priors = (steps_of(distribution, z) for distribution in (q, p))
    for name in ("loc", "scale"):
        np.testing.assert_array_equal(getattr(ours, name)[:, 5:], getattr(priors, name)[:, 5:])
        assert np.all(getattr(ours, name)[:, :5] != getattr(priors, name)[:, :5])  # also in the gap
    # In a bound, q's steps are those of the draw, one after another, and p's are computed at once: equal to rounding.
    terms = aevb.elbo_terms(params, KEY, x, model)
    np.testing.assert_allclose(terms.kl_by_level["z"][5:], 0, atol=1e-14)
    nothing = aevb.elbo_terms(params, KEY, jnp.full((8, 3), jnp.nan), model, kl="sampled")
    assert float(nothing.reconstruction) == 0
    assert float(nothing.kl) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_what_a_step_of_the_posterior_depends_on(x64, posterior):
    """Structured posteriors and flows depend on the step before and on later data.

    Mean field depends on all data and no step.
    """
    model = model_of(5, posterior=posterior)
    params, x = trained(model), jnp.asarray(np.random.RandomState(0).rand(5, 3))
    z = jnp.asarray(np.random.RandomState(1).randn(5, 2))
    means = lambda x, z: centres_of(model.encode(params, x), z)
    of_x, of_z = jax.jit(jax.jacobian(means, argnums=(0, 1)))(x, z)
    depends_on_x = np.any(np.asarray(of_x) != 0, axis=(1, 3))
    depends_on_z = np.any(np.asarray(of_z) != 0, axis=(1, 3))
    if posterior != "mean_field":
        np.testing.assert_array_equal(depends_on_x, np.triu(np.ones((5, 5), bool)))
        np.testing.assert_array_equal(depends_on_z, np.eye(5, k=-1, dtype=bool))
    else:
        assert np.all(depends_on_x)
        assert not np.any(depends_on_z)


# A flow along time


def flow_model(length, padding=0):
    """Return a model of three latents, parameters away from the initial ones, and a sequence."""
    model = deep_markov_vae((length + padding, 3), 3, 6, 4, 6, posterior="flow", param_dtype="float64")
    return model, trained(model), roll(length, padding)


def _drawn_with_both_densities(q, key):
    """Return a path, and the density of each step while drawing and at the given path, which inverts the flow."""
    z, kept = q.sample_with_intermediates(key)
    return z, q.log_probs(z, kept), q.log_probs(z)


def test_a_flows_density_is_that_of_its_noise_and_the_jacobian(x64):
    """The oracle takes noise from a root finder, its normal density, and a float64 log determinant, step by step."""
    model, params, x = flow_model(6)
    q = jax.jit(model.encode)(params, x)
    assert isinstance(q, Markov)
    z, *found_on_the_way = jax.jit(lambda: _drawn_with_both_densities(q, KEY))()
    before, expected = jnp.concatenate([q.start[None], z[:-1]]), []

    @jax.jit
    def forwards(noise, t):
        step = q.step(q.params, before[t], jax.tree.map(lambda leaf: leaf[t], q.inputs))
        assert isinstance(step, TransformedDistribution)
        gaussian: Any = step.base_dist
        return ComposeTransform(step.transforms)(gaussian.base_dist.loc + gaussian.base_dist.scale * noise)

    jacobian_of = jax.jit(jax.jacobian(forwards))
    for t in range(6):
        found = scipy.optimize.root(lambda noise, t=t: np.asarray(forwards(noise, t) - z[t]), np.zeros(3), tol=1e-13)
        assert found.success
        jacobian = np.asarray(jacobian_of(jnp.asarray(found.x), t))
        assert all(np.abs(half).max() > 1e-3 for half in (np.tril(jacobian, -1), np.triu(jacobian, 1)))
        expected.append(scipy.stats.norm.logpdf(found.x).sum() - np.linalg.slogdet(jacobian)[1])
    for log_probs in found_on_the_way:
        np.testing.assert_allclose(log_probs, expected, rtol=1e-9)


def test_a_flows_padding_costs_exactly_nothing(x64):
    """Draws after the end are the prior's steps, and so are their densities, computed either way."""
    model, params, x = flow_model(5, 3)
    q, p = model.encode(params, x), model.prior(params)
    assert isinstance(q, Markov)
    assert isinstance(p, Markov)
    z, kept = q.sample_with_intermediates(KEY, (4,))
    for intermediates in (kept, None):
        ours, priors = q.log_probs(z, intermediates), p.log_probs(z)
        np.testing.assert_array_equal(ours[:, 5:], priors[:, 5:])
        assert np.all(ours[:, :5] != priors[:, :5])  # also in the gap
    key, inputs = jax.random.split(KEY, 8)[6], jax.tree.map(lambda leaf: leaf[6], q.inputs)
    np.testing.assert_array_equal(
        q.step(q.params, z[:, 5], inputs).sample(key), p.step(p.params, z[:, 5], 6).sample(key)
    )
    terms = aevb.elbo_terms(params, KEY, x, model, num_samples=3, kl="sampled")
    np.testing.assert_array_equal(terms.kl_by_level["z"][5:], 0)
    with pytest.raises(ValueError, match=r'steps that are TransformedDistribution.*use kl="sampled"'):
        aevb.elbo(params, KEY, x, model)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def test_the_networks_against_numpy(x64):
    """Transition, backward recurrent units and combiner are compared in float64, one step at a time."""
    model = model_of(4)
    params = jax.tree.map(np.asarray, trained(model))
    x, z = np.random.RandomState(0).rand(4, 3), np.random.RandomState(1).randn(4, 2)
    relu = lambda values: np.maximum(values, 0)
    dense = lambda weights, values: values @ weights["kernel"] + weights["bias"]

    w = params["decoder"]["transition"]
    hidden = relu(dense(w["hidden"], z))
    gate, proposed = sigmoid(dense(w["gate"], hidden[:, :4])), dense(w["proposed"], hidden[:, 4:])
    mean = (1 - gate) * dense(w["linear"], z) + gate * proposed
    scale = softplus(dense(w["scale"], relu(proposed))) + 1e-3
    steps = steps_of(model.prior(params), jnp.asarray(np.concatenate([z[1:], z[:1]])))
    np.testing.assert_allclose(steps.loc[1:], mean[1:], rtol=1e-12)
    np.testing.assert_allclose(steps.scale[1:], scale[1:], rtol=1e-12)

    w = params["encoder"]["backward"]
    h, states = w["start"], []
    for values in x[::-1]:
        r, u, n = np.split(dense(w["inputs"], np.concatenate([values, np.zeros(3)])), 3)
        of_r, of_u, of_n = np.split(h @ w["kernel"], 3)
        u = sigmoid(u + of_u)
        h = (1 - u) * np.tanh(n + sigmoid(r + of_r) * (of_n + w["bias"])) + u * h
        states.append(h)
    w = params["encoder"]["combiner"]
    previous = np.concatenate([params["decoder"]["start"][None], z[:-1]])
    combined = 0.5 * (np.tanh(dense(w["previous"], previous)) + np.stack(states[::-1]))
    mean, scale = np.split(dense(w["outputs"], combined), 2, axis=-1)
    steps = steps_of(model.encode(params, jnp.asarray(x)), jnp.asarray(z))
    np.testing.assert_allclose(steps.loc, mean, rtol=1e-12)
    np.testing.assert_allclose(steps.scale, softplus(scale) + 1e-3, rtol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical", "discretized_logistic"])
def test_likelihoods_of_each_value(likelihood):
    """The likelihood of a whole path and of one step have the values at the right positions."""
    model = deep_markov_vae((4, 3), *SIZES, likelihood=likelihood)
    params = trained(model)
    z = jax.random.normal(KEY, (4, 2))
    x = jnp.asarray(np.random.RandomState(0).randint(0, 2, (4, 3)), jnp.float32)
    whole = model.decode(params, z)
    assert isinstance(whole, Observed)
    assert isinstance(model.encode(params, x), Markov)
    steps = [float(model.decode(params, z[t : t + 1]).log_prob(x[t : t + 1])) for t in range(4)]
    assert float(whole.log_prob(x)) == pytest.approx(sum(steps), rel=1e-5)
    assert np.isfinite(aevb.elbo(params, KEY, x.at[1].set(jnp.nan), model))


def test_the_mean_of_the_data_is_the_last_bias_whatever_the_sizes():
    """The bias is that of one step, `[D]`. With as many latents as values, a transition layer has the same size."""
    model = start_at_mean(deep_markov_vae((4, 3), 3, 6, 4, 6), [0.1, 0.5, 0.9])
    bias = model.init(KEY)["decoder"]["emission"]["Dense_2"]["bias"]
    np.testing.assert_allclose(jax.nn.sigmoid(bias), [0.1, 0.5, 0.9], rtol=1e-6)


@pytest.mark.parametrize("posterior", ["structured", pytest.param("mean_field", marks=pytest.mark.slow)])
def test_training_finds_the_alternation_in_sequences_of_different_lengths(posterior):
    """Alternating sequences have log p of -log 2 at any length, because the first step decides all others."""
    rng = np.random.RandomState(0)
    first, lengths = rng.randint(0, 2, 64), rng.randint(2, 9, 64)
    x = ((first[:, None] + np.arange(8)) % 2).astype(np.float32)
    x[np.arange(8) >= lengths[:, None]] = np.nan
    model = deep_markov_vae((8, 1), 4, 16, 16, 16, posterior=posterior)
    warm_up = functools.partial(aevb.auto_encoding, kl_weight=optax.linear_schedule(0.0, 1.0, 400))
    settings = {"optimizer": optax.adam(1e-2), "batch_size": 16, "num_epochs": 200, "eval_every": 200}
    result = aevb.fit(x[..., None], model, key=KEY, algorithm=warm_up, map_prior=False, **settings)
    independent = -np.mean(lengths) * np.log(2)
    assert result.history[0].train_elbo < independent < -1.5
    assert independent + 2.0 < result.history[-1].train_elbo < -np.log(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_shape": (8,)}, r"data_shape must be \[T, D\].*got \[8\]"),
        ({"data_shape": (8, 3, 2)}, r"data_shape must be \[T, D\].*got \[8, 3, 2\]"),
        ({"rnn_dim": 0}, "rnn_dim must be at least 1, got 0"),
        ({"posterior": "gaussian"}, "posterior must be one of .*'mean_field'.*got 'gaussian'"),
        ({"likelihood": "poison"}, "likelihood"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        deep_markov_vae(**({"data_shape": (8, 3)} | arguments))
    if "likelihood" not in arguments:
        with pytest.raises(ValueError, match=message.replace("'mean_field'", "'exact'")):
            linear_gaussian_state_space(**({"data_shape": (8, 3)} | arguments))
    with pytest.raises(ValueError, match='posterior="flow" needs latent_dim of at least 2, got 1'):
        deep_markov_vae((8, 3), 1, posterior="flow")
