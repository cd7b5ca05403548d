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
from tests.hidden_markov import (
    FAMILIES,
    KEY,
    NAN,
    D,
    T,
    by_enumeration,
    log_emissions_by_formula,
    quick,
    random_params,
    random_sequences,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("barely_optimized")


@pytest.mark.parametrize("family", quick("bernoulli", "gaussian"))
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


def test_dynamax_finds_the_same(x64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings have invalid escape sequences, which warn on compilation
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
    smoothed = hidden_markov.smooth_states(params, x, emission)
    decoded = hidden_markov.viterbi(params, x, emission)
    initial, transition = np.exp(params.log_initial), np.exp(params.log_transition)
    log_emissions = log_emissions_by_formula("gaussian", params, x)
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
    found, generic = (jax.jit(f)(emission, params.emission, steps) for f in (log_likelihoods, log_prob_by_distribution))
    np.testing.assert_allclose(found, generic, rtol=1e-10, atol=1e-12)
    assert np.all(found[np.isnan(steps).all(-1)] == 0)


# Padding and missing values


@pytest.mark.parametrize("family", quick("bernoulli"))
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
    """log p(x observed) is the log-sum over all values of two missing entries.

    No gradient depends on the missing values.
    """
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
    """Sequences of 500 values per step and a left-to-right chain, in single precision against double NumPy."""
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
    assert np.all(np.where(transition == 0, counts.transition, 0) == 0)
    np.testing.assert_allclose(counts.transition.sum(), length - 1, rtol=1e-4)
    np.testing.assert_array_equal(hidden_markov.viterbi(params, x[None], emission).states[0], states)
    after = hidden_markov.em_step(params, x[None], emission, pseudo_count=0.0)[0]
    assert np.all(np.where(transition == 0, np.exp(after.log_transition), 0) == 0)
    backwards = hidden_markov.log_likelihood(params, x[None, ::-1], emission)
    assert not np.isnan(backwards).any()


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
        (
            lambda: hidden_markov.log_likelihood(PARAMS, X[0], BERNOULLI),
            ValueError,
            "pass a single sequence as x[None]",
        ),
        (
            lambda: hidden_markov.log_likelihood(PARAMS, np.zeros((2, 3, 2), int), BERNOULLI),
            TypeError,
            "floating point",
        ),
        (lambda: hidden_markov.log_likelihood(PARAMS, X[..., :1], BERNOULLI), ValueError, "x has 1 values per step"),
        (lambda: hidden_markov.log_likelihood(PARAMS, X / 2, BERNOULLI), ValueError, "no state can emit, such as 0.5"),
        (lambda: hidden_markov.log_likelihood(PARAMS, X + np.inf, BERNOULLI), ValueError, "x has infinite values"),
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
            "for restarts, use jax.vmap",
        ),
        (
            lambda: hidden_markov.log_likelihood(
                PARAMS, X, Emission(lambda p: dist.BernoulliLogits(p["logits"]), len, len)
            ),
            ValueError,
            "end with .to_event(1)",
        ),
        (
            lambda: hidden_markov.filter_states(PARAMS, X, BERNOULLI, [5, 2, 5, 1]),
            ValueError,
            "sequence 1 has length 2",
        ),
        (lambda: hidden_markov.filter_states(PARAMS, X, BERNOULLI, [5.0] * 4), TypeError, "lengths must be integers"),
        (
            lambda: hidden_markov.filter_states(PARAMS, X, BERNOULLI, [5]),
            ValueError,
            "lengths must have the shape (4,)",
        ),
        (lambda: hidden_markov.sample(PARAMS, 0, BERNOULLI, 3), TypeError, "key must be one typed key"),
        (lambda: hidden_markov.sample(PARAMS, KEY, BERNOULLI, 0), ValueError, "num_steps must be at least 1"),
        (lambda: hidden_markov.fit(X, BERNOULLI, 50, key=KEY), ValueError, "50 states need at least as many"),
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
        mine = jax.tree.map(lambda leaf, restart=restart: leaf[restart], params)
        alone = jax.jit(hidden_markov.log_likelihood)(mine, x, BERNOULLI)
        np.testing.assert_allclose(together[restart], alone, rtol=1e-6)
