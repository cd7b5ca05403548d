"""Hidden Markov models against enumeration of every path, in double precision, and against dynamax."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import hidden_markov
from aevb.hidden_markov import Emission, Parameters
from aevb.hidden_markov.emissions import log_likelihoods, log_prob_by_distribution

KEY = jax.random.key(0)
K, D, T = 3, 2, 5
NAN = np.nan

FAMILIES = {
    "bernoulli": hidden_markov.bernoulli(),
    "gaussian": hidden_markov.gaussian(),
    "poisson": hidden_markov.poisson(),
    "categorical": hidden_markov.categorical(4),
}


def random_params(family: str, seed: int = 0, num_states: int = K, size: int = D) -> Parameters:
    random = np.random.RandomState(seed)
    shape = (num_states, size)
    emission = {
        "bernoulli": lambda: {"logits": random.randn(*shape)},
        "gaussian": lambda: {"mean": random.randn(*shape), "variance": random.uniform(0.3, 2, shape)},
        "poisson": lambda: {"log_rate": random.randn(*shape)},
        "categorical": lambda: {"logits": random.randn(*shape, 4)},
    }[family]()
    initial, transition = random.dirichlet(np.ones(num_states)), random.dirichlet(np.ones(num_states), num_states)
    return jax.tree.map(jnp.asarray, Parameters(np.log(initial), np.log(transition), emission))


def random_sequences(family: str, seed: int = 1, num: int = 4, size: int = D) -> np.ndarray:
    """Sequences of different lengths, one of them with two missing entries, a missing step and a missing start."""
    random = np.random.RandomState(seed)
    shape = (num, T, size)
    x = {
        "bernoulli": lambda: random.randint(0, 2, shape),
        "gaussian": lambda: random.randn(*shape),
        "poisson": lambda: random.poisson(2, shape),
        "categorical": lambda: random.randint(0, 4, shape),
    }[family]().astype(np.float64)
    x[1, 3:] = NAN
    x[2, [0, 2, 3], [0, 1, 0]] = NAN
    x[2, 1] = NAN
    x[3, 1:] = NAN
    return x


def log_emissions_by_numpyro(family: str, params: Parameters, x: np.ndarray) -> np.ndarray:
    """log p(x_t | s_t), `[N, T, K]`, value by value; what is missing is left out."""
    p = params.emission
    each = {
        "bernoulli": lambda k, v: dist.BernoulliLogits(p["logits"][k]).log_prob(v),
        "gaussian": lambda k, v: dist.Normal(p["mean"][k], jnp.sqrt(p["variance"][k])).log_prob(v),
        "poisson": lambda k, v: dist.Poisson(jnp.exp(p["log_rate"][k])).log_prob(v),
        "categorical": lambda k, v: dist.CategoricalLogits(p["logits"][k]).log_prob(v.astype(int)),
    }[family]
    seen, whole = ~np.isnan(x), jnp.asarray(np.nan_to_num(x))
    found = [np.where(seen, each(k, whole), 0).sum(-1) for k in range(len(params.log_initial))]
    return np.stack(found, -1)


def enumerated(params: Parameters, log_emissions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All paths `[P, T]` of one sequence, and log p(x, path) `[P]`, from log p(x_t | s_t) `[T, K]`."""
    length, num_states = log_emissions.shape
    paths = np.array(list(itertools.product(range(num_states), repeat=length)))
    log_initial, log_transition = np.asarray(params.log_initial), np.asarray(params.log_transition)
    joint = log_initial[paths[:, 0]] + log_transition[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, joint + log_emissions[np.arange(length), paths].sum(1)


def by_enumeration(family: str, params: Parameters, x: np.ndarray) -> dict[str, np.ndarray]:
    lengths = [max(np.flatnonzero(~np.isnan(each).all(-1)), default=-1) + 1 for each in x]
    log_emissions = log_emissions_by_numpyro(family, params, x)
    found = {
        "log_p": [], "initial": np.zeros(K), "transition": np.zeros((K, K)), "marginals": np.full((*x.shape[:2], K), NAN),
        "filtered": np.full((*x.shape[:2], K), NAN), "path": np.full(x.shape[:2], -1), "log_joint": [],
    }  # fmt: skip
    for n, length in enumerate(lengths):
        paths, joint = enumerated(params, log_emissions[n, :length])
        log_p = np.log(np.exp(joint - joint.max()).sum()) + joint.max()
        weight = np.exp(joint - log_p)
        found["log_p"].append(log_p)
        found["log_joint"].append(joint.max())
        found["path"][n, :length] = paths[joint.argmax()]
        np.add.at(found["initial"], paths[:, 0], weight)
        for t in range(length):
            found["marginals"][n, t] = np.bincount(paths[:, t], weight, K)
            so_far, joint_so_far = enumerated(params, log_emissions[n, : t + 1])
            share = np.exp(joint_so_far - joint_so_far.max())
            found["filtered"][n, t] = np.bincount(so_far[:, -1], share / share.sum(), K)
            if t:
                np.add.at(found["transition"], (paths[:, t - 1], paths[:, t]), weight)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_equals_enumeration_of_all_paths(x64, family):
    params, x, emission = random_params(family), random_sequences(family), FAMILIES[family]
    exact = by_enumeration(family, params, x)
    counts = hidden_markov.expected_counts(params, x, emission)
    filtered = hidden_markov.filter_states(params, x, emission)
    decoded = hidden_markov.viterbi(params, x, emission)
    for found, expected in (
        (hidden_markov.log_likelihood(params, x, emission), exact["log_p"]),
        (filtered.log_likelihood, exact["log_p"]),
        (np.exp(filtered.log_probabilities), exact["filtered"]),
        (hidden_markov.smooth_states(params, x, emission), exact["marginals"]),
        (counts.log_likelihood, exact["log_p"]),
        (counts.initial, exact["initial"]),
        (counts.transition, exact["transition"]),
        (counts.states, np.nan_to_num(exact["marginals"])),
        (decoded.log_joint, exact["log_joint"]),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(decoded.states, exact["path"])


def test_the_m_step_maximizes_what_enumeration_expects(x64):
    """Closed forms of the Gaussian family without pseudo-counts, over the posterior of enumerated paths."""
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


def test_dynamax_finds_the_same(x64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escape sequences in its docstrings, whenever Python compiles them
        from dynamax.hidden_markov_model import inference as dynamax
    num_states, length = 6, 40
    random = np.random.RandomState(0)
    params = random_params("gaussian", 1, num_states, 4)
    x = random.randn(3, length, 4)
    x[1, 30:] = NAN
    x[0, 5:9, 1:3] = NAN
    x[2, 11] = NAN
    emission = hidden_markov.gaussian()
    counts = hidden_markov.expected_counts(params, x, emission)
    filtered = hidden_markov.filter_states(params, x, emission)
    smoothed, decoded = (f(params, x, emission) for f in (hidden_markov.smooth_states, hidden_markov.viterbi))
    initial, transition = np.exp(params.log_initial), np.exp(params.log_transition)
    log_emissions = log_emissions_by_numpyro("gaussian", params, x)
    total = np.zeros((num_states, num_states))
    for n, end in enumerate((length, 30, length)):
        found = dynamax.hmm_two_filter_smoother(initial, transition, log_emissions[n, :end])
        np.testing.assert_allclose(filtered.log_likelihood[n], found.marginal_loglik, rtol=1e-9)
        np.testing.assert_allclose(np.exp(filtered.log_probabilities[n, :end]), found.filtered_probs, atol=1e-9)
        np.testing.assert_allclose(smoothed[n, :end], found.smoothed_probs, atol=1e-9)
        path = dynamax.hmm_posterior_mode(initial, transition, log_emissions[n, :end])
        np.testing.assert_array_equal(decoded.states[n, :end], path)
        total += np.asarray(dynamax.compute_transition_probs(jnp.asarray(transition), found, True))
    np.testing.assert_allclose(counts.transition, total, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fast_way_to_log_probabilities_is_the_distribution_s(x64, family):
    params, emission = random_params(family), FAMILIES[family]
    steps = jnp.asarray(random_sequences(family).reshape(-1, D))
    found, generic = (f(emission, params.emission, steps) for f in (log_likelihoods, log_prob_by_distribution))
    np.testing.assert_allclose(found, generic, rtol=1e-10, atol=1e-12)
    assert np.all(found[np.isnan(steps).all(-1)] == 0)


# Learning


@pytest.mark.parametrize("family", FAMILIES)
def test_em_never_lowers_the_likelihood(x64, family):
    emission = {
        "bernoulli": hidden_markov.bernoulli(0.0), "gaussian": hidden_markov.gaussian(0.0),
        "poisson": hidden_markov.poisson(0.0), "categorical": hidden_markov.categorical(4, 0.0),
    }[family]  # fmt: skip
    truth = random_params(family, 5)
    x = np.array(hidden_markov.sample(truth, KEY, FAMILIES[family], 20, 8).x)
    x[0, 12:], x[1, 3:5], x[2, ::3, 1] = NAN, NAN, NAN
    params = hidden_markov.initialize(jax.random.key(3), x, K, emission)
    values = []
    for _ in range(25):
        params, each = hidden_markov.em_step(params, x, emission, pseudo_count=0.0)
        values.append(float(each.sum()))
    assert np.all(np.diff(values) > -1e-9)
    assert values[-1] > values[0] + 1
    assert values[-1] > hidden_markov.log_likelihood(truth, x, FAMILIES[family]).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_em_finds_the_truth_from_many_sequences(family):
    """Parameters of states that are far apart, up to their order, within some standard errors."""
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


def test_patience_stops_where_nothing_improves():
    emission = hidden_markov.bernoulli()
    x = np.array(hidden_markov.sample(random_params("bernoulli", size=6), KEY, emission, 15, 12).x)
    result = hidden_markov.fit(
        x[:4], emission, 6, key=KEY, valid_x=x[4:], num_iterations=500, evaluate_every=2, patience=3
    )
    evaluations = result.evaluations
    assert evaluations[-1].iteration < 500
    best = max(range(len(evaluations)), key=lambda i: evaluations[i].valid[0])
    assert best == len(evaluations) - 4
    assert result.iterations[0] == evaluations[best].iteration


# Padding and missing values


@pytest.mark.parametrize("family", ["bernoulli", "gaussian"])
def test_padding_adds_nothing(x64, family):
    params, x, emission = random_params(family), random_sequences(family), FAMILIES[family]
    longer = np.concatenate([x, np.full_like(x, NAN)], 1)
    nobody = np.full((2, *longer.shape[1:]), NAN)
    more = np.concatenate([longer, nobody])
    one, other = (hidden_markov.expected_counts(params, each, emission) for each in (x, more))
    np.testing.assert_allclose(other.log_likelihood[:-2], one.log_likelihood, rtol=1e-13)
    np.testing.assert_array_equal(other.log_likelihood[-2:], 0)
    np.testing.assert_allclose(other.initial, one.initial, rtol=1e-13)
    np.testing.assert_allclose(other.transition, one.transition, rtol=1e-13)
    new, same = (hidden_markov.em_step(params, each, emission)[0] for each in (x, more))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), new, same)
    found, first = (hidden_markov.viterbi(params, each, emission) for each in (more, x))
    np.testing.assert_array_equal(found.states[:-2, :T], first.states)
    assert np.all(found.states[:, T:] == -1)
    np.testing.assert_array_equal(found.log_joint[-2:], 0)


def test_what_is_missing_is_marginalized(x64):
    """log p(x observed) is the log-sum over all values of two missing entries and the gradient of none sees them."""
    params, emission = random_params("bernoulli"), FAMILIES["bernoulli"]
    x = random_sequences("bernoulli")[:1]
    filled = []
    for values in itertools.product((0.0, 1.0), repeat=2):
        whole = x.copy()
        whole[0, 1, 0], whole[0, 2, 1] = values
        filled.append(float(hidden_markov.log_likelihood(params, whole, emission)[0]))
    x[0, 1, 0] = x[0, 2, 1] = NAN
    found = hidden_markov.log_likelihood(params, x, emission)
    np.testing.assert_allclose(found, [np.log(np.exp(filled).sum())], rtol=1e-12)


def test_lengths_make_forecasts_of_steps_that_were_not_observed(x64):
    params, x, emission = random_params("gaussian"), random_sequences("gaussian"), FAMILIES["gaussian"]
    lengths = np.full(len(x), T)
    short, long = (hidden_markov.filter_states(params, x, emission, each) for each in (None, lengths))
    np.testing.assert_allclose(long.log_likelihood, short.log_likelihood, rtol=1e-12)
    probability = np.exp(short.log_probabilities[1, 2]) @ np.exp(params.log_transition)
    np.testing.assert_allclose(np.exp(long.log_probabilities[1, 3]), probability, rtol=1e-12)
    assert np.all(np.isnan(short.log_probabilities[1, 3:]))


def test_nothing_underflows_and_what_never_happens_does_not():
    """500 values per step, and a chain that only goes from left to right; single precision against double NumPy."""
    random = np.random.RandomState(0)
    num_states, length = 4, 200
    transition = np.eye(num_states) * 0.95 + np.eye(num_states, k=1) * 0.05
    transition[-1, -1] = 1.0
    initial = np.eye(num_states)[0]
    logits = 4 * random.randn(num_states, 500)
    states = np.minimum(np.arange(length) // 50, 3)
    x = (random.rand(length, 500) < 1 / (1 + np.exp(-logits[states]))).astype(np.float32)
    with np.errstate(divide="ignore"):
        params = Parameters(*map(jnp.asarray, (np.log(initial), np.log(transition))), {"logits": jnp.asarray(logits)})
        a = np.log(initial)
        b = x.astype(np.float64) @ logits.T - np.logaddexp(0, logits).sum(1)
        for t in range(length):
            a = b[t] + (a if t == 0 else np.logaddexp.reduce(a[:, None] + np.log(transition), axis=0))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    emission = hidden_markov.bernoulli()
    counts = hidden_markov.expected_counts(params, x[None], emission)
    np.testing.assert_allclose(counts.log_likelihood, [np.logaddexp.reduce(a)], rtol=1e-5)
    assert all(np.all(np.isfinite(leaf)) for leaf in counts)
    assert np.all(np.asarray(counts.transition)[transition == 0] == 0)
    np.testing.assert_allclose(counts.transition.sum(), length - 1, rtol=1e-4)
    np.testing.assert_array_equal(hidden_markov.viterbi(params, x[None], emission).states[0], states)
    after = hidden_markov.em_step(params, x[None], emission, pseudo_count=0.0)[0]
    assert np.all(np.exp(after.log_transition)[transition == 0] == 0)
    backwards = hidden_markov.log_likelihood(params, x[None, ::-1], emission)
    assert not np.isnan(backwards).any()


# Families of one's own


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
    with pytest.raises(ValueError, match="steps of which a part is missing"):
        hidden_markov.log_likelihood(mine, x, TIED)
    x[2] = np.where(np.isnan(x[2]).any(-1, keepdims=True), NAN, x[2])
    whole = np.nan_to_num(x)
    tied = dist.MultivariateNormal(mine.emission["mean"], jnp.array([[1.0, 0.5], [0.5, 1.0]]))
    log_emissions = np.where(np.isnan(x).any(-1)[..., None], 0, tied.log_prob(whole[:, :, None]))
    found = hidden_markov.log_likelihood(mine, x, TIED)
    for n, length in ((0, T), (1, 3), (2, T), (3, 1)):
        joint = enumerated(mine, log_emissions[n, :length])[1]
        np.testing.assert_allclose(found[n], np.log(np.exp(joint).sum()), rtol=1e-9)


# Sampling


@pytest.mark.parametrize("family", FAMILIES)
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
        of_state = x[states == k]
        np.testing.assert_allclose(of_state.mean(0), mean[k], atol=4.5 * np.max(of_state.std(0)) / len(of_state) ** 0.5)
    log_p = hidden_markov.log_likelihood(params, x, emission)
    other = hidden_markov.log_likelihood(jax.tree.map(lambda leaf: leaf[::-1], params), x, emission)
    assert log_p.mean() > other.mean()


# Mistakes


PARAMS = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_params("bernoulli"))
X = random_sequences("bernoulli").astype(np.float32)
BERNOULLI = hidden_markov.bernoulli()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hidden_markov.log_likelihood(PARAMS, X, "bernoulli"), TypeError, "hidden_markov.bernoulli(), got 'b"),
        (lambda: hidden_markov.log_likelihood(PARAMS, X, hidden_markov.bernoulli), TypeError, "must be an aevb.hidden"),
        (lambda: hidden_markov.log_likelihood(tuple(PARAMS), X, BERNOULLI), TypeError, "params must be"),
        (lambda: hidden_markov.log_likelihood(PARAMS, X[0], BERNOULLI), ValueError, "one sequence is x[None]"),
        (
            lambda: hidden_markov.log_likelihood(PARAMS, np.zeros((2, 3, 2), int), BERNOULLI),
            TypeError,
            "floating point",
        ),
        (lambda: hidden_markov.log_likelihood(PARAMS, X[..., :1], BERNOULLI), ValueError, "x has 1 values per step"),
        (lambda: hidden_markov.log_likelihood(PARAMS, X / 2, BERNOULLI), ValueError, "no state can emit, such as 0.5"),
        (lambda: hidden_markov.log_likelihood(PARAMS, X / 0.0, BERNOULLI), ValueError, "x has infinite values"),
        (
            lambda: hidden_markov.viterbi(PARAMS._replace(log_initial=jnp.exp(PARAMS.log_initial)), X, BERNOULLI),
            ValueError,
            "log_initial must be logarithms of probabilities that sum to 1",
        ),
        (
            lambda: hidden_markov.smooth_states(PARAMS._replace(log_transition=jnp.zeros((2, 2))), X, BERNOULLI),
            ValueError,
            "must have shapes [K] and [K, K], got (3,) and (2, 2)",
        ),
        (
            lambda: hidden_markov.log_likelihood(jax.tree.map(lambda a: a[None], PARAMS), X, BERNOULLI),
            ValueError,
            "jax.vmap over restarts",
        ),
        (
            lambda: hidden_markov.log_likelihood(
                PARAMS, X, Emission(lambda p: dist.BernoulliLogits(p["logits"]), len, len)
            ),
            ValueError,
            "end with .to_event(1)",
        ),
        (lambda: hidden_markov.filter_states(PARAMS, X, BERNOULLI, [5, 2, 5, 1]), ValueError, "sequence 1 has 2"),
        (lambda: hidden_markov.filter_states(PARAMS, X, BERNOULLI, [5.0] * 4), TypeError, "lengths must be integers"),
        (
            lambda: hidden_markov.filter_states(PARAMS, X, BERNOULLI, [5]),
            ValueError,
            "lengths must have the shape (4,)",
        ),
        (lambda: hidden_markov.sample(PARAMS, 0, BERNOULLI, 3), TypeError, "key must be one typed key"),
        (lambda: hidden_markov.sample(PARAMS, KEY, BERNOULLI, 0), ValueError, "num_steps must be at least 1"),
        (lambda: hidden_markov.fit(X, BERNOULLI, 50, key=KEY), ValueError, "50 states start from as many"),
        (lambda: hidden_markov.fit(X, BERNOULLI, 0, key=KEY), ValueError, "num_states must be at least 1"),
        (lambda: hidden_markov.fit(X, BERNOULLI, 2, key=KEY, patience=2), ValueError, "patience needs valid_x"),
        (lambda: hidden_markov.fit(X, BERNOULLI, 2, key=KEY, valid_x=X / 3), ValueError, "valid_x has values"),
        (lambda: hidden_markov.fit(X[:2], hidden_markov.categorical(1), 2, key=KEY), ValueError, "num_values must be"),
        (lambda: hidden_markov.bernoulli(-1.0), ValueError, "pseudo_count must be 0 or a positive number"),
        (lambda: hidden_markov.gaussian(0.1, 0.0), ValueError, "relative_variance_floor must be positive"),
        (lambda: hidden_markov.em_step(PARAMS, X, BERNOULLI, -0.5), ValueError, "pseudo_count must be 0 or a positive"),
    ],
)
def test_mistakes_are_one_line(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_functions_are_mapped_over_restarts_and_compiled():
    x = X[:, :3]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), PARAMS, jax.tree.map(lambda a: a[..., ::-1], PARAMS))
    params = params._replace(log_initial=jnp.stack([PARAMS.log_initial] * 2))
    together = jax.vmap(hidden_markov.log_likelihood, (0, None, None))(params, x, BERNOULLI)
    for restart in range(2):
        alone = jax.jit(hidden_markov.log_likelihood)(jax.tree.map(lambda a: a[restart], params), x, BERNOULLI)
        np.testing.assert_allclose(together[restart], alone, rtol=1e-6)
