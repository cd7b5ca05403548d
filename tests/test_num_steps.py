"""Runs of an exact number of minibatches, which may end in mid-epoch and resume there to the same bits."""

import functools
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.algorithms import monte_carlo_em
from aevb.checkpoints import Checkpoints
from aevb.training.epochs import epoch_batches
from aevb.training.history import Best, best_row
from aevb.training.keys import evaluation_keys
from tests.comparisons import assert_same_history, assert_trees_close
from tests.conftest import ROOT
from tests.models import DATA_DIM

SIZE, BATCH_SIZE = 130, 20
STEPS = SIZE // BATCH_SIZE  # 6 steps of an epoch
MODEL = aevb.mlp_vae((DATA_DIM,), 2, 8)
WIDE_MODEL = aevb.mlp_vae((DATA_DIM,), 2, 8, param_dtype="float64")
RTOL = 1e-9  # of two programs in double precision
EXECUTIONS = ["side_by_side", "in_turn"]
PIXELS = np.random.RandomState(0).randint(0, 256, (SIZE, DATA_DIM)).astype(np.uint8)
FLOATS = PIXELS / np.float32(255)


def unevaluated(make, *arguments) -> aevb.Algorithm:
    """Skip evaluations, so that histories only contain counts.

    Most tests here are about training, and compiling is slow.
    """
    return make(*arguments)._replace(evaluated_params=None)


EVALUATED = functools.partial(aevb.fit, model=MODEL, key=jax.random.key(0), batch_size=BATCH_SIZE)
FIT = functools.partial(EVALUATED, algorithm=functools.partial(unevaluated, aevb.auto_encoding))


def quick_loss(params, key, xs, step, bad_step):
    """A loss that compiles quickly. At one step its gradient is not finite although its value is."""
    del key
    root = jnp.sqrt(jnp.where(step == bad_step, 0.0, 1.0) * jnp.sum(params["decoder"]["Dense_0"]["bias"] ** 2))
    return jnp.mean(xs) * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) + root


def planted(bad_step: int = -1):
    """The algorithm that descends `quick_loss`."""
    loss = functools.partial(quick_loss, bad_step=bad_step)
    make = lambda model, optimizer, dataset_size, map_prior: aevb.descent(model, loss, optimizer)
    return functools.partial(unevaluated, make)


def stream() -> aevb.Stream:
    """Return a stream in blocks of two minibatches."""
    return aevb.Stream(PIXELS, max_value=255, block_size=2 * BATCH_SIZE)


def resident() -> np.ndarray:
    return FLOATS


def copied(state: aevb.TrainState) -> aevb.TrainState:
    return jax.tree.map(jnp.copy, state)


@functools.cache
def whole() -> aevb.FitResult:
    """Three epochs without a stop, each evaluated."""
    return EVALUATED(FLOATS, num_epochs=3)


@functools.cache
def cut() -> aevb.FitResult:
    """The same, ended two minibatches into the third epoch."""
    return EVALUATED(FLOATS, num_steps=2 * STEPS + 2)


@pytest.mark.parametrize(
    ("num_steps", "eval_every", "epochs"),
    [(14, 1, [0, 1, 2, 2]), (14, 2, [0, 2, 2]), (14, 5, [0, 2]), (20, "log", [0, 1, 2, 3, 3]), (4, 1, [0, 0])],
)
def test_a_run_ends_at_the_exact_step_with_an_evaluation(num_steps, eval_every, epochs):
    result = FIT(FLOATS, algorithm=planted(), num_steps=num_steps, eval_every=eval_every)
    assert int(result.state.step) == num_steps
    assert result.state.shuffle_key is not None
    assert [row.epoch for row in result.history] == epochs
    samples = [epoch * STEPS * BATCH_SIZE for epoch in epochs[:-1]] + [num_steps * BATCH_SIZE]
    assert [row.num_train_samples for row in result.history] == samples


def test_as_many_steps_as_whole_epochs_have_are_whole_epochs():
    found, none = EVALUATED(FLOATS, num_steps=np.int64(3 * STEPS)), EVALUATED(FLOATS, num_steps=0)
    assert_trees_close(found.state, whole().state)
    assert_same_history(found.history, whole().history)
    assert found.state.shuffle_key is None
    assert_same_history(none.history, whole().history[:1])


def test_what_comes_before_the_end_is_the_beginning_of_a_longer_run():
    assert_same_history(cut().history[:3], whole().history[:3])
    rest = EVALUATED(FLOATS, num_epochs=3, state=copied(cut().state))
    assert_trees_close(rest.state, whole().state)
    assert_same_history(rest.history, whole().history[-1:])


def test_steps_are_those_of_the_epochs_order_one_by_one(x64):
    data, optimizer = jnp.asarray(FLOATS, jnp.float64), optax.sgd(0.1)
    step = aevb.make_train_step(functools.partial(quick_loss, bad_step=-1), optimizer)
    state = aevb.init_train_state(jax.random.split(jax.random.key(0))[0], WIDE_MODEL, optimizer)
    for epoch_steps in (STEPS, 3):
        key, shuffle_key = jax.random.split(state.key)
        state = state._replace(key=key)
        for batch in epoch_batches(shuffle_key, SIZE, BATCH_SIZE)[:epoch_steps]:
            state, _ = step(state, data[batch])
    found = FIT(data, model=WIDE_MODEL, optimizer=optimizer, algorithm=planted(), num_steps=STEPS + 3).state
    assert_trees_close(found._replace(shuffle_key=None), state, RTOL)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (resident, {"binarization": "stochastic"}),
        (resident, {"algorithm": functools.partial(unevaluated, monte_carlo_em)}),
        (stream, {"binarization": "stochastic"}),
    ],
    ids=["resident", "monte_carlo_em", "stream"],
)
def test_a_run_in_pieces_ends_with_the_bits_of_one_without(data, settings):
    """The pieces end within an epoch, across its end, and after whole epochs."""
    fit = functools.partial(FIT, data(), eval_every=5, **settings)
    uninterrupted = fit(num_epochs=4)
    state, seconds = None, []
    for num_steps in (2, 4, 20):
        state = fit(num_steps=num_steps, state=state).state
        assert int(state.step) == num_steps
    found = fit(num_epochs=4, state=state, on_pause=lambda state, since: seconds.append(since))
    assert_trees_close(found.state, uninterrupted.state)
    assert_same_history(found.history, uninterrupted.history[-1:])
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(("first", "second"), [(resident, stream), (stream, resident)])
def test_a_state_goes_from_memory_to_a_stream_and_back(x64, first, second):
    fit = functools.partial(FIT, model=WIDE_MODEL, eval_every=5)
    uninterrupted = fit(FLOATS, num_epochs=3)
    state = None
    for data, num_steps in ((first, 8), (second, 15)):
        state = fit(data(), num_steps=num_steps, state=state).state
    found = fit(first(), num_epochs=3, state=state)
    assert_trees_close(found.state, uninterrupted.state, RTOL)
    assert_same_history(found.history, uninterrupted.history[-1:], RTOL)


def test_a_checkpoint_in_mid_epoch_goes_on_to_the_same_bits(tmp_path):
    fit = functools.partial(FIT, FLOATS, eval_every=5)
    checkpoints = Checkpoints(tmp_path)
    ended = fit(num_steps=9)
    checkpoints.save(ended.state, float("nan"), 1.0)
    restored = checkpoints.restore_latest(whole().state)
    checkpoints.close()
    assert restored is not None
    assert_trees_close(restored.state, ended.state)
    found, expected = fit(num_steps=16, state=restored.state), fit(num_steps=16)
    assert_trees_close(found.state, expected.state)
    assert_same_history(found.history, expected.history[-1:])


def test_pauses_change_nothing_and_are_gone_on_from_in_memory(x64, monkeypatch):
    monkeypatch.setattr("aevb.training.timetable._SECONDS_BETWEEN_PAUSES", 0.0)
    fit = functools.partial(FIT, model=WIDE_MODEL, num_steps=2 * STEPS + 4, eval_every=5)
    expected, paused, of_stream = fit(FLOATS), [], []
    keep = lambda state, seconds: paused.append((copied(state), seconds))
    found = fit(FLOATS, on_pause=keep)
    assert_trees_close(found.state, expected.state)
    assert_same_history(found.history, expected.history)
    assert [int(state.step) for state, _ in paused] == [STEPS, 2 * STEPS]
    fit(stream(), on_pause=lambda state, seconds: of_stream.append((copied(state), seconds)))
    assert [int(state.step) for state, _ in of_stream] == [2, 4, 6, 8, 10, 12, 14]
    for state, seconds in (of_stream[1], of_stream[-1]):
        rest = fit(FLOATS, state=state, seconds=seconds)
        assert_trees_close(rest.state, expected.state, RTOL)
        assert rest.history[-1].seconds > seconds


def test_a_state_that_is_further_is_left_as_it_is():
    for end in ({"num_steps": 14}, {"num_steps": 10}, {"num_epochs": 2}, {"num_epochs": 0}):
        found = FIT(FLOATS, state=copied(cut().state), **end)
        assert_trees_close(found.state, cut().state)
        assert found.history == []


def test_without_compilation(x64):
    optimizer, algorithm = optax.sgd(0.1), planted()
    fit = functools.partial(FIT, FLOATS[:40], model=WIDE_MODEL, optimizer=optimizer, algorithm=algorithm, eval_every=9)
    state, compiled = fit(num_steps=1).state, fit(num_steps=3)
    with jax.disable_jit():
        found = fit(num_steps=3, state=state)
    assert_trees_close(found.state, compiled.state, RTOL)


def test_no_two_evaluations_have_a_key_in_common():
    key, found = jax.random.key(0), set()
    for epoch, num_steps in itertools.product(range(3), range(12)):
        found |= {tuple(jax.random.key_data(each).tolist()) for each in evaluation_keys(key, epoch, num_steps).values()}
    assert len(found) == 3 * 12 * 4
    train, test, params = jax.random.split(jax.random.fold_in(key, 2), 3)
    expected = {"train": train, "test": test, "params": params}
    after_epochs = evaluation_keys(key, 2)
    assert_trees_close({name: after_epochs[name] for name in expected}, expected)


def test_validation_and_patience_go_on_across_an_end_in_mid_epoch():
    settings = {"valid_data": FLOATS[:40], "optimizer": optax.adam(1e-3), "num_steps": 14}
    first = EVALUATED(FLOATS, **settings)
    assert first.best_evaluation == best_row(first.history) == first.history[-1]
    assert_trees_close(first.best_state, first.state)
    rest = EVALUATED(FLOATS, state=copied(first.state), history=first.history, **(settings | {"num_steps": 27}))
    assert [row.epoch for row in rest.history] == [3, 4, 4]
    assert rest.best_evaluation == best_row([*first.history, *rest.history])
    worse = first.history[-1]._replace(num_train_samples=15 * BATCH_SIZE, valid_elbo=-1e3)  # of the same epoch
    assert Best(1, [*first.history, worse]).is_time_to_stop
    assert not Best(2, [*first.history, worse]).is_time_to_stop
    stopped = EVALUATED(FLOATS, state=copied(first.state), history=[*first.history, worse], patience=1, **settings)
    assert (int(stopped.state.step), stopped.history) == (14, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": -1}, "num_steps must be at least 0, got -1"),
        ({"num_steps": 2.0}, "num_steps must be an integer, got 2.0"),
        ({"num_steps": True}, "num_steps must be an integer, got True"),
        ({"num_epochs": 2.0}, "num_epochs must be an integer, got 2.0"),
        ({"num_steps": 20, "num_epochs": 3}, "num_epochs=3 and num_steps=20 both say when to stop: give only one"),
    ],
)
def test_wrong_lengths_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FIT(FLOATS, **arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        aevb.fit_population(FLOATS, MODEL, keys=jax.random.split(jax.random.key(0), 2), **arguments)


def test_a_state_that_does_not_say_where_in_an_epoch_it_is_is_refused():
    lost = lambda: copied(cut().state)._replace(shuffle_key=None)
    with pytest.raises(
        ValueError, match="at step 14, which does not end an epoch of 6 minibatches, and has no shuffle_key"
    ):
        FIT(FLOATS, state=lost(), num_steps=20)
    assert int(FIT(FLOATS, state=lost(), num_epochs=3).state.step) == 20  # one more whole epoch, as usual


def minibatch_of(step: int, key: jax.Array) -> tuple[int, ...]:
    """Return the indices of a step of the first epoch."""
    state = aevb.init_train_state(jax.random.split(key)[0], MODEL, aevb.paper_optimizer())
    return tuple(epoch_batches(jax.random.split(state.key)[1], SIZE, BATCH_SIZE)[step].tolist())


@pytest.mark.parametrize(
    ("data", "begin", "bad_step", "end"),
    [(resident, 0, 3, 4), (resident, 2, 2, 4), (resident, 2, 5, 9), (stream, 0, 3, 4), (stream, 2, 5, 9)],
)
def test_divergence_in_part_of_an_epoch_is_named_exactly(data, begin, bad_step, end):
    fit = functools.partial(FIT, data(), algorithm=planted(bad_step))
    state = fit(num_steps=begin).state
    with pytest.raises(aevb.DivergedError, match=f"NaN or infinite at step {bad_step}, on a minibatch of 20") as caught:
        fit(num_steps=end, state=state)
    assert (caught.value.step, caught.value.indices) == (bad_step, minibatch_of(bad_step, jax.random.key(0)))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_members_end_and_go_on_in_mid_epoch(x64, execution):
    """They equal separate training up to rounding, and uninterrupted members to the bit."""
    keys = jax.random.split(jax.random.key(0), 2)
    settings = {"batch_size": BATCH_SIZE, "eval_every": 5, "algorithm": FIT.keywords["algorithm"]}
    fit = functools.partial(aevb.fit_population, FLOATS, WIDE_MODEL, keys=keys, execution=execution, **settings)
    ended, uninterrupted = fit(num_steps=14), fit(num_epochs=4)
    alone = FIT(FLOATS, model=WIDE_MODEL, key=keys[1], num_steps=14, eval_every=5)
    assert_trees_close(ended[1].result.state, alone.state, RTOL)
    assert_same_history(ended[1].result.history, alone.history, RTOL)
    within = fit(num_steps=16, states=[copied(member.result.state) for member in ended])
    found = fit(num_epochs=4, states=[copied(member.result.state) for member in within])
    for member, expected in zip(found, uninterrupted, strict=True):
        assert_trees_close(member.result.state, expected.result.state)
        assert_same_history(member.result.history, expected.result.history[-1:])
    # From separate training to a member and back.
    joined = fit(num_steps=16, states=[copied(ended[0].result.state), alone.state])
    assert_trees_close(joined[1].result.state, within[1].result.state, RTOL)
    rest = FIT(FLOATS, model=WIDE_MODEL, key=keys[1], num_epochs=4, eval_every=5, state=joined[1].result.state)
    assert_trees_close(rest.state, uninterrupted[1].result.state, RTOL)


def test_members_in_mid_epoch_and_others_are_not_mixed():
    state = cut().state
    states = [copied(state), copied(state)._replace(shuffle_key=None)]
    with pytest.raises(ValueError, match="some of the members to resume from have a shuffle_key, in mid-epoch"):
        aevb.fit_population(FLOATS, MODEL, keys=jax.random.split(jax.random.key(0), 2), states=states, num_steps=20)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(("begin", "end"), [(0, 4), (2, 9)])
def test_a_member_that_diverges_in_part_of_an_epoch_keeps_its_last_good_state(execution, begin, end):
    def loss(params, key, xs, step):
        del key
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        return jnp.mean(xs) + squares * jnp.where((step == 3) & (squares > 1e3), jnp.nan, 1e-3)

    make = lambda model, optimizer, dataset_size, map_prior: aevb.descent(model, loss, optimizer)
    algorithm = functools.partial(unevaluated, make)
    keys = jax.random.split(jax.random.key(0), 3)
    initial = [aevb.init_train_state(jax.random.split(key)[0], MODEL, aevb.paper_optimizer()) for key in keys]
    initial[1] = initial[1]._replace(params=jax.tree.map(lambda leaf: leaf + 10.0, initial[1].params))
    settings = {"batch_size": BATCH_SIZE, "algorithm": algorithm, "execution": execution, "keys": keys}
    fit = functools.partial(aevb.fit_population, FLOATS, MODEL, map_prior=False, **settings)
    states = [member.result.state for member in fit(num_steps=begin, initial_states=initial)]
    found = fit(num_steps=end, states=[copied(state) for state in states])
    assert [member.diverged is None for member in found] == [True, False, True]
    assert found[1].diverged is not None
    assert (found[1].diverged.step, found[1].diverged.indices) == (3, minibatch_of(3, keys[1]))
    assert [int(member.result.state.step) for member in found] == [end, begin, end]
    assert_trees_close(found[1].result.state.params, states[1].params)


MESH_PROGRAM = """
import sys
import jax, numpy as np
import aevb
from aevb import sharding

pytestmark = pytest.mark.usefixtures("barely_optimized")

jax.config.update("jax_enable_x64", True)
data = np.random.RandomState(0).rand(160, 12) ** 3
model = aevb.mlp_vae((12,), 2, 8, param_dtype="float64")
algorithm = lambda *arguments: aevb.auto_encoding(*arguments)._replace(evaluated_params=None)
settings = {"batch_size": 16, "optimizer": aevb.paper_optimizer(0.1), "eval_every": 9, "algorithm": algorithm}
keys = jax.random.split(jax.random.key(1), 4)

def fit(state=None, **end):
    return [aevb.fit(data, model, key=jax.random.key(0), state=state, **settings, **end).state]

def fit_population(state=None, **end):
    members = aevb.fit_population(data, model, keys=keys, execution="side_by_side", states=state, **settings, **end)
    return [member.result.state for member in members]

def numbers(states):
    return [np.asarray(leaf) for leaf in jax.tree.leaves([(state.params, state.step) for state in states])]

for train in (fit, fit_population):
    expected = numbers(train(num_steps=23))
    with jax.set_mesh(sharding.make_mesh(member=2)):
        state = None
        for end in ({"num_steps": 4}, {"num_steps": 23}):
            states = train(state=state, **end)
            state = states[0] if train is fit else states
            assert len(states[0].step.sharding.device_set) == 8
    for one, other in zip(numbers(states), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
"""


def test_eight_devices_end_and_go_on_like_one():
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", MESH_PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | flags, check=False)
    assert done.returncode == 0, done.stderr
