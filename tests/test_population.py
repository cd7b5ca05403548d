"""Many members as one program against each of them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import baselines
from aevb.training.padding import Padding, padded
from aevb.training.population import fit_population, init_population, make_train_population, member_of

MODEL = aevb.mlp_vae((12,), 2, 8)
SETTINGS = {"num_epochs": 3, "batch_size": 20}


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.RandomState(0).rand(170, 12).astype(np.float32) ** 3
    return images[:130], images[130:]


def assert_same_history(found, expected):
    columns = [name for name in aevb.Evaluation._fields if name != "seconds"]
    rows = [[[getattr(row, name) for name in columns] for row in history] for history in (found, expected)]
    np.testing.assert_allclose(*rows, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", ["side_by_side", "in_turn"])
@pytest.mark.parametrize("algorithm", [None, baselines.wake_sleep])
def test_a_member_is_what_it_is_alone(data, schedule, algorithm):
    train, test = data
    keys, rates = jax.random.split(jax.random.key(0), 3), [0.1, 0.02, 0.3]
    members = fit_population(
        MODEL,
        train,
        test_data=test,
        keys=keys,
        hyperparameters={"learning_rate": rates},
        schedule=schedule,
        algorithm=algorithm,
        **SETTINGS,
    )
    for key, rate, member in zip(keys, rates, members, strict=True):
        alone = aevb.fit(
            MODEL,
            train,
            test_data=test,
            key=key,
            optimizer=aevb.paper_optimizer(rate),
            algorithm=algorithm,
            **SETTINGS,
        )
        assert member.diverged is None
        assert_same_history(member.result.history, alone.history)
        for a, b in zip(jax.tree.leaves(member.result.state.params), jax.tree.leaves(alone.state.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(*map(jax.random.key_data, (member.result.state.key, alone.state.key)))


@pytest.mark.parametrize("schedule", ["side_by_side", "in_turn"])
def test_a_diverged_member_touches_no_other(data, schedule):
    train, _ = data
    keys = jax.random.split(jax.random.key(0), 3)
    # A Gaussian likelihood has no bound: at this step size its log-variances overflow in a few steps.
    model = aevb.mlp_vae((12,), 2, 8, likelihood="gaussian")
    seen = []
    run = {"keys": keys, "schedule": schedule, "on_evaluation": lambda k, state, row: seen.append((k, row.epoch))}
    rates = {"learning_rate": [0.01, 1e4, 0.01]}
    members = fit_population(model, train, hyperparameters=rates, **run, **SETTINGS)
    assert [member.diverged is not None for member in members] == [False, True, False]
    last_good = members[1].result.history[-1].epoch
    assert members[1].diverged is not None
    assert members[1].diverged.step >= last_good * (len(train) // 20)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(members[1].result.state.params))
    assert [epoch for k, epoch in seen if k == 1] == list(range(last_good + 1))
    healthy = fit_population(model, train, hyperparameters={"learning_rate": [0.01] * 3}, **run, **SETTINGS)
    for k in (0, 2):
        assert_same_history(members[k].result.history, healthy[k].result.history)
        jax.tree.map(np.testing.assert_array_equal, members[k].result.state.params, healthy[k].result.state.params)


def test_going_on_is_the_same_as_never_having_stopped(data):
    train, test = data
    arguments = {"test_data": test, "keys": jax.random.split(jax.random.key(1), 2), "batch_size": 20}
    kept = {}

    def keep(k, state, row):
        if row.epoch == 2:
            kept[k] = jax.tree.map(jnp.copy, state)

    whole = fit_population(MODEL, train, num_epochs=4, on_evaluation=keep, **arguments)
    resumed = fit_population(MODEL, train, num_epochs=4, states=[kept[0], kept[1]], **arguments)
    for a, b in zip(whole, resumed, strict=True):
        assert [row.epoch for row in b.result.history] == [3, 4]
        assert [row[:-1] for row in b.result.history] == [row[:-1] for row in a.result.history[-2:]]
        jax.tree.map(np.testing.assert_array_equal, a.result.state.params, b.result.state.params)


@pytest.mark.parametrize("make_optimizer", [aevb.paper_optimizer, lambda: optax.adam(1e-2)])
@pytest.mark.parametrize("algorithm", [None, baselines.wake_sleep])
def test_padded_latents_contribute_exactly_nothing(data, algorithm, make_optimizer):
    train, test = data
    optimizer, latent_dims = make_optimizer(), (2, 3, 5)
    keys = jax.random.split(jax.random.key(0), len(latent_dims))
    models = [aevb.mlp_vae((12,), latent_dim, (8, 6)) for latent_dim in latent_dims]
    alone = [
        aevb.fit(model, train, test_data=test, key=key, optimizer=optimizer, algorithm=algorithm, **SETTINGS)
        for model, key in zip(models, keys, strict=True)
    ]
    paddings = [Padding(optimizer, latent_dim, 5) for latent_dim in latent_dims]
    make = algorithm or aevb.auto_encoding
    initial = [
        padding.pad(make(model, optimizer, len(train), True).init(jax.random.split(key)[0]))
        for padding, model, key in zip(paddings, models, keys, strict=True)
    ]
    members = fit_population(
        models[-1],
        train,
        test_data=test,
        keys=keys,
        initial_states=initial,
        optimizer=padded(optimizer),
        algorithm=algorithm,
        **SETTINGS,
    )
    for padding, member, expected in zip(paddings, members, alone, strict=True):
        assert_same_history(member.result.history, expected.history)
        state = member.result.state
        cut = padding.cut(state)
        again = padding.pad(cut)
        jax.tree.map(np.testing.assert_array_equal, again.params, state.params)  # what was padded is still zero
        jax.tree.map(np.testing.assert_array_equal, again.optimizer_state, state.optimizer_state)
        assert jax.tree.structure(cut.optimizer_state) == jax.tree.structure(expected.state.optimizer_state)
        for a, b in zip(jax.tree.leaves(cut.params), jax.tree.leaves(expected.state.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("schedule", ["side_by_side", "in_turn"])
def test_one_program_whatever_the_number_of_epochs_and_step_sizes(data, schedule):
    train = jnp.asarray(data[0])
    algorithm = aevb.auto_encoding(MODEL, aevb.paper_optimizer(), len(train))
    train_population = make_train_population(algorithm, 20, schedule=schedule)
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
        ({"schedule": "at_random"}, "schedule must be one of"),
    ],
)
def test_bad_arguments_are_refused(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_population(MODEL, data[0], keys=jax.random.split(jax.random.key(0), 2), **SETTINGS, **arguments)
