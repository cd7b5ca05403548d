"""Validation data: which state is the best, when training stops, and that test data have no influence."""

import functools
import math

import jax
import numpy as np
import optax
import pytest

import aevb
from aevb.training.history import Best, best_row

MODEL = aevb.mlp_vae((12,), 3, 20)
WANT = {"optimizer": optax.adam(0.03), "batch_size": 10, "map_prior": False, "key": jax.random.key(1)}


def images(seed: int, size: int) -> np.ndarray:
    """Two patterns with a fifth of their pixels flipped: the patterns are learned before the noise."""
    rng = np.random.default_rng(seed)
    patterns = np.repeat([[1, 0], [0, 1]], 6, axis=1)[rng.integers(2, size=size)]
    return np.where(rng.random((size, 12)) < 0.2, 1 - patterns, patterns).astype(np.float32)


@functools.cache
def overfitted() -> aevb.FitResult:
    """Twenty images are memorized: the bound on others rises and then falls."""
    return aevb.fit(images(0, 20), MODEL, valid_data=images(1, 40), num_epochs=150, eval_every=5, **WANT)


def best_of(result: aevb.FitResult) -> tuple[aevb.TrainState, aevb.Evaluation]:
    assert result.best_state is not None
    assert result.best_evaluation is not None
    return result.best_state, result.best_evaluation


def test_the_best_state_is_that_of_the_highest_bound_on_validation_data():
    result = overfitted()
    bounds = [row.valid_elbo for row in result.history]
    best = int(np.argmax(bounds))
    assert 0 < best < len(bounds) - 1
    assert bounds[best] > bounds[-1] + 0.5  # it did overfit
    assert (
        abs(result.history[-1].train_elbo - result.history[best].train_elbo) < 0.2
    )  # which its own data do not reveal
    assert result.best_evaluation == result.history[best]
    state, _ = best_of(result)
    assert int(state.step) == 2 * result.history[best].epoch
    # The state itself, not changed by later steps.
    alone = aevb.fit(images(0, 20), MODEL, num_epochs=result.history[best].epoch, **WANT).state
    for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_patience_stops_that_many_evaluations_after_the_best():
    whole = overfitted()
    data = {"valid_data": images(1, 40), "num_epochs": 150, "eval_every": 5}
    stopped = aevb.fit(images(0, 20), MODEL, patience=3, **data, **WANT)
    epochs = [row.epoch for row in stopped.history]
    assert epochs[-1] == best_of(stopped)[1].epoch + 15 < 150
    found = [row._replace(seconds=0.0) for row in stopped.history]
    np.testing.assert_equal(found, [row._replace(seconds=0.0) for row in whole.history[: len(found)]])


def test_test_data_have_no_say():
    """With other test data, and with none, the states and the best are the same, bit for bit."""
    data = {"valid_data": images(1, 40), "num_epochs": 40, "eval_every": 5, "patience": 2}
    first, *others = (aevb.fit(images(0, 20), MODEL, test_data=test, **data, **WANT) for test in (None, images(7, 30)))
    for other in others:
        assert best_of(other)[1].epoch == best_of(first)[1].epoch
        for one, same in ((first.state, other.state), (best_of(first)[0], best_of(other)[0])):
            jax.tree.map(np.testing.assert_array_equal, one.params, same.params)


def test_validation_data_change_neither_training_nor_the_other_bounds():
    plain, valid = (
        aevb.fit(images(0, 20), MODEL, test_data=images(2, 10), valid_data=data, num_epochs=4, **WANT)
        for data in (None, images(1, 40))
    )
    assert [row.test_elbo for row in plain.history] == [row.test_elbo for row in valid.history]
    assert [row.train_elbo for row in plain.history] == [row.train_elbo for row in valid.history]
    assert plain.best_state is None
    assert plain.best_evaluation is None
    assert all(math.isnan(row.valid_elbo) for row in plain.history)


def test_the_importance_weighted_bound_decides_where_it_is_trained():
    estimator = aevb.Estimator(num_samples=4, bound="iwae")
    result = aevb.fit(
        images(0, 20), MODEL, valid_data=images(1, 40), num_epochs=6, eval_every=2, estimator=estimator, **WANT
    )
    assert all(row.valid_bound == row.valid_iwae != row.valid_elbo for row in result.history)
    assert result.best_evaluation == max(result.history, key=lambda row: row.valid_iwae)


def test_going_on_remembers_the_best_of_before():
    whole = overfitted()
    _, best = best_of(whole)
    first = aevb.fit(images(0, 20), MODEL, valid_data=images(1, 40), num_epochs=best.epoch + 10, eval_every=5, **WANT)
    on = {"valid_data": images(1, 40), "num_epochs": 150, "eval_every": 5, "patience": 4}
    rest = aevb.fit(images(0, 20), MODEL, state=first.state, history=first.history, **on, **WANT)
    assert rest.best_evaluation == first.best_evaluation
    assert rest.best_state is None  # it was better before
    assert rest.history[-1].epoch == best.epoch + 20  # two evaluations already existed


def test_members_have_their_own_best():
    members = aevb.fit_population(
        images(0, 20), MODEL, keys=list(jax.random.split(jax.random.key(3), 2)), valid_data=images(1, 40), patience=2,
        num_epochs=100, eval_every=5, optimizer=aevb.paper_optimizer(), batch_size=10, map_prior=False,
        hyperparameters={"learning_rate": [0.05, 0.3]},
    )  # fmt: skip
    for member in members:
        result = member.result
        assert result.best_evaluation == best_row(result.history)
        state, row = best_of(result)
        assert int(state.step) == 2 * row.epoch
        assert result.history[-1].epoch >= min(100, row.epoch + 10)


def test_a_stream_is_validation_data_too():
    records = (images(1, 40) * 255).astype(np.uint8)
    stream = aevb.Stream(records, max_value=255, block_size=16)
    want = WANT | {"num_epochs": 2}
    resident = aevb.fit(images(0, 20), MODEL, valid_data=images(1, 40), **want)
    streamed = aevb.fit(images(0, 20), MODEL, valid_data=stream, **want)
    assert [row.valid_elbo for row in streamed.history] == pytest.approx(
        [row.valid_elbo for row in resident.history], rel=1e-6
    )


def test_equal_bounds_are_no_progress():
    best, row = Best(patience=2), overfitted().history[0]
    state = overfitted().state
    for _ in range(3):
        best.note(state, row)
    assert best.is_time_to_stop


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patience": 3}, "patience=3 stops by the bound on valid_data, but there are none"),
        ({"patience": 0, "valid_data": images(1, 4)}, "patience must be at least 1"),
        ({"patience": 1.5, "valid_data": images(1, 4)}, "patience must be an integer"),
        ({"valid_data": images(1, 4)[:0]}, "valid_data is empty"),
        ({"valid_data": images(1, 4)[:, :5]}, r"datapoints of valid_data have shape \(5,\)"),
        ({"valid_data": images(1, 4) * 255}, "valid_data"),
    ],
)
def test_what_is_wrong_is_named(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        aevb.fit(images(0, 20), MODEL, num_epochs=1, **wrong, **WANT)
