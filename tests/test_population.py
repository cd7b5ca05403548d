"""Many members trained as one program, against each member alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import algorithms
from aevb.training.padding import Padding, padded
from aevb.training.population import Member, fit_population, init_population, make_train_population, member_of
from tests.comparisons import assert_same_history, assert_trees_close

MODEL = aevb.mlp_vae((12,), 2, 8)
SETTINGS = {"num_epochs": 3, "batch_size": 20}
RTOL = 1e-9  # of two programs in double precision
EXECUTIONS = ["side_by_side", "in_turn"]

pytestmark = pytest.mark.usefixtures("barely_optimized")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Training and test data of equal size, so that one program evaluates both."""
    images = np.random.RandomState(0).rand(260, 12).astype(np.float32) ** 3
    return images[:130], images[130:]


@pytest.fixture
def wide_data(x64, data) -> tuple[np.ndarray, np.ndarray]:
    """The data in double precision, where two programs agree on every machine."""
    train, test = data
    return train.astype(np.float64), test.astype(np.float64)


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("algorithm", [None, algorithms.wake_sleep])
def test_a_member_is_what_it_is_alone(wide_data, execution, algorithm):
    train, test = wide_data
    model = aevb.mlp_vae((12,), 2, 8, param_dtype="float64")
    keys, rates = jax.random.split(jax.random.key(0), 2), [0.1, 0.3]
    settings = {"test_data": test, "algorithm": algorithm, **SETTINGS}
    given = {"keys": keys, "hyperparameters": {"learning_rate": rates}, "execution": execution}
    members = fit_population(train, model, **given, **settings)
    for key, rate, member in zip(keys, rates, members, strict=True):
        alone = aevb.fit(train, model, key=key, optimizer=aevb.paper_optimizer(rate), **settings)
        assert member.diverged is None
        assert_same_history(member.result.history, alone.history, RTOL)
        assert_trees_close(member.result.state, alone.state, RTOL)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_diverged_member_touches_no_other(data, execution):
    train, _ = data
    keys = jax.random.split(jax.random.key(0), 3)
    # A Gaussian density is unbounded: at this learning rate its log-variances overflow in a few steps.
    model = aevb.mlp_vae((12,), 2, 8, likelihood="gaussian")
    seen = []
    run = {"keys": keys, "execution": execution, "on_evaluation": lambda k, state, row: seen.append((k, row.epoch))}
    rates = {"learning_rate": [0.01, 1e4, 0.01]}
    members = fit_population(train, model, hyperparameters=rates, **run, **SETTINGS)
    assert [member.diverged is not None for member in members] == [False, True, False]
    last_good = members[1].result.history[-1].epoch
    assert members[1].diverged is not None
    assert members[1].diverged.step >= last_good * (len(train) // 20)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(members[1].result.state.params))
    assert [epoch for k, epoch in seen if k == 1] == list(range(last_good + 1))
    healthy = fit_population(train, model, hyperparameters={"learning_rate": [0.01] * 3}, **run, **SETTINGS)
    for k in (0, 2):  # by the same program: to the bit
        assert_same_history(members[k].result.history, healthy[k].result.history)
        assert_trees_close(members[k].result.state, healthy[k].result.state)


def test_going_on_is_the_same_as_never_having_stopped(data):
    train, test = data
    arguments = {"test_data": test, "keys": jax.random.split(jax.random.key(1), 2), "batch_size": 20}
    kept = {}

    def keep(k, state, row):
        if row.epoch == 2:
            kept[k] = jax.tree.map(jnp.copy, state)

    whole = fit_population(train, MODEL, num_epochs=4, on_evaluation=keep, **arguments)
    resumed = fit_population(train, MODEL, num_epochs=4, states=[kept[0], kept[1]], **arguments)
    for a, b in zip(whole, resumed, strict=True):
        assert [row.epoch for row in b.result.history] == [3, 4]
        assert_same_history(b.result.history, a.result.history[-2:])
        assert_trees_close(b.result.state, a.result.state)


class Padded(NamedTuple):
    """A member trained together with networks of more latents.

    Attributes:
      padding: Converts between padded and original parameters.
      member: The result of the member.
      alone: The result without padding, by `aevb.fit`.
    """

    padding: Padding
    member: Member
    alone: aevb.FitResult


def train_padded(train, test, optimizer, algorithm=None, num_epochs: int = 3, **arguments) -> list[Padded]:
    """Train models of 2 and 5 latents separately, and as one program padded to 5."""
    models = [aevb.mlp_vae((12,), latent_dim, (8, 6), **arguments) for latent_dim in (2, 5)]
    keys = jax.random.split(jax.random.key(0), len(models))
    settings = {"test_data": test, "algorithm": algorithm, "batch_size": 20, "num_epochs": num_epochs}
    alone = [
        aevb.fit(train, model, key=key, optimizer=optimizer, **settings)
        for model, key in zip(models, keys, strict=True)
    ]
    paddings = [Padding(optimizer, model, models[-1]) for model in models]
    make = algorithm or aevb.auto_encoding
    initial = [
        padding.pad(jax.jit(make(model, optimizer, len(train), True).init)(jax.random.split(key)[0]))
        for padding, model, key in zip(paddings, models, keys, strict=True)
    ]
    members = fit_population(
        train, models[-1], keys=keys, initial_states=initial, optimizer=padded(optimizer, models[-1]), **settings
    )
    return [Padded(*each) for each in zip(paddings, members, alone, strict=True)]


@pytest.mark.parametrize(
    ("algorithm", "make_optimizer", "likelihood"),
    [
        (None, aevb.paper_optimizer, "gaussian"),
        pytest.param(None, lambda: optax.adam(1e-2), "bernoulli", marks=pytest.mark.slow),
        (algorithms.wake_sleep, aevb.paper_optimizer, "bernoulli"),
        pytest.param(algorithms.wake_sleep, lambda: optax.adam(1e-2), "gaussian", marks=pytest.mark.slow),
    ],
)
def test_padded_latents_contribute_exactly_nothing(wide_data, algorithm, make_optimizer, likelihood):
    arguments = {"likelihood": likelihood, "param_dtype": "float64"}
    for padding, member, alone in train_padded(*wide_data, make_optimizer(), algorithm, **arguments):
        assert_same_history(member.result.history, alone.history, RTOL)
        state = member.result.state
        cut = padding.cut(state)
        again = padding.pad(cut)
        assert_trees_close(again, state)  # the padding is still zero
        assert_trees_close(cut, alone.state, RTOL)


def test_the_first_padded_steps_in_single_precision(data):
    """Rounding does not grow in the first steps; it does where Adagrad divides a gradient near zero by itself."""
    train, test = data
    for padding, member, alone in train_padded(train[:60], test[:60], optax.sgd(0.1), num_epochs=1):
        assert int(alone.state.step) == 3
        assert_same_history(member.result.history, alone.history, rtol=1e-6)
        assert_trees_close(padding.cut(member.result.state), alone.state, rtol=1e-7)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_one_program_whatever_the_number_of_epochs_and_step_sizes(data, execution):
    train = jnp.asarray(data[0])
    algorithm = aevb.auto_encoding(MODEL, aevb.paper_optimizer(), len(train))
    train_population = make_train_population(algorithm, 20, execution=execution)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    for rates, epochs in (([0.1, 0.2], 1), ([0.3, 0.4], 2)):
        states = init_population(algorithm, jax.random.split(jax.random.key(0), 2), {"learning_rate": rates})
        del compiled[:]
        states, progress = train_population(states, train, epochs)
        assert progress.loss.shape == (2,)
        assert any("backend_compile" in event for event in compiled) == (epochs == 1)
        assert member_of(states, 1).step == epochs * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hyperparameters": {"learning_rate": [0.1]}}, "learning_rate must have a value for each of 2 members, got 1"),
        ({"hyperparameters": {"momentum": [0.1, 0.2]}}, "the optimizer keeps no 'momentum' in its state"),
        ({"execution": "at_random"}, "execution must be one of"),
    ],
)
def test_bad_arguments_are_refused(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_population(data[0], MODEL, keys=jax.random.split(jax.random.key(0), 2), **SETTINGS, **arguments)
