"""Objectives besides the plain bound: a weighted KL, free bits, the importance weighted bound.

Reported bounds are never weighted.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.algorithms import base
from tests.models import CASES

KEY = jax.random.key(0)
PLAIN = CASES["plain"]
LEVELS = CASES["two levels"]

pytestmark = pytest.mark.usefixtures("barely_optimized")


def terms_of(case, params, key, xs) -> aevb.ElboTerms:
    """Return the mean terms over a minibatch, with the keys that a loss gives its datapoints."""
    keys = jax.random.split(key, len(xs))
    terms = jax.vmap(lambda key, x: aevb.elbo_terms(params, key, x, case.model))(keys, xs)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), terms)


@pytest.fixture(params=["plain", "two levels"])
def case(request):
    return CASES[request.param]


def test_the_weight_is_of_the_kl_alone(case):
    params, xs = case.model.init(KEY), jnp.asarray(case.data[:8])
    terms = terms_of(case, params, KEY, xs)
    for weight in (0.0, 0.5, 1.0, 4.0):
        loss = aevb.make_loss(case.model, 100, kl_weight=weight)
        assert float(loss(params, KEY, xs)) == pytest.approx(float(weight * terms.kl - terms.reconstruction), rel=1e-5)


def test_a_schedule_is_asked_for_the_step(case):
    params, xs = case.model.init(KEY), jnp.asarray(case.data[:8])
    warm_up = optax.linear_schedule(0.0, 1.0, 10)
    loss = aevb.make_loss(case.model, 100, kl_weight=warm_up)
    for step in (0, 3, 10, 50):
        fixed = aevb.make_loss(case.model, 100, kl_weight=min(step / 10, 1.0))
        assert float(loss(params, KEY, xs, jnp.int32(step))) == pytest.approx(float(fixed(params, KEY, xs)), rel=1e-5)


def test_training_hands_the_step_to_a_loss_that_asks_for_it():
    """A loss equal to the step appears, step by step, in the reports of training."""
    seen = lambda params, key, xs, step: jnp.sum(params) * 0 + step.astype(jnp.float32)
    optimizer = optax.sgd(0.1)
    step = aevb.make_train_step(seen, optimizer)
    params = jnp.zeros(3)
    state = aevb.TrainState(params, optimizer.init(params), jax.random.key(1), jnp.int32(0))
    losses = []
    for _ in range(3):
        state, loss = step(state, jnp.zeros((2, 3)))
        losses.append(float(loss))
    assert losses == [0, 1, 2]
    epochs = aevb.make_train_epochs(base.descent(PLAIN.model, seen, optimizer), 2)
    state, progress = epochs(state, jnp.zeros((8, 3)), 1)
    assert float(progress.loss) == np.mean([3, 4, 5, 6])


def test_free_bits_are_of_each_levels_mean_over_the_minibatch():
    params, xs = LEVELS.model.init(KEY), jnp.asarray(LEVELS.data[:8])
    terms = terms_of(LEVELS, params, KEY, xs)
    between = (min(terms.kl_by_level.values()) + max(terms.kl_by_level.values())) / 2
    charged = sum(jnp.maximum(kl, between) for kl in terms.kl_by_level.values())
    loss = aevb.make_loss(LEVELS.model, 100, free_bits=float(between))
    assert float(loss(params, KEY, xs)) == pytest.approx(float(charged - terms.reconstruction), rel=1e-5)
    # Below the allowance the KL has no gradient: only the reconstruction moves phi.
    generous = aevb.make_loss(LEVELS.model, 100, free_bits=1e3)
    unweighted = aevb.make_loss(LEVELS.model, 100, kl_weight=0.0)
    for one, other in zip(
        jax.tree.leaves(jax.grad(generous)(params, KEY, xs)),
        jax.tree.leaves(jax.grad(unweighted)(params, KEY, xs)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("options", "is_lower"), [({"kl_weight": 5.0}, True), ({"free_bits": 3.0}, False)])
def test_reported_bounds_are_not_weighted(options, is_lower):
    """A heavy KL ends with a lower KL than a plain run, an allowance with a higher one. Both report the plain bound."""
    kl = {}
    for name, algorithm in (("plain", None), ("weighted", functools.partial(aevb.auto_encoding, **options))):
        result = aevb.fit(
            LEVELS.data, LEVELS.model, key=KEY, algorithm=algorithm, optimizer=optax.adam(2e-2), num_epochs=60,
            batch_size=8, eval_every=60, test_data=LEVELS.data, map_prior=False,
        )  # fmt: skip
        row = result.history[-1]
        kl[name] = row.test_kl
        assert row.test_elbo == pytest.approx(row.test_reconstruction - row.test_kl, rel=1e-5)
        found = aevb.evaluate(result.state.params, KEY, LEVELS.data, LEVELS.model, aevb.Estimator(100))
        assert found.elbo == pytest.approx(row.test_elbo, abs=0.5)
    assert (kl["weighted"] < kl["plain"]) == is_lower


def test_an_algorithm_and_its_evaluation_may_have_different_estimators():
    """A flow has no analytic KL. The evaluation uses the algorithm's estimator unless another is given."""
    flow = CASES["flow"]
    sampled = aevb.Estimator(kl="sampled")
    settings = {"key": KEY, "num_epochs": 1, "batch_size": 8}
    by_algorithm = functools.partial(aevb.auto_encoding, estimator=sampled)
    one = aevb.fit(flow.data, flow.model, algorithm=by_algorithm, **settings)
    other = aevb.fit(flow.data, flow.model, estimator=sampled, **settings)
    assert [row.train_elbo for row in one.history] == [row.train_elbo for row in other.history]
    precise = aevb.fit(flow.data, flow.model, estimator=sampled, evaluation=aevb.Estimator(64, "sampled"), **settings)
    jax.tree.map(np.testing.assert_array_equal, precise.state.params, one.state.params)
    assert precise.history[-1].train_elbo != one.history[-1].train_elbo
    assert np.isnan(one.history[-1].train_iwae)
    weighted = aevb.fit(
        flow.data, flow.model, estimator=sampled, evaluation=aevb.Estimator(64, "sampled", bound="iwae"), **settings
    )
    assert weighted.history[-1].train_elbo == pytest.approx(precise.history[-1].train_elbo, rel=1e-5)
    assert weighted.history[-1].train_iwae > weighted.history[-1].train_elbo


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_weight": -1.0}, "kl_weight must be non-negative and finite, got -1.0"),
        ({"free_bits": float("nan")}, "free_bits must be non-negative and finite, got nan"),
        (
            {"free_bits": 1.0, "estimator": aevb.Estimator(5, bound="iwae")},
            "the importance weighted bound does not have",
        ),
    ],
)
def test_weights_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        aevb.make_loss(PLAIN.model, 10, **options)
