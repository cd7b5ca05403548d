"""Learning of hidden Markov models: EM, restarts, custom families; and sampling, which these tests use."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import hidden_markov
from aevb.hidden_markov import Emission, Parameters
from tests.hidden_markov import (
    FAMILIES,
    KEY,
    NAN,
    D,
    K,
    T,
    by_enumeration,
    enumerated,
    quick,
    random_params,
    random_sequences,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("barely_optimized")


def test_the_m_step_maximizes_what_enumeration_expects(x64):
    """Closed forms of the Gaussian family without pseudo-counts, with the posterior over enumerated paths."""
    params, x, emission = random_params("gaussian"), random_sequences("gaussian"), hidden_markov.gaussian(0.0, 1e-9)
    exact, new = by_enumeration("gaussian", params, x), hidden_markov.em_step(params, x, emission, pseudo_count=0.0)[0]
    np.testing.assert_allclose(np.exp(new.log_initial), exact["initial"] / exact["initial"].sum(), rtol=1e-9)
    rows = exact["transition"].sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(new.log_transition), exact["transition"] / rows, rtol=1e-9)
    for d in range(D):
        seen = ~np.isnan(x[..., d])
        weight, value = exact["marginals"][seen], x[seen][:, d]
        mean = weight.T @ value / weight.sum(0)
        variance = [np.average((value - mean[k]) ** 2, weights=weight[:, k]) for k in range(K)]
        np.testing.assert_allclose(new.emission["mean"][:, d], mean, rtol=1e-9)
        np.testing.assert_allclose(new.emission["variance"][:, d], variance, rtol=1e-9)


@pytest.mark.parametrize("family", quick("bernoulli"))
def test_em_never_lowers_the_likelihood(x64, family):
    emission = {
        "bernoulli": hidden_markov.bernoulli(0.0), "gaussian": hidden_markov.gaussian(0.0),
        "poisson": hidden_markov.poisson(0.0), "categorical": hidden_markov.categorical(4, 0.0),
    }[family]  # fmt: skip
    truth = random_params(family, 5)
    x = np.array(hidden_markov.sample(truth, KEY, FAMILIES[family], 20, 8).x)
    x[0, 12:], x[1, 3:5], x[2, ::3, 1] = NAN, NAN, NAN
    for params in (hidden_markov.initialize(jax.random.key(3), x, K, emission), truth):
        values = []
        for _ in range(20):
            params, each = hidden_markov.em_step(params, x, emission, pseudo_count=0.0)
            values.append(float(each.sum()))
        assert np.all(np.diff(values) > -1e-9)
        assert values[-1] > values[0] + 1


@pytest.mark.parametrize("family", quick())
def test_em_finds_the_truth_from_many_sequences(family):
    """Parameters of well separated states are found up to permutation, within some standard errors."""
    emission = FAMILIES[family]
    of_states = {
        "bernoulli": {"logits": jnp.array([[3.0, -3, 3], [-3, 3, 3], [-3, -3, -3]])},
        "gaussian": {"mean": jnp.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]]), "variance": jnp.ones((3, 3)) / 4},
        "poisson": {"log_rate": jnp.log(jnp.array([[9.0, 1, 1], [1, 9, 1], [1, 1, 9]]))},
        "categorical": {"logits": jnp.log(0.9 * jax.nn.one_hot(jnp.array([[0, 1], [2, 3], [1, 0]]), 4) + 0.025)},
    }[family]
    transition = np.array([[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.25, 0.05, 0.7]])
    truth = Parameters(jnp.log(jnp.array([0.6, 0.3, 0.1])), jnp.log(transition), of_states)
    x = hidden_markov.sample(truth, KEY, emission, 100, 150).x
    result = hidden_markov.fit(x, emission, 3, key=jax.random.key(2), num_restarts=4, num_iterations=40)
    found = result.best_params
    first = lambda params: np.asarray(jax.tree.leaves(params.emission)[0]).reshape(3, -1)
    distance = np.abs(first(found)[:, None] - first(truth)).sum(-1)
    order = distance.argmin(0)
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(np.exp(found.log_transition)[order][:, order], transition, atol=0.03)
    np.testing.assert_allclose(np.exp(found.log_initial)[order], np.exp(truth.log_initial), atol=0.15)
    np.testing.assert_allclose(first(found)[order], first(truth), atol=0.25)


def test_gradients_in_the_parameters_are_those_of_central_differences(x64):
    params, x, emission = random_params("gaussian"), random_sequences("gaussian"), FAMILIES["gaussian"]
    total = lambda params: hidden_markov.log_likelihood(params, x, emission).sum()
    gradient = jax.grad(total)(params)
    for leaf in range(len(jax.tree.leaves(params))):
        leaves, structure = jax.tree.flatten(params)

        def at(step, leaf=leaf, leaves=leaves, structure=structure):
            moved = [each.at[(0,) * each.ndim].add(step) if i == leaf else each for i, each in enumerate(leaves)]
            return jax.jit(total)(jax.tree.unflatten(structure, moved))

        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.tree.leaves(gradient)[leaf][(0,) * leaves[leaf].ndim], slope, rtol=1e-6)


def test_restarts_together_are_those_one_by_one_and_validation_chooses(x64):
    emission = hidden_markov.bernoulli()
    x = np.array(hidden_markov.sample(random_params("bernoulli", 7, size=6), KEY, emission, 15, 12).x)
    train, valid = x[:6], x[6:]
    seen = []
    result = hidden_markov.fit(
        train, emission, 4, key=KEY, valid_x=valid, num_restarts=3, num_iterations=23, evaluate_every=4,
        on_evaluation=seen.append,
    )  # fmt: skip
    assert [each.iteration for each in seen] == [4, 8, 12, 16, 20, 23]
    assert result.train.shape == (24, 3)
    for restart, key in enumerate(jax.random.split(KEY, 3)):
        params = hidden_markov.initialize(key, train, 4, emission)
        best, at = None, {}
        for iteration in range(1, 24):
            params, each = hidden_markov.em_step(params, train, emission)
            np.testing.assert_allclose(result.train[iteration - 1, restart], each.sum() / (6 * 15), rtol=1e-9)
            if iteration in (4, 8, 12, 16, 20, 23):
                at[iteration] = float(hidden_markov.log_likelihood(params, valid, emission).sum()) / (6 * 15)
                best = params if at[iteration] == max(at.values()) else best
        np.testing.assert_allclose([each.valid[restart] for each in seen], list(at.values()), rtol=1e-9)
        assert result.iterations[restart] == max(at, key=at.__getitem__)
        mine = jax.tree.map(lambda leaf, restart=restart: leaf[restart], result.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), mine, best)
    highest = np.max([each.valid for each in seen], 0)
    assert result.best == highest.argmax()
    assert len(set(result.iterations)) > 1 or result.iterations[0] < 23


@pytest.mark.slow
def test_patience_stops_where_nothing_improves():
    emission = hidden_markov.bernoulli()
    x = np.array(hidden_markov.sample(random_params("bernoulli", size=6), KEY, emission, 15, 12).x)
    result = hidden_markov.fit(
        x[:4], emission, 6, key=KEY, valid_x=x[4:], num_iterations=500, evaluate_every=2, patience=3
    )
    evaluations = result.evaluations
    assert evaluations[-1].iteration < 500
    best = int(np.argmax([np.asarray(evaluation.valid)[0] for evaluation in evaluations]))
    assert best == len(evaluations) - 4
    assert result.iterations[0] == evaluations[best].iteration


@pytest.mark.parametrize("family", quick("gaussian"))
def test_what_was_never_observed_does_no_harm(family):
    x = np.tile(random_sequences(family).astype(np.float32), (3, 1, 1))
    more = np.concatenate([x, np.full((*x.shape[:2], 1), NAN, np.float32)], 2)
    one, other = (
        hidden_markov.fit(each, FAMILIES[family], 2, key=KEY, num_restarts=1, num_iterations=4) for each in (x, more)
    )
    np.testing.assert_allclose(one.train, other.train, rtol=1e-4)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(other.params))


# Custom families


def _log_normal_start(key, steps, num_states):
    return {"mean": jax.random.normal(key, (num_states, steps.shape[1]))}


def _log_normal_maximum(params, weights, steps):
    seen = ~jnp.isnan(steps)
    total = weights.T @ seen
    return {"mean": weights.T @ jnp.where(seen, jnp.log(jnp.where(seen, steps, 1)), 0) / total}


LOG_NORMAL = Emission(lambda p: dist.LogNormal(p["mean"], 1.0).to_event(1), _log_normal_start, _log_normal_maximum)


def test_a_family_of_ones_own_is_the_gaussian_of_the_logarithm(x64):
    x = random_sequences("gaussian")
    params = random_params("gaussian")
    params = params._replace(emission={"mean": params.emission["mean"], "variance": jnp.ones((K, D))})
    mine = params._replace(emission={"mean": params.emission["mean"]})
    found = hidden_markov.log_likelihood(mine, np.exp(x), LOG_NORMAL)
    expected = hidden_markov.log_likelihood(params, x, FAMILIES["gaussian"]) - np.nansum(x, (1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    new, other = (
        hidden_markov.em_step(*each)[0]
        for each in ((mine, np.exp(x), LOG_NORMAL), (params, x, hidden_markov.gaussian(0.0)))
    )
    np.testing.assert_allclose(new.emission["mean"], other.emission["mean"], rtol=1e-10)
    result = hidden_markov.fit(np.exp(x), LOG_NORMAL, 2, key=KEY, num_restarts=2, num_iterations=5)
    assert np.all(np.diff(result.train, axis=0)[0] > 0)


TIED = Emission(
    lambda p: dist.MultivariateNormal(p["mean"], jnp.array([[1.0, 0.5], [0.5, 1.0]])),
    _log_normal_start,
    lambda p, weights, steps: p,
)


def test_values_that_are_tied_together_are_missing_together(x64):
    params, x = random_params("gaussian"), random_sequences("gaussian")
    mine = params._replace(emission={"mean": params.emission["mean"]})
    with pytest.raises(ValueError, match="partly missing steps"):
        hidden_markov.log_likelihood(mine, x, TIED)
    x[2] = np.where(np.isnan(x[2]).any(-1, keepdims=True), NAN, x[2])
    whole = np.nan_to_num(x)
    tied = dist.MultivariateNormal(mine.emission["mean"], jnp.array([[1.0, 0.5], [0.5, 1.0]]))
    log_emissions = np.where(np.isnan(x).any(-1, keepdims=True), 0, tied.log_prob(whole[:, :, None]))
    found = hidden_markov.log_likelihood(mine, x, TIED)
    for n, length in ((0, T), (1, 3), (2, T), (3, 1)):
        joint = enumerated(mine, log_emissions[n, :length])[1]
        np.testing.assert_allclose(found[n], np.log(np.exp(joint).sum()), rtol=1e-9)


# Sampling


@pytest.mark.parametrize("family", quick("gaussian"))
def test_samples_have_the_statistics_of_the_model(family):
    params, emission = random_params(family, 3), FAMILIES[family]
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    num, length = 4000, 6
    drawn = hidden_markov.sample(params, KEY, emission, length, num)
    assert drawn.x.shape == (num, length, D)
    states, x = np.asarray(drawn.states), np.asarray(drawn.x)
    transition, probability = np.exp(params.log_transition), np.exp(params.log_initial)
    for t in range(length):
        shares = np.bincount(states[:, t], minlength=K) / num
        assert np.all(np.abs(shares - probability) < 4 * np.sqrt(probability / num))
        probability = probability @ transition
    moves = np.zeros((K, K))
    np.add.at(moves, (states[:, :-1], states[:, 1:]), 1)
    rows = moves.sum(1, keepdims=True)
    assert np.all(np.abs(moves / rows - transition) < 4.5 * np.sqrt(transition / rows))
    mean = {
        "bernoulli": lambda p: 1 / (1 + np.exp(-p["logits"])), "gaussian": lambda p: p["mean"],
        "poisson": lambda p: np.exp(p["log_rate"]),
        "categorical": lambda p: np.asarray(jax.nn.softmax(p["logits"])) @ np.arange(4),
    }[family](params.emission)  # fmt: skip
    for k in range(K):
        of_state = x.reshape(-1, D)[np.flatnonzero(states == k)]
        np.testing.assert_allclose(of_state.mean(0), mean[k], atol=4.5 * np.max(of_state.std(0)) / len(of_state) ** 0.5)
    log_p = hidden_markov.log_likelihood(params, x, emission)
    other = hidden_markov.log_likelihood(jax.tree.map(lambda leaf: leaf[::-1], params), x, emission)
    assert log_p.mean() > other.mean()
