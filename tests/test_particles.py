"""Particle filters and FIVO, against a Kalman filter, importance sampling and each other."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax.test_util import check_grads

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


# As an objective


@pytest.mark.parametrize("kl_weight", [None, 0.3])
def test_the_gradient_is_that_of_the_value_without_resampling(x64, kl_weight):
    """It is tested in theta and phi, through z, with a gap and padding. Resampling keeps it finite."""
    exact, x = state_space(5), jnp.asarray(recording(4, 1))
    params = jax.tree.map(jnp.asarray, wrong(exact.params))

    def value(params: Any, resample_below: float) -> jax.Array:
        options = {"resample_below": resample_below, "kl_weight": kl_weight, "differentiable": True}
        return jnp.sum(run_filter(params, KEY, x, exact.model, 3, **options).log_predictive)

    never = jax.jit(functools.partial(value, resample_below=0.0))
    check_grads(never, (params,), order=1, modes=["rev"], rtol=1e-5)
    slopes = jax.jit(jax.grad(functools.partial(value, resample_below=1.0)))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slopes))


def small_state_space() -> tuple[Model, np.ndarray, Any]:
    """Return a model with its own diagonal posterior, data of a state space, and that state space's exact log p."""
    exact, length = state_space(8), 8

    def init(key: jax.Array) -> Any:
        decoder = jax.tree.map(jnp.asarray, exact.params["decoder"])
        decoder |= {"F": 0.5 * decoder["F"], "H": 0.7 * decoder["H"]}
        return {"encoder": {"z": 0.1 * jax.random.normal(key, (3, 6)), "x": jnp.zeros((8, 6))}, "decoder": decoder}

    def step(weights: jax.Array, z: jax.Array, inputs: jax.Array) -> dist.Distribution:
        mean, log_variance = jnp.split(z @ weights + inputs, 2, axis=-1)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)

    def transition(decoder: Any, z: jax.Array, time: jax.Array) -> dist.Distribution:
        del time
        return dist.Normal(z @ jnp.transpose(decoder["F"]), jnp.exp(0.5 * decoder["log_q"])).to_event(1)

    def encode(params: Any, x: jax.Array) -> Markov:
        seen = jnp.concatenate(aevb.distributions.zeros_and_mask(x), axis=-1)
        return Markov(step, params["encoder"]["z"], params["decoder"]["start"], seen @ params["encoder"]["x"])

    def prior(params: Any) -> Markov:
        return Markov(transition, params["decoder"], params["decoder"]["start"], jnp.arange(length))

    data = np.array(jnp.stack([drawn(length, 0, seed) for seed in range(32)]), np.float32)
    data[::3, 6:] = np.nan
    log_marginal = jax.jit(lambda params: jnp.mean(jax.vmap(exact.log_marginal, (None, 0))(params, jnp.asarray(data))))
    return Model(init, encode, exact.model.decode, prior), data, log_marginal


def test_training_raises_the_exact_log_marginal():
    model, data, log_marginal = small_state_space()
    before = float(log_marginal(model.init(jax.random.split(KEY)[0])))
    estimator = aevb.Estimator(8, bound="fivo")
    settings = {"estimator": estimator, "optimizer": optax.adam(1e-2), "batch_size": 16, "num_epochs": 60}
    result = aevb.fit(data, model, key=KEY, valid_data=data[:8], map_prior=False, eval_every=30, **settings)
    first, last = result.history[0], result.history[-1]
    truth = float(log_marginal(result.state.params))
    assert before + 1 < truth
    assert first.train_fivo + 1 < last.train_fivo < truth
    assert last.train_elbo < last.train_fivo
    assert last.valid_bound == last.valid_fivo
    assert np.isnan(last.train_iwae)
    found = aevb.evaluate(result.state.params, KEY, data, model, aevb.Estimator(300, bound="fivo"))
    assert last.train_fivo - 0.1 < found.fivo < truth + 0.05
    weight = functools.partial(aevb.auto_encoding, estimator=estimator, kl_weight=optax.linear_schedule(0.0, 1.0, 20))
    settings = {key: value for key, value in settings.items() if key != "estimator"}
    warm = aevb.fit(data, model, key=KEY, map_prior=False, eval_every=60, algorithm=weight, **settings)
    assert warm.history[-1].train_fivo > first.train_fivo + 1


@pytest.mark.slow
def test_a_population_and_a_stream(x64):
    model, data, _ = small_state_space()
    data, keys = data.astype(np.float64), jax.random.split(KEY, 2)
    algorithm = functools.partial(aevb.auto_encoding, estimator=aevb.Estimator(4, bound="fivo"))
    settings = {"algorithm": algorithm, "optimizer": aevb.paper_optimizer(0.05), "batch_size": 8, "num_epochs": 2}
    members = aevb.fit_population(data, model, keys=keys, execution="side_by_side", **settings)
    for key, member in zip(keys, members, strict=True):
        alone = aevb.fit(data, model, key=key, **settings)
        assert_close(member.result.state, alone.state)
        assert member.result.history[-1].train_fivo == pytest.approx(alone.history[-1].train_fivo, rel=1e-9)
    streamed = aevb.fit(aevb.Stream(list(data), block_size=10), model, key=keys[0], **settings)
    assert np.isfinite(streamed.history[-1].train_fivo)


def test_classification_by_the_filter():
    """There is one state space per class, with its own start. Their bounds are compared as usual."""
    exact = state_space(8)

    def at(params: Any, label: jax.Array) -> Any:
        start = jnp.where(label == 1, 6.0, -6.0) * jnp.ones(3)
        return params | {"decoder": params["decoder"] | {"start": start}}

    model = Model(
        exact.model.init,
        lambda params, x, label: exact.model.encode(at(params, label), x),
        lambda params, z, label: exact.model.decode(params, z),
        lambda params, label: exact.model.prior(at(params, label)),
    )
    params, labels = model.init(KEY), np.arange(6) % 2
    draw = lambda label: model.prior(params, label).sample(jax.random.key(label))
    data = [exact.model.decode(params, draw(label)).mean for label in labels]
    estimator = aevb.Estimator(20, "sampled", bound="fivo")
    found = aevb.classify(params, KEY, jnp.stack(data), model, num_classes=2, estimator=estimator)
    np.testing.assert_array_equal(found.labels, labels)


# Refused arguments


def path_of(length: int) -> Markov:
    return Markov(lambda params, z, inputs: dist.Normal(z, 1.0).to_event(1), {}, jnp.zeros(2), jnp.arange(length))


def of_paths(decode: Any, encode: Any = None) -> Model:
    return Model(lambda key: {}, encode or (lambda params, x: path_of(6)), decode, lambda params: path_of(6))


BY_STEP = lambda params, z: Observed(dist.Normal(z, 1.0))
PLAIN = lambda params, x: dist.Normal(jnp.zeros((6, 2)), 1.0).to_event(2)

REFUSED = {
    "no path": (
        CASES["plain"].model,
        TypeError,
        r"latents along time: prior must return an aevb\.Markov, got Independent of Normal|got Normal",
    ),
    "no path in q": (of_paths(BY_STEP, PLAIN), TypeError, 'encode must return an aevb.Markov.*; proposal="prior" does'),
    "other steps": (
        of_paths(lambda params, z: Observed(dist.Normal(z[:4], 1.0))),
        ValueError,
        r"z has 6 steps, so x must have 6 steps on its leading axis, but it has shape \(4, 2\)",
    ),
    "of one length": (
        of_paths(lambda params, z: Observed(dist.Normal(z + jnp.zeros((6, 2)), 1.0))),
        ValueError,
        r"decode\(params, z\[:1\]\) must have shape \(1, 2\), but it has shape \(6, 2\)",
    ),
    "a failure": (
        of_paths(lambda params, z: Observed(dist.Normal(z.reshape(3, 4).reshape(6, 2), 1.0))),
        ValueError,
        r"decode\(params, z\[:1\]\) must have shape \(1, 2\), but it fails: .*reshape",
    ),
    "the future": (
        of_paths(lambda params, z: Observed(dist.Normal(z + 0 * jnp.flip(z, 0), 1.0))),
        ValueError,
        "its likelihood of one step of x depends on z at another step",
    ),
    "the past": (
        of_paths(lambda params, z: Observed(dist.Normal(jnp.cumsum(z, axis=0), 1.0))),
        ValueError,
        "its likelihood of one step of x depends on z at another step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_do_not_go_step_by_step(name):
    model, error, message = REFUSED[name]
    params = model.init(KEY)
    shape = (4, 2) if name == "other steps" else CASES["plain"].data.shape[1:] if name == "no path" else (6, 2)
    x = np.full(shape, 0.5, np.float32)
    calls = [
        lambda: aevb.fivo_bound(params, KEY, x, model, 3),
        lambda: particle_filter(params, KEY, x, model, 3),
        lambda: marginal_likelihood.evaluate(params, KEY, x[None], model, "particle", num_samples=3),
    ]
    if name not in ("the future", "the past"):  # visible only in numbers
        calls.append(lambda: aevb.evaluate(params, KEY, x[None], model, aevb.Estimator(3, bound="fivo")))
    for call in calls:
        with pytest.raises(error, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_bootstrap_filter_needs_no_encoder():
    model = of_paths(BY_STEP, PLAIN)
    assert np.isfinite(particle_filter({}, KEY, jnp.ones((6, 2)), model, 50, "prior").log_marginal)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: aevb.Estimator(5, bound="fivo", gradient="score_function"), ValueError, "only .*pathwise.*, got"),
        (lambda: aevb.Estimator(0, bound="fivo"), ValueError, "num_samples must be at least 1, got 0"),
        (lambda: filtered(num_samples=0), ValueError, "num_samples must be at least 1, got 0"),
        (lambda: filtered(num_samples=2.0), TypeError, "num_samples must be an integer, got 2.0"),
        (lambda: filtered(num_filters=0), ValueError, "num_filters must be at least 1, got 0"),
        (lambda: filtered(proposal="encoder"), ValueError, "proposal must be one of .*, got 'encoder'"),
        (lambda: filtered(resample_below=50), ValueError, "between 0 and 1, got 50"),
        (lambda: filtered(x=jnp.ones((5, 2))), ValueError, r"x has shape \(5, 2\), the model's datapoints have"),
        (lambda: aevb.fivo_bound({}, jnp.ones(2), jnp.ones((6, 2)), of_paths(BY_STEP), 2), TypeError, "typed key"),
        (
            lambda: aevb.algorithms.auto_encoding(
                of_paths(BY_STEP), optax.adam(1e-3), 10, estimator=aevb.Estimator(5, bound="fivo"), free_bits=1.0
            ),
            ValueError,
            "free_bits need a KL, which FIVO does not have",
        ),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def filtered(x: Any = None, **options: Any) -> Any:
    x = jnp.ones((6, 2)) if x is None else x
    return particle_filter({}, KEY, x, of_paths(BY_STEP), **({"num_samples": 3} | options))
