"""Particle filters and FIVO, against a Kalman filter, importance sampling and each other."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Markov, Model, Observed, marginal_likelihood
from aevb.marginal_likelihood import particle_filter
from aevb.particles import run_filter, systematic
from tests.gaussians import recording, state_space
from tests.models import CASES
from tests.test_every_model import assert_close

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
LENGTH, PADDING = 40, 10
WRONG = {"shift": np.array([0.08, -0.05, 0.1]), "widen": np.array(1.3)}


def wrong(params: Any) -> Any:
    return params | {"encoder": WRONG}


def drawn(length: int, padding: int = 0, seed: int = 5) -> jax.Array:
    """Return a sequence drawn from the state space, with the gap, missing entry and padding of `recording`."""
    exact = state_space(length + padding)
    z_key, x_key = jax.random.split(jax.random.key(seed))
    x = exact.model.decode(exact.params, exact.model.prior(exact.params).sample(z_key)).sample(x_key)
    return jnp.where(np.isnan(recording(length, padding)), jnp.nan, x)


def repeated(bound: Any, number: int, params: Any, x: jax.Array, model: Model) -> jax.Array:
    """Return independent values of a bound, one after another."""
    return jax.jit(lambda keys: jax.lax.map(lambda key: bound(params, key, x, model), keys))(
        jax.random.split(KEY, number)
    )


# The estimate


def test_a_thousand_particles_find_the_kalman_filters_value_where_whole_paths_do_not(x64):
    """With 40 steps, gaps, padding and a wrong q, ELBO < importance weighted bound < FIVO = log p."""
    exact, x = state_space(LENGTH + PADDING), drawn(LENGTH, PADDING)
    truth, params = exact.log_marginal(exact.params, x), wrong(exact.params)
    found = jax.jit(particle_filter, static_argnames=("num_samples", "num_filters"))(
        params, KEY, x, exact.model, num_samples=1000, num_filters=100
    )
    assert abs(float(found.log_marginal - truth)) < 0.05
    assert 0.005 < float(found.standard_error) < 0.05
    np.testing.assert_allclose(jnp.sum(found.by_step.log_predictive), found.log_marginal, rtol=1e-12)
    size = found.by_step.effective_sample_size
    assert size.shape == (LENGTH + PADDING,)
    assert np.all((size >= 1) & (size <= 1000))
    assert float(found.effective_sample_size) == float(jnp.min(size))

    elbo = repeated(functools.partial(aevb.elbo, kl="sampled"), 40, params, x, exact.model)
    weighted = repeated(functools.partial(aevb.iwae_bound, num_samples=1000), 10, params, x, exact.model)
    filtered = repeated(functools.partial(aevb.fivo_bound, num_samples=100), 40, params, x, exact.model)
    assert jnp.mean(elbo) + 5 < jnp.mean(weighted) < jnp.mean(filtered) - 0.5 < truth - 0.5


def test_predictive_densities_are_those_of_the_kalman_filter(x64):
    """They are the densities of each observation given the earlier ones: the increments of the exact log p."""
    exact, x = state_space(8), drawn(8)
    values = [exact.log_marginal(exact.params, x.at[t:].set(jnp.nan)) for t in range(9)]
    many = jax.jit(particle_filter, static_argnames=("num_samples", "proposal"))
    # q knows the data after the gap, which makes weights differ there.
    for proposal, tolerance in (("posterior", 0.25), ("prior", 0.1)):
        found = many(wrong(exact.params), KEY, x, exact.model, num_samples=20_000, proposal=proposal)
        np.testing.assert_allclose(found.by_step.log_predictive, np.diff(values), atol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_samples": 1},
        {"num_samples": 2, "num_filters": 3, "resample_below": 1.0},
        {"num_samples": 30, "proposal": "prior"},
    ],
    ids=str,
)
def test_unbiased_for_the_density_itself(x64, options):
    """The mean of exp(estimate) over runs is exact within its errors for any number of particles. The log is below."""
    exact, x = state_space(4), drawn(3, 1)
    params, truth = wrong(exact.params), exact.log_marginal(exact.params, x)
    filter_ = functools.partial(particle_filter, **({"num_samples": 5} | options))
    runs = jax.jit(jax.vmap(lambda key: filter_(params, key, x, exact.model)))(jax.random.split(KEY, 5000))
    ratios = np.exp(runs.log_marginal - truth)
    error = np.std(ratios) / np.sqrt(len(ratios))
    assert error < 0.1
    assert abs(np.mean(ratios) - 1) < 4 * error
    assert np.mean(runs.log_marginal) < truth
    beginning = np.exp(np.sum(runs.by_step.log_predictive[:, :2], axis=1))
    expected = np.exp(exact.log_marginal(exact.params, x.at[2:].set(jnp.nan)))
    assert abs(np.mean(beginning) - expected) < 4 * np.std(beginning) / np.sqrt(len(beginning))


def test_the_error_of_several_filters_is_the_spread_of_their_estimate(x64):
    exact, x = state_space(10), drawn(10)
    estimate = functools.partial(particle_filter, num_samples=20, num_filters=20)
    found = jax.jit(jax.vmap(lambda key: estimate(wrong(exact.params), key, x, exact.model)))(
        jax.random.split(KEY, 200)
    )
    assert float(np.mean(found.standard_error)) == pytest.approx(float(np.std(found.log_marginal)), rel=0.25)
    alone = particle_filter(exact.params, KEY, x, exact.model, num_samples=5)
    assert np.isnan(alone.standard_error)


def test_without_resampling_it_is_the_importance_weighted_bound(x64):
    """They agree in distribution: mean and standard deviation of both over many draws."""
    exact, x = state_space(5), drawn(5)
    params = wrong(exact.params)
    keys = jax.random.split(KEY, 4000)
    paths = jax.jit(jax.vmap(lambda key: aevb.iwae_bound(params, key, x, exact.model, 4)))(keys)
    never = jax.jit(jax.vmap(lambda key: run_filter(params, key, x, exact.model, 4, resample_below=0.0)))(keys)
    filtered = jnp.sum(never.log_predictive, axis=1)
    assert abs(np.mean(paths) - np.mean(filtered)) < 4 * np.hypot(np.std(paths), np.std(filtered)) / np.sqrt(4000)
    assert float(np.std(paths)) == pytest.approx(float(np.std(filtered)), rel=0.1)


def test_at_the_exact_smoother_the_paths_are_exact_and_the_filter_is_not(x64):
    """The weights target the filter, but q knows the future and does not draw from it."""
    exact, x = state_space(LENGTH), drawn(LENGTH)
    truth = exact.log_marginal(exact.params, x)
    gaps = {}
    for num_samples in (10, 100):
        bound = functools.partial(aevb.fivo_bound, num_samples=num_samples)
        gaps[num_samples] = truth - np.mean(repeated(bound, 60, exact.params, x, exact.model))
    paths = repeated(functools.partial(aevb.iwae_bound, num_samples=10), 5, exact.params, x, exact.model)
    np.testing.assert_allclose(paths, truth, rtol=1e-12)
    assert gaps[10] > 0.3
    assert gaps[100] < 0.5 * gaps[10]


@pytest.mark.parametrize("proposal", ["posterior", "prior"])
def test_padding_adds_exactly_nothing(x64, proposal):
    """The value, gradient and every step stay the same, whatever q is after the end.

    A q without more data is the prior.
    """
    x, longer = drawn(LENGTH), drawn(LENGTH, PADDING)
    longer = longer.at[:LENGTH].set(x)

    def encode(length: int, params: Any, x: jax.Array) -> Markov:
        path = state_space(length).model.encode(params, x)
        assert isinstance(path, Markov)
        gain, offset, scale_tril, is_informed = path.inputs
        offset = jnp.where(is_informed[:, None], offset, 7.0)
        return Markov(path.step, path.params, path.start, (gain, offset, scale_tril, is_informed))

    def value(params: Any, length: int, x: jax.Array, strange: bool) -> Any:
        model = state_space(length).model
        if strange:
            model = Model(model.init, functools.partial(encode, length), model.decode, model.prior)
        found = run_filter(params, KEY, x, model, 50, proposal)
        return jnp.sum(found.log_predictive), found

    slope = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=(1, 3))
    params = jax.tree.map(jnp.asarray, wrong(state_space(LENGTH).params))
    (total, steps), gradient = slope(params, LENGTH, x, False)
    for strange in (False, True):
        (padded_total, padded), padded_gradient = slope(params, LENGTH + PADDING, longer, strange)
        assert padded_total == pytest.approx(float(total), rel=1e-13)
        np.testing.assert_array_equal(padded.log_predictive[LENGTH:], 0)
        np.testing.assert_allclose(padded.log_predictive[:LENGTH], steps.log_predictive, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(padded.effective_sample_size[:LENGTH], steps.effective_sample_size, rtol=1e-9)
        assert_close(padded_gradient, gradient)
    gap = slice(LENGTH // 3, LENGTH // 3 + 3)
    if proposal == "prior":
        np.testing.assert_allclose(steps.log_predictive[gap], 0, atol=1e-12)
    nothing = particle_filter(params, KEY, jnp.full_like(x, jnp.nan), state_space(LENGTH).model, num_samples=3)
    assert float(nothing.log_marginal) == 0


def test_systematic_resampling():
    """Each particle is drawn K v or one more times, K v on average, in order; never one without weight."""
    weights = np.array([0.0, 0.5, 0.03, 0.0, 0.27, 0.2, 0.0])
    log_weights = jnp.log(jnp.asarray(weights))
    chosen = np.asarray(jax.vmap(lambda key: systematic(key, log_weights))(jax.random.split(KEY, 4000)))
    counts = np.stack([np.bincount(row, minlength=7) for row in chosen])
    assert np.all(np.abs(counts - 7 * weights) < 1)
    np.testing.assert_allclose(np.mean(counts, axis=0), 7 * weights, atol=0.03)
    assert np.all(np.diff(chosen, axis=1) >= 0)


def test_impossible_data_have_no_probability():
    step = lambda params, z, inputs: dist.Normal(z, 1.0).to_event(1)
    decode = lambda params, z: Observed(dist.Uniform(jnp.zeros_like(z), 1.0))
    prior = lambda params: Markov(step, {}, jnp.zeros(1), jnp.arange(4))
    model = Model(lambda key: {}, lambda params, x: prior(params), decode, prior)
    impossible = jax.jit(lambda x: particle_filter({}, KEY, x, model, num_samples=5).log_marginal)
    assert impossible(jnp.array([[0.5], [2.0], [0.5], [0.5]])) == -np.inf
    assert impossible(jnp.full((4, 1), 0.5)) == 0


def test_discrete_states_and_any_posterior():
    """A hidden Markov chain, proposed from by its prior and by a posterior; FIVO cannot be trained there."""
    transition = jnp.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    means = jnp.array([-2.0, 0.0, 3.0])
    step = lambda params, state, inputs: dist.Categorical(logits=params[state] + inputs)
    path = lambda inputs: Markov(step, jnp.log(transition), jnp.int32(0), inputs)
    model = Model(
        lambda key: {},
        lambda params, x: path(jnp.where(jnp.isnan(x), 0, -0.5 * jnp.square(x - means))),
        lambda params, z: Observed(dist.Normal(means[z][:, None], 1.0)),
        lambda params: path(jnp.zeros((4, 3))),
    )
    x = jnp.array([[-1.0], [jnp.nan], [2.5], [0.5]])
    belief, truth = jnp.array([1.0, 0.0, 0.0]), 0.0
    for value in x:
        belief = belief @ transition
        if not jnp.isnan(value[0]):
            belief *= jnp.exp(dist.Normal(means, 1.0).log_prob(value[0]))
        truth, belief = truth + jnp.log(jnp.sum(belief)), belief / jnp.sum(belief)
    for proposal in ("posterior", "prior"):
        found = particle_filter({}, KEY, x, model, num_samples=5000, proposal=proposal)
        assert found.log_marginal == pytest.approx(float(truth), abs=0.05)
    bound = aevb.evaluate({}, KEY, x[None], model, aevb.Estimator(500, "sampled", bound="fivo"))
    assert bound.fivo == pytest.approx(float(truth), abs=0.1)
    with pytest.raises(TypeError, match="cannot be reparameterized: FIVO can be evaluated, but not maximized"):
        aevb.fivo_bound({}, KEY, x, model, 5)


# Over data sets


def test_over_a_data_set():
    """It agrees with importance sampling, which works for short paths.

    Chunks and values after the end have no effect.
    """
    case = CASES["path"]
    params, data = case.model.init(KEY), case.data[:5]
    evaluate = functools.partial(marginal_likelihood.evaluate, params, KEY, data, case.model)
    found = evaluate("particle", num_samples=500, num_filters=5)
    reference = evaluate("is", num_samples=5000)
    error = np.hypot(found.per_datapoint.standard_error, reference.per_datapoint.standard_error)
    assert np.all(np.abs(found.per_datapoint.log_marginal - reference.per_datapoint.log_marginal) < 5 * error)
    steps = found.per_datapoint.by_step
    assert steps is not None
    assert steps.log_predictive.shape == steps.effective_sample_size.shape == (5, 6)
    np.testing.assert_allclose(steps.log_predictive.sum(1), found.per_datapoint.log_marginal, rtol=1e-5)
    chunked = evaluate("particle", num_samples=500, num_filters=5, chunk_size=2)
    # Rounding may select another one of the 500 particles.
    np.testing.assert_allclose(chunked.per_datapoint.log_marginal, found.per_datapoint.log_marginal, atol=0.05)
    alone = evaluate("particle", num_samples=500)
    assert np.isnan(alone.monte_carlo_error)
    difference = alone.per_datapoint.log_marginal - found.per_datapoint.log_marginal
    assert np.all(np.abs(difference) < 5 * 5**0.5 * found.per_datapoint.standard_error)  # that of one filter of five


def test_a_bound_by_step(x64):
    """The steps sum to the bound, steps after the end are 0, and `Observed` gives the same values per step."""
    exact = state_space(6)
    data = np.random.RandomState(0).randn(30, 6, 4)
    data[:, 4:] = np.nan
    data[:, 1, 2] = np.nan
    params = wrong(exact.params)
    for kl in ("sampled", "analytic"):
        bound = aevb.evaluate(params, KEY, data, exact.model, aevb.Estimator(2, kl))
        assert bound.reconstruction_by_step.shape == bound.elbo_by_step.shape == (6,)
        assert bound.reconstruction == pytest.approx(bound.reconstruction_by_step.sum(), rel=1e-12)
        assert bound.elbo == pytest.approx(bound.elbo_by_step.sum(), rel=1e-12)
        np.testing.assert_allclose(bound.elbo_by_step[4:], 0, atol=1e-12)
    z = jnp.asarray(exact.model.prior(exact.params).sample(KEY))
    likelihood = exact.model.decode(exact.params, z)
    assert isinstance(likelihood, Observed)
    alone = [exact.model.decode(exact.params, z[t : t + 1]).log_prob(data[0, t : t + 1]) for t in range(6)]
    np.testing.assert_allclose(likelihood.log_probs(data[0]), jnp.stack(alone), rtol=1e-12)
    plain = CASES["plain"]
    found = aevb.evaluate(plain.model.init(KEY), KEY, plain.data, plain.model)
    assert (found.reconstruction_by_step, found.elbo_by_step) == (None, None)


def test_which_kl_to_train_with_and_which_to_report(x64):
    """Step by step, the closed form has less noise in the gradient and more in the value.

    At the exact smoother, as an encoder that does not depend on theta, the sampled bound is constant. The closed form
    has a standard deviation of 7.0 nats on this recording, and the variance of its gradient is 2.8 (F), 2.9 (log_q),
    1.4 and 1.7 (phi) times less.
    """
    exact, x = state_space(LENGTH), drawn(LENGTH)

    def encode(params: Any, x: jax.Array) -> Any:
        return exact.model.encode(params | {"decoder": jax.lax.stop_gradient(params["decoder"])}, x)

    model = Model(exact.model.init, encode, exact.model.decode, exact.model.prior)
    params = jax.tree.map(jnp.asarray, exact.params)
    spread, noise = {}, {}
    for kl in ("sampled", "analytic"):
        draw = jax.value_and_grad(functools.partial(aevb.elbo, kl=kl))
        values, slopes = jax.jit(jax.vmap(draw, (None, 0, None, None)))(params, jax.random.split(KEY, 1000), x, model)
        spread[kl] = np.std(values)
        leaves = {**slopes["decoder"], **slopes["encoder"]}
        noise[kl] = {name: np.sum(np.var(leaf, axis=0)) for name, leaf in leaves.items()}
    assert spread["sampled"] < 1e-9
    assert spread["analytic"] > 5
    ratios = {name: noise["sampled"][name] / noise["analytic"][name] for name in ("F", "log_q", "shift", "widen")}
    assert ratios["F"] > 2.4
    assert ratios["log_q"] > 2.5
    assert ratios["shift"] > 1.15
    assert ratios["widen"] > 1.3
