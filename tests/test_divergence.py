"""Reports of NaN and infinity in training: the step, the datapoints, the member."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb.algorithms import base
from aevb.training import epochs
from aevb.training.population import fit_population
from experiments import configs
from experiments.configs import Config
from experiments.runs.folder import RunFolder
from experiments.runs.recorder import Recorder


class Anything(dist.Distribution):
    """A likelihood of unknown support: no datapoint is refused before training, not even NaN and infinity."""

    def __init__(self):
        super().__init__((), (12,))


def standard(*_) -> dist.Distribution:
    return dist.Normal(jnp.zeros(2), 1.0).to_event(1)


COUNTED = aevb.Model(lambda key: jnp.ones(12), standard, lambda params, z: Anything(), lambda params: standard())
SIZE, BATCH_SIZE, PLANTED = 130, 20, 57
STEPS = SIZE // BATCH_SIZE
FIT = functools.partial(aevb.fit, model=COUNTED, key=jax.random.key(0), batch_size=BATCH_SIZE)


@pytest.fixture
def data() -> np.ndarray:
    return np.random.RandomState(0).rand(SIZE, 12).astype(np.float32)


@pytest.fixture(params=["resident", "streamed"])
def wrapped(request):
    """Data in memory, or streamed in blocks of two minibatches for 50 rows."""
    return (lambda data: data) if request.param == "resident" else functools.partial(aevb.Stream, block_size=50)


def counting_algorithm(penalty, model, optimizer, dataset_size, map_prior):
    """Evaluates nothing and ignores the key, so that `first_order` is the order of the first epoch."""
    del dataset_size, map_prior

    def step(state, xs, indices):
        loss = lambda params: jnp.mean(jnp.square(params)) + penalty(params, xs, state.step)
        state, value = base.update(optimizer, state, loss)
        return state._replace(step=state.step + 1), value

    def init(key):
        params = jnp.ones(12)
        return aevb.TrainState(params, optimizer.init(params), key, jnp.int32(0))

    return aevb.Algorithm(init, step, evaluated_params=None)


def orders(key, num_epochs: int) -> np.ndarray:
    """Return the minibatches of all steps of a `fit` by `key` and `counting_algorithm`, `[steps, M]`."""
    key, found = jax.random.split(key)[0], []
    for _ in range(num_epochs):
        key, shuffle_key = jax.random.split(key)
        found.append(np.asarray(epochs.epoch_batches(shuffle_key, SIZE, BATCH_SIZE)))
    return np.concatenate(found)


def first_step_with(planted: int, batches: np.ndarray) -> int:
    return int(np.flatnonzero(np.any(batches == planted, axis=1))[0])


def norm_penalty(params, xs, step):
    """The norm of x * params, which is finite everywhere, but whose gradient is not at x = 0."""
    del step
    return jnp.mean(jnp.sqrt(jnp.sum((xs * params) ** 2, axis=1)))


@pytest.mark.parametrize("planted", [float("nan"), float("inf"), 0.0])
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), aevb.paper_optimizer(0.1)])
def test_the_step_and_minibatch_of_a_planted_datapoint_are_named(data, wrapped, planted, optimizer):
    """Zeros make only the gradient NaN. Losses show that one step later, in another minibatch."""
    data[PLANTED] = planted
    algorithm = functools.partial(counting_algorithm, norm_penalty)
    with pytest.raises(aevb.DivergedError) as caught:
        FIT(wrapped(data), algorithm=algorithm, optimizer=optimizer, num_epochs=4, eval_every=4)
    batches = orders(jax.random.key(0), 4)
    step = first_step_with(PLANTED, batches)
    assert caught.value.step == step
    assert caught.value.indices == tuple(batches[step].tolist())
    assert PLANTED in caught.value.indices
    assert caught.value.member is None
    first = ", ".join(map(str, batches[step][:5]))
    assert f"at step {step}, on a minibatch of 20 datapoints: {first}, ..." in str(caught.value)


@pytest.mark.parametrize("bad_step", [0, 4, STEPS - 1, STEPS, 3 * STEPS - 1])
def test_a_gradient_that_is_not_finite_is_noticed_at_its_step(data, wrapped, bad_step):
    """This includes the first and last steps of epochs and of intervals between evaluations."""

    def penalty(params, xs, step):
        del xs
        return jnp.sqrt(jnp.where(step == bad_step, 0.0, 1.0) * jnp.sum(params**2))

    algorithm = functools.partial(counting_algorithm, penalty)
    with pytest.raises(aevb.DivergedError) as caught:
        FIT(wrapped(data), algorithm=algorithm, optimizer=optax.sgd(0.1), num_epochs=6, eval_every=3)
    assert caught.value.step == bad_step
    assert caught.value.indices == tuple(orders(jax.random.key(0), 3)[bad_step].tolist())


def test_it_stops_within_one_interval_of_evaluations(data, wrapped):
    """This also holds if no loss shows that the parameters diverged."""

    def penalty(params, xs, step):
        del xs
        return jnp.sqrt(jnp.where(step == 8, 0.0, 1.0) * params[0] ** 2)

    def algorithm(model, optimizer, dataset_size, map_prior):
        made = counting_algorithm(penalty, model, optimizer, dataset_size, map_prior)
        blind = lambda state, xs, indices: (made.step(state, xs, indices)[0], jnp.float32(0))
        return made._replace(step=blind)

    with pytest.raises(aevb.DivergedError) as caught:
        FIT(wrapped(data), algorithm=algorithm, optimizer=optax.sgd(0.1), num_epochs=1000, eval_every=2)
    assert caught.value.step == 8


def test_parameters_that_are_infinite_from_the_beginning_are_no_divergence(data):
    def algorithm(model, optimizer, dataset_size, map_prior):
        made = counting_algorithm(lambda params, xs, step: 0.0, model, optimizer, dataset_size, map_prior)
        masked = lambda state, xs, indices: (state._replace(step=state.step + 1), jnp.float32(0))
        init = lambda key: made.init(key)._replace(params=jnp.full(12, -jnp.inf))
        return made._replace(init=init, step=masked)

    assert int(FIT(data, algorithm=algorithm, num_epochs=2).state.step) == 2 * STEPS


def test_evaluation_names_the_datapoints_whose_bound_is_not_finite(data, wrapped):
    """Values may be missing, but the encoder receives their NaN."""
    model = aevb.Model(
        lambda key: {"encoder": jnp.ones((12, 2)), "decoder": jnp.ones((2, 12))},
        lambda params, x: dist.Normal(x @ params["encoder"], 1.0).to_event(1),
        lambda params, z: aevb.Observed(dist.Normal(z @ params["decoder"], 1.0)),
        lambda params: standard(),
    )
    data[[PLANTED, 3]] = np.nan
    with pytest.raises(aevb.DivergedError, match="became nan at step 0, because of 2 datapoints: 3, 57") as caught:
        FIT(wrapped(data), model=model, num_epochs=1)
    assert (caught.value.step, caught.value.indices) == (0, (3, PLANTED))


@pytest.mark.parametrize("execution", ["side_by_side", "in_turn"])
def test_a_population_names_the_member_and_leaves_the_others_alone(x64, data, execution):
    """The results equal those of separate training. The programs differ, hence double precision."""

    def penalty(params, xs, step):
        del xs, step
        return jnp.sqrt(jnp.maximum(params[0] - 0.5, 0))  # NaN gradient once the first parameter has fallen to 0.5

    fit = functools.partial(
        fit_population,
        data,
        COUNTED,
        algorithm=functools.partial(counting_algorithm, penalty),
        optimizer=aevb.paper_optimizer(),
        batch_size=BATCH_SIZE,
        num_epochs=4,
        eval_every=2,
        execution=execution,
    )
    keys = jax.random.split(jax.random.key(0), 3)
    members = fit(keys=keys, hyperparameters={"learning_rate": [1e-4, 0.2, 1e-4]})
    diverged = members[1].diverged
    assert [member.diverged is None for member in members] == [True, False, True]
    assert diverged is not None
    assert diverged.member == 1
    assert f"at step {diverged.step} of member 1, on a minibatch of 20 datapoints: " in str(diverged)
    assert diverged.indices == tuple(orders(keys[1], 4)[diverged.step].tolist())
    alone = functools.partial(FIT, data, key=keys[1], algorithm=functools.partial(counting_algorithm, penalty))
    with pytest.raises(aevb.DivergedError) as caught:
        alone(optimizer=aevb.paper_optimizer(0.2), num_epochs=4)
    assert (caught.value.step, caught.value.indices) == (diverged.step, diverged.indices)
    without = fit(keys=keys[jnp.array([0, 2])], hyperparameters={"learning_rate": [1e-4, 1e-4]})
    for member, expected in zip((members[0], members[2]), without, strict=True):
        np.testing.assert_allclose(member.result.state.params, expected.result.state.params, rtol=1e-9)
        assert int(member.result.state.step) == 4 * STEPS


def test_a_state_that_has_diverged_is_not_saved(tmp_path):
    """A stream pauses before the divergence of its block is known."""
    folder = RunFolder(tmp_path / "run", configs.change(Config(), num_epochs=2, batch_size=BATCH_SIZE))
    recorder = Recorder(folder, "run", 2 * STEPS, keep_all=True)
    state = aevb.init_train_state(jax.random.key(0), aevb.mlp_vae((12,), 2, 8), aevb.paper_optimizer())
    recorder.record(state, aevb.Evaluation(0, 0, -1.0, -1.0, -1.0, 0.0, 0, 0.0))
    recorder.save(state._replace(step=state.step + 1), 1.0)
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, state.params)
    recorder.save(state._replace(step=state.step + 2, params=broken), 2.0)
    recorder.close()
    assert sorted(path.name for path in folder.checkpoints.glob("[0-9]*")) == ["0", "1"]
