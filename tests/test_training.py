import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.algorithms import Progress
from aevb.data.binarization import binarize_batch
from tests import oracles
from tests.comparisons import assert_same_history, assert_trees_close
from tests.models import DATA_DIM, MODELS, linear_gaussian_model

MODEL = MODELS["bernoulli"][0]


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.RandomState(0).rand(230, DATA_DIM).astype(np.float32)


def trees_equal(one, other) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), one, other))


def test_map_prior_weighs_one_over_n(data):
    # Weights of order one, so that the prior's part of the loss is far above rounding.
    params = jax.tree.map(lambda a: 100 * a, MODEL.init(jax.random.key(0)))
    key, xs = jax.random.key(1), jnp.asarray(data[:100])
    plain, penalized = (
        aevb.make_loss(MODEL, 5000, map_prior=map_prior)(params, key, xs) for map_prior in (False, True)
    )
    squares = sum(float(np.sum(np.asarray(leaf, np.float64) ** 2)) for leaf in jax.tree.leaves(params["decoder"]))
    assert squares > 50
    assert float(penalized - plain) == pytest.approx(0.5 * squares / 5000, rel=1e-3)
    gradients = [
        jax.grad(aevb.make_loss(MODEL, 5000, map_prior=map_prior))(params, key, xs) for map_prior in (False, True)
    ]
    difference = jax.tree.map(lambda a, b: b - a, *gradients)
    for leaf, weight in zip(jax.tree.leaves(difference["decoder"]), jax.tree.leaves(params["decoder"]), strict=True):
        np.testing.assert_allclose(leaf, weight / 5000, atol=1e-6)
    assert trees_equal(gradients[0]["encoder"], gradients[1]["encoder"])


def test_map_prior_needs_a_decoder_to_be_over(data):
    model = aevb.Model(lambda key: {"theta": jnp.zeros(3)}, MODEL.encode, MODEL.decode, MODEL.prior)
    with pytest.raises(ValueError, match=r"params\[\"decoder\"\], but params are \['theta'\]"):
        aevb.algorithms.standard_normal_log_prior(model.init(jax.random.key(0)))


def test_step_size_does_not_depend_on_the_batch_size(x64):
    """The loss is a mean: repeating the same rows gives the same loss, up to their noise."""
    exact = oracles.LinearGaussian.random(DATA_DIM, 3, 0)
    model = linear_gaussian_model(exact)
    params = model.init(jax.random.key(0))
    xs = jnp.asarray(np.random.RandomState(0).randn(4, DATA_DIM))
    loss = aevb.make_loss(model, 1000, aevb.Estimator(kl="sampled"))  # at the exact posterior it has no noise
    once, repeated = loss(params, jax.random.key(1), xs), loss(params, jax.random.key(2), jnp.tile(xs, (25, 1)))
    np.testing.assert_allclose(once, repeated, rtol=1e-9)
    np.testing.assert_allclose(-once, np.mean([exact.log_marginal(np.asarray(x)) for x in xs]), rtol=1e-9)


def test_an_epoch_sees_every_datapoint_once():
    """Data are unit vectors and the loss is linear, so that the parameters count the datapoints seen."""
    count, batch_size = 23, 5
    optimizer = optax.sgd(1.0)
    loss = lambda params, key, xs: -jnp.sum(xs @ params)
    epochs = aevb.make_train_epochs(aevb.descent(MODEL, loss, optimizer), batch_size)
    params = jnp.zeros(count)
    state = aevb.TrainState(params, optimizer.init(params), jax.random.key(0), jnp.int32(0))
    seen = []
    for _ in range(6):
        before = np.asarray(state.params)
        state, _ = epochs(state, jnp.eye(count), 1)
        counts = np.asarray(state.params) - before
        assert sorted(set(counts)) in ([0, 1], [1])
        assert counts.sum() == 20
        seen.append(counts)
    assert len({tuple(counts) for counts in seen}) > 1  # different ones are omitted each time
    assert int(state.step) == 24


@pytest.mark.parametrize("binarization", ["grey", "stochastic"])
def test_epochs_equal_steps_one_by_one(x64, data, binarization):
    model, data = aevb.mlp_vae((DATA_DIM,), 3, 8, param_dtype="float64"), data.astype(np.float64)
    optimizer = optax.adam(1e-2)
    loss = aevb.make_loss(model, len(data), map_prior=True)
    epochs = aevb.make_train_epochs(aevb.descent(model, loss, optimizer), 50, binarization)
    step = aevb.make_train_step(loss, optimizer)
    together, _ = epochs(aevb.init_train_state(jax.random.key(0), model, optimizer), jnp.asarray(data), 2)

    state = aevb.init_train_state(jax.random.key(0), model, optimizer)
    for _ in range(2):
        key, shuffle_key = jax.random.split(state.key)
        order = jax.random.permutation(shuffle_key, len(data))
        state = state._replace(key=key)
        for batch in range(4):
            key, binarize_key = jax.random.split(state.key) if binarization == "stochastic" else (state.key, state.key)
            xs = binarize_batch(binarize_key, jnp.asarray(data)[order[50 * batch : 50 * batch + 50]], binarization)
            state, _ = step(state._replace(key=key), xs)
    assert int(together.step) == int(state.step) == 8
    assert_trees_close(together, state, rtol=1e-9)


def test_buffers_are_donated_and_nothing_returns_to_the_host(data):
    optimizer = aevb.paper_optimizer()
    epochs = aevb.make_train_epochs(aevb.auto_encoding(MODEL, optimizer, len(data)), 50)
    state = aevb.init_train_state(jax.random.key(0), MODEL, optimizer)
    device_data, num_epochs = jnp.asarray(data), jnp.int32(3)
    compiled = epochs.lower(state, device_data, num_epochs).compile()
    kernel = state.params["encoder"]["Dense_0"]["kernel"]
    with jax.transfer_guard("disallow"):
        state, progress = compiled(state, device_data, num_epochs)
    assert kernel.is_deleted()
    assert isinstance(progress, Progress)
    assert int(progress.first_bad_step) == -1
    assert int(state.step) == 12


def test_adagrad_starts_at_zero():
    """Its first step then equals the learning rate in every direction, however small the gradient."""
    optimizer = aevb.paper_optimizer(0.02)
    params = jnp.zeros(3)
    updates, _ = optimizer.update(jnp.array([5.0, -0.1, 0.05]), optimizer.init(params), params)
    np.testing.assert_allclose(updates, [-0.02, 0.02, -0.02], rtol=1e-4)


@pytest.mark.parametrize("learning_rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_size_out_of_range_is_refused(learning_rate):
    with pytest.raises(ValueError, match=f"learning_rate must be positive and finite, got {learning_rate}"):
        aevb.paper_optimizer(learning_rate)


def test_fit_reaches_the_marginal_likelihood_of_a_linear_gaussian_model(x64):
    """With J = 1 the family contains the posterior, so the bound must become tight."""
    exact = oracles.LinearGaussian.random(5, 1, 3)
    rng = np.random.RandomState(0)
    xs = rng.randn(2000, 1) @ exact.weights.T + exact.bias + exact.noise_variance**0.5 * rng.randn(2000, 5)
    model = linear_gaussian_model(exact)
    start = lambda key: {
        "encoder": jax.tree.map(lambda a: 0.3 * a, model.init(key)["encoder"]),
        "decoder": model.init(key)["decoder"],
    }
    frozen = optax.multi_transform(
        {"train": optax.adam(5e-3), "freeze": optax.set_to_zero()}, {"encoder": "train", "decoder": "freeze"}
    )
    result = aevb.fit(
        xs, aevb.Model(start, model.encode, model.decode, model.prior), key=jax.random.key(0), optimizer=frozen,
        num_epochs=60, map_prior=False, estimator=aevb.Estimator(kl="sampled"), eval_every=20,
    )  # fmt: skip
    marginal = np.mean([exact.log_marginal(x) for x in xs])
    assert result.history[0].train_elbo < marginal - 1
    assert marginal - 0.02 < result.history[-1].train_elbo <= marginal + 0.005


def test_fit_from_numpy_arrays_records_a_history(data):
    seen = []
    result = aevb.fit(
        data[:200], MODEL, key=jax.random.key(0), test_data=data[200:], num_epochs=5, batch_size=50, eval_every=2,
        on_evaluation=lambda state, row: seen.append((int(state.step), row)),
    )  # fmt: skip
    assert [row.epoch for row in result.history] == [0, 2, 4, 5]
    assert [row.num_train_samples for row in result.history] == [0, 400, 800, 1000]
    assert seen == [(4 * row.epoch, row) for row in result.history]
    assert result.history[-1].train_elbo > result.history[0].train_elbo
    last = result.history[-1]
    assert last.test_elbo == pytest.approx(last.test_reconstruction - last.test_kl)


def test_fit_is_reproducible_and_seeds_differ(data):
    fit = functools.partial(aevb.fit, data, MODEL, num_epochs=2, batch_size=50)
    one, same, other = (fit(key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert_trees_close(one.state, same.state)
    assert_same_history(one.history, same.history)
    assert not trees_equal(one.state.params, other.state.params)


def test_fit_goes_on_from_a_state_to_the_same_bits(data):
    fit = functools.partial(aevb.fit, data, MODEL, key=jax.random.key(0), batch_size=50, eval_every=2)
    whole = fit(num_epochs=7)
    first = fit(num_epochs=3)
    rest = fit(num_epochs=7, state=first.state)
    assert_trees_close(whole.state, rest.state)
    rows = {row.epoch: row.train_elbo for row in (*first.history, *rest.history)}
    for row in whole.history:
        assert rows[row.epoch] == row.train_elbo


def test_divergence_names_the_first_bad_step(data):
    optimizer = optax.sgd(1e25)
    with pytest.raises(aevb.DivergedError, match="at step") as caught:
        aevb.fit(data, MODEL, key=jax.random.key(0), optimizer=optimizer, batch_size=50, num_epochs=4, eval_every=4)

    train_key, _ = jax.random.split(jax.random.key(0))
    loss = aevb.make_loss(MODEL, len(data), map_prior=True)
    state = aevb.init_train_state(train_key, MODEL, optimizer)
    key, shuffle_key = jax.random.split(state.key)
    order = jax.random.permutation(shuffle_key, len(data))
    state, step = state._replace(key=key), aevb.make_train_step(loss, optimizer)
    index = 0
    for index in range(4):
        state, value = step(state, jnp.asarray(data)[order[50 * index : 50 * index + 50]])
        if not np.isfinite(value):
            break
    assert caught.value.step == index > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 231}, "batch_size must be between 1 and the size of the data set, 230, got 231"),
        ({"batch_size": 0}, "batch_size must be between 1 and the size of the data set, 230, got 0"),
        ({"num_epochs": -1}, "num_epochs must be at least 0, got -1"),
        ({"eval_every": 0}, 'eval_every must be at least 1, or "log", got 0'),
        ({"binarization": "gray"}, "binarization must be one of"),
        ({"test_data": np.zeros((0, DATA_DIM), np.float32)}, "test_data is empty"),
        ({"data": np.full((200, DATA_DIM), 7, np.uint8)}, "data ranges from 7 to 7, outside of the"),
        ({"data": np.zeros((200, 5), np.float32)}, r"datapoints of data have shape \(5,\)"),
    ],
)
def test_fit_refuses_bad_arguments_before_training(data, arguments, message):
    arguments = {"data": data, "key": jax.random.key(0)} | arguments
    with pytest.raises(ValueError, match=message):
        aevb.fit(model=MODEL, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kl": "none"}, "kl must be one of"), ({"num_samples": 0}, "num_samples must be at least 1, got 0")],
)
def test_estimators_refuse_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        aevb.Estimator(**arguments)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains(name, data):
    model, kl = MODELS[name]
    xs = data.reshape(-1, 3, 2, 2) if name == "image" else data
    result = aevb.fit(
        xs, model, key=jax.random.key(0), optimizer=optax.adam(1e-2), estimator=aevb.Estimator(kl=kl), num_epochs=10,
        batch_size=50, eval_every=10,
    )  # fmt: skip
    assert result.history[-1].train_elbo > result.history[0].train_elbo
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result.state.params))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"latent_dim": 0}, ValueError, "latent_dim must be at least 1, got 0"),
        ({"latent_dim": 2.5}, TypeError, "latent_dim must be an integer, got 2.5"),
        ({"hidden_dim": ()}, ValueError, "hidden_dim must not be empty"),
        ({"likelihood": "poisson"}, ValueError, "likelihood must be one of"),
        ({"posterior": "delta"}, ValueError, "posterior must be one of"),
        ({"weight_init": "zeros"}, ValueError, "weight_init must be one of"),
        ({"squash_mean": True}, ValueError, "squash_mean is for likelihood"),
        ({"latent_dim": 1, "posterior": "flow"}, ValueError, "needs latent_dim of at least 2"),
    ],
)
def test_networks_refuse_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        aevb.mlp_vae(**({"data_shape": (4,), "latent_dim": 2} | arguments))


@pytest.mark.parametrize(("weight_init", "scale"), [("normal_0.01", 0.01), ("normal_0.1", 0.1)])
def test_initial_weights_have_the_stated_scale(weight_init, scale):
    params = aevb.mlp_vae((784,), 20, weight_init=weight_init).init(jax.random.key(0))
    for part in params.values():
        for layer in part.values():
            assert np.std(layer["kernel"]) == pytest.approx(scale, rel=0.05)
            assert 0.5 * scale < np.std(layer["bias"]) < 1.5 * scale


def test_glorot_scales_by_fan():
    params = aevb.mlp_vae((784,), 20, weight_init="glorot").init(jax.random.key(0))
    kernel = params["encoder"]["Dense_0"]["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (784 + 500)), rel=0.02)
    assert not np.any(params["encoder"]["Dense_0"]["bias"])


def test_logarithmic_evaluations_do_not_depend_on_where_training_stops(data):
    epochs = lambda last: [
        row.epoch for row in aevb.fit(data, MODEL, key=jax.random.key(0), num_epochs=last, eval_every="log").history
    ]
    assert epochs(12) == [0, 1, 2, 3, 4, 5, 6, 8, 10, 12]
    assert epochs(9) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
