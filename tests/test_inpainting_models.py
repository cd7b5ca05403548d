"""Hidden values and noise with every kind of model and likelihood: they work, or are refused with the reason."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import norm

import aevb
from aevb import Chain, Given, Model, Observed, posterior
from aevb.likelihoods import LIKELIHOODS
from aevb.posterior.channels import FiniteValues
from tests.models import CASES, SIZE
from tests.newcomers import LINEAR, XS
from tests.test_posterior import params_of

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)  # each compiles its own programs
FEW: dict[str, Any] = {"num_samples": 4, "num_warmup": 3, "num_transitions": 4, "num_chains": 2, "num_steps": 3}
DISCRETE = ("discrete level", "semi-supervised")


# Channels, by Bayes' rule written out


def clean_distributions() -> dict[str, dist.Distribution]:
    outputs = jax.random.normal(KEY, (256, 2, 3))
    of = lambda name, count: LIKELIHOODS.get(name).of(outputs[:count])
    names = {"bernoulli": 1, "discretized_logistic": 2, "beta_binomial": 2, "categorical": 256}
    return {name: of(name, count) for name, count in names.items()}


@pytest.mark.parametrize("name", ["bernoulli", *map(SLOW, ("discretized_logistic", "beta_binomial", "categorical"))])
def test_gaussian_noise_of_finitely_many_values(name):
    clean, scale = clean_distributions()[name], 0.3
    values = np.linspace(0, 1, 2 if name == "bernoulli" else 256)
    masses = np.exp(np.float64(clean.log_prob(np.tile(values.astype(np.float32)[:, None, None], (1, 2, 3)))))
    y = np.random.RandomState(0).randn(2, 3).astype(np.float32)
    joint = masses * norm.pdf(y, values[:, None, None], scale)
    channel = posterior.gaussian(scale)
    np.testing.assert_allclose(channel.seen(clean).log_prob(y), np.log(joint.sum(0)), rtol=1e-4, atol=1e-4)
    y[0, 0], joint[:, 0, 0] = np.nan, masses[:, 0, 0]  # not seen
    posterior_masses = joint / joint.sum(0)
    restored: Any = channel.restored(clean, jnp.asarray(y))
    mean = np.einsum("k,k...->...", values, posterior_masses)
    np.testing.assert_allclose(restored.mean, mean, atol=1e-4)
    np.testing.assert_allclose(
        restored.variance, np.einsum("k,k...->...", values**2, posterior_masses) - mean**2, atol=1e-4
    )
    for index in (0, len(values) - 1):
        value = np.full((2, 3), values[index], np.float32)
        np.testing.assert_allclose(np.exp(restored.log_prob(value)), posterior_masses[index], atol=1e-4)
    draws = np.asarray(restored.sample(KEY, (2000,)))
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * draws.std(0) / 2000**0.5 + 1e-4)


def test_gaussian_noise_of_a_gaussian():
    clean, y = dist.Normal(jnp.array([0.5, -1.0]), jnp.array([0.3, 2.0])), jnp.array([1.0, jnp.nan])
    channel = posterior.gaussian(0.4)
    np.testing.assert_allclose(
        channel.seen(clean).log_prob(1.0), norm.logpdf(1.0, [0.5, -1], np.hypot([0.3, 2], 0.4)), rtol=1e-5
    )
    restored: Any = channel.restored(clean, y)
    precision = 1 / 0.3**2 + 1 / 0.4**2
    np.testing.assert_allclose(restored.mean, [(0.5 / 0.3**2 + 1 / 0.4**2) / precision, -1], rtol=1e-5)
    np.testing.assert_allclose(restored.variance, [1 / precision, 4], rtol=1e-5)
    np.testing.assert_allclose(channel.seen(dist.Normal(0.5, 0.3).expand((2,))).mean, [0.5, 0.5])


def test_flips():
    p, flip = np.array([0.001, 0.4, 0.95]), 0.1
    channel, clean = posterior.flips(flip), dist.BernoulliProbs(jnp.asarray(p, jnp.float32))
    seen = p * (1 - flip) + (1 - p) * flip
    np.testing.assert_allclose(channel.seen(clean).log_prob(jnp.ones(3)), np.log(seen), rtol=1e-4)
    np.testing.assert_allclose(channel.seen(clean).log_prob(jnp.zeros(3)), np.log1p(-seen), rtol=1e-4)
    restored: Any = channel.restored(clean, jnp.array([1.0, 0.0, jnp.nan]))
    expected = [p[0] * (1 - flip) / seen[0], p[1] * flip / (1 - seen[1]), p[2]]
    np.testing.assert_allclose(restored.mean, expected, rtol=1e-4)
    np.testing.assert_allclose(
        channel.log_prob(jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0])), np.log([0.9, 0.1]), rtol=1e-5
    )


def test_what_is_none_of_finitely_many_values_has_no_mass():
    masses = FiniteValues(jnp.array([[0.0], [0.5]]), jnp.zeros((2, 2)))
    np.testing.assert_allclose(np.exp(masses.log_prob(jnp.array([0.5, 0.25]))), [0.5, 0.0])


def test_values_between_those_that_can_be_observed_are_refused():
    """Missing values do not make the others be rounded to integers first."""
    model = Model(LINEAR.init, LINEAR.encode, lambda params, z: Observed(dist.Bernoulli(logits=z)), LINEAR.prior)
    with pytest.raises(ValueError, match=r"xs ranges from 0 to 0\.3, outside of the likelihood's support, 0 or 1"):
        posterior.encode(LINEAR.init(KEY), np.array([[0.3, 0.0, np.nan]], np.float32), model)


# Every kind of model


def with_gaps(name: str) -> Any:
    """Return the data of a case with the first value of each datapoint hidden, and all of the last datapoint."""
    data = CASES[name].data

    def hide(leaf: np.ndarray) -> np.ndarray:
        if leaf.dtype.kind != "f":
            return leaf
        hidden = leaf.copy()
        hidden.reshape(SIZE, -1)[:, 0] = np.nan
        hidden[-1] = np.nan
        return hidden

    if isinstance(data, Given):
        return data._replace(value=hide(data.value))
    return jax.tree.map(hide, data)


QUICK = (("modalities", "encoder"), ("learned prior", "refined"))
_SLOW = [(name, method) for name in CASES for method in ("hmc", "refined", "encoder") if (name, method) not in QUICK]


@pytest.mark.parametrize(("name", "method"), [*QUICK, *(SLOW(*each) for each in _SLOW)])
def test_every_kind_of_model(name, method):
    """Seen values stay, missing values are filled and scored, and all draws differ."""
    case, seen = CASES[name], with_gaps(name)
    truth = case.data.value if isinstance(case.data, Given) else case.data
    run = lambda: posterior.impute(
        params_of(name), KEY, seen, case.model, truth=truth, num_draws=4, method=method, **FEW
    )
    if name in DISCRETE and method != "encoder":
        with pytest.raises(TypeError, match="level 'y' is discrete"):
            run()
        return
    found = run()
    seen = seen.value if isinstance(seen, Given) else seen
    fields = (found.mean, found.draws, found.log_likelihood, seen, truth)
    for mean, draws, log_likelihood, y, x in zip(*map(jax.tree.leaves, fields), strict=True):
        assert mean.shape == log_likelihood.shape == y.shape
        assert draws.shape == (SIZE, 4, *y.shape[1:])
        hidden = np.isnan(y)
        np.testing.assert_array_equal(mean[~hidden], y[~hidden])
        np.testing.assert_array_equal(np.moveaxis(draws, 1, 0)[:, ~hidden], np.tile(y[~hidden], (4, 1)))
        assert np.all(np.isfinite(mean[hidden]))
        assert np.all(np.isfinite(draws))
        np.testing.assert_array_equal(np.isfinite(log_likelihood), hidden & ~np.isnan(x))
    assert (found.r_hat is None) == (method != "hmc")


# Mistakes


def tied(params: Any, z: Any) -> dist.Distribution:
    return dist.MultivariateNormal(params["decoder"] @ z, jnp.eye(12))


def in_order(params: Any, z: Any) -> Chain:
    del z
    return Chain(a=dist.Normal(jnp.zeros(2), 1.0).to_event(1), b=lambda x: dist.Normal(x["a"], 1.0).to_event(1))


HIDDEN = np.where(CASES["plain"].data > 0.9, np.nan, CASES["plain"].data).astype(np.float32)
IN_ORDER = Model(LINEAR.init, lambda params, x: LINEAR.prior(params), in_order, LINEAR.prior)
PAIRS = {"a": np.full((3, 2), np.nan, np.float32), "b": np.zeros((3, 2), np.float32)}


@pytest.mark.parametrize("function", [posterior.draw, posterior.impute])
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"xs": HIDDEN[:0]}, ValueError, "xs are empty"),
        ({"xs": HIDDEN[:, :3]}, ValueError, "datapoints of xs have shape (3,)"),
        ({"xs": HIDDEN[0]}, ValueError, "x[None]"),
        ({"xs": HIDDEN + 1}, ValueError, "outside of the likelihood's support, [0, 1]"),
        ({"xs": CASES["condition"].data}, TypeError, "the model takes no condition: pass its value alone"),
        ({"model": CASES["condition"].model}, TypeError, "pass aevb.Given(value, condition)"),
        ({"model": "mlp"}, TypeError, "model must be an aevb.Model"),
        ({"params": {}}, ValueError, "params are not the parameters of this model"),
        ({"key": 0}, TypeError, "key must be one typed key"),
        ({"method": "nuts"}, ValueError, "method must be one of ('hmc', 'refined', 'encoder'), got 'nuts'"),
        ({"noise": 0.1}, TypeError, "noise must be posterior.flips(p), posterior.gaussian(sd) or None, got 0.1"),
        ({"noise": posterior.flips(0.1)}, ValueError, "outside of the likelihood's support, 0 or 1"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"num_samples": 10}, ValueError, "num_samples must be a multiple of num_chains=4, got 10"),
        ({"num_samples": 4000}, ValueError, "need more than their 200 transitions"),
        ({"num_warmup": 0}, ValueError, "num_warmup must be at least 1, got 0"),
        ({"num_transitions": 3}, ValueError, "num_transitions must be at least 4, got 3"),
        ({"chunk_size": 1.5}, TypeError, "chunk_size must be an integer"),
    ],
)
def test_mistakes(function, changes, error, words):
    arguments = {"params": params_of("plain"), "key": KEY, "xs": HIDDEN, "model": CASES["plain"].model} | changes
    with pytest.raises(error) as caught:
        function(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("decode", "xs", "noise", "error", "words"),
    [
        (tied, np.where(XS > 0.9, np.nan, XS), None, ValueError, "NaN, which counts as not observed only under"),
        (
            tied,
            XS,
            posterior.gaussian(1.0),
            TypeError,
            "noise needs a likelihood of independent values, got MultivariateNormal",
        ),
        (LINEAR.decode, XS, posterior.flips(0.1), TypeError, "under a Bernoulli likelihood, got"),
        (in_order, PAIRS, None, ValueError, "level 'b' of p(x|z) depends on the values before it, which are missing"),
    ],
)
def test_likelihoods_of_which_no_part_can_be_left_out(decode, xs, noise, error, words):
    model = Model(LINEAR.init, (LINEAR if decode is not in_order else IN_ORDER).encode, decode, LINEAR.prior)
    with pytest.raises(error) as caught:
        posterior.draw(LINEAR.init(KEY), KEY, xs, model, noise=noise)
    assert words in str(caught.value)


def test_mistakes_with_the_truth():
    params, model = params_of("plain"), CASES["plain"].model
    for truth, words in ((HIDDEN[:2], "truth must have the shape of xs"), (HIDDEN + 2, "truth ranges from")):
        with pytest.raises(ValueError, match=words):
            posterior.impute(params, KEY, HIDDEN, model, truth=truth)
        with pytest.raises(ValueError, match=words):
            posterior.log_predictive(params, KEY, HIDDEN, truth, model)
    with pytest.raises(ValueError, match="num_draws=5 of x are more than the num_samples=4"):
        posterior.impute(params, KEY, HIDDEN, model, 4, num_draws=5)
    with pytest.raises(ValueError, match="truth has NaN"):
        posterior.log_predictive(params, KEY, HIDDEN, HIDDEN, model, noise=posterior.gaussian(0.1))
    with pytest.raises(ValueError, match="method must be one of"):
        posterior.log_predictive(params, KEY, HIDDEN, HIDDEN, model, method="ais")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "value", "error", "words"),
    [
        (posterior.flips, 0, ValueError, "above 0 and below 1, got 0"),
        (posterior.flips, 1.0, ValueError, "above 0 and below 1, got 1"),
        (posterior.flips, "often", TypeError, "must be a number, got 'often'"),
        (posterior.gaussian, -1.0, ValueError, "positive and finite, got -1"),
        (posterior.gaussian, float("nan"), ValueError, "positive and finite, got nan"),
    ],
)
def test_mistakes_with_noise(make, value, error, words):
    with pytest.raises(error) as caught:
        make(value)
    assert words in str(caught.value)


def test_the_seen_model_is_one_like_any_other():
    """Equal arguments give the same model, so that compiled programs are shared. Its bound is one on log p(seen)."""
    model, params = CASES["plain"].model, params_of("plain")
    seen = posterior.as_seen(model)
    assert posterior.as_seen(model) is seen
    assert posterior.as_seen(model, posterior.flips(0.1)) is posterior.as_seen(model, posterior.flips(0.1))
    x = jnp.asarray(CASES["plain"].data[0])
    whole, nothing = (aevb.elbo(params, KEY, each, seen) for each in (x, jnp.full_like(x, jnp.nan)))
    np.testing.assert_allclose(whole, aevb.elbo(params, KEY, x, model), rtol=1e-5)
    assert -0.5 < nothing <= 0  # minus the KL divergence of q at the mean from the prior
