"""The start of training: initial biases, Adam's moments, KL warm-up, and their flags."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb.models import start_at_mean
from aevb.training.optimizers import keeping_learning_rate
from experiments.optimizers import make_optimizer
from experiments.runs.program import Program, make_algorithm
from tests.comparisons import assert_trees_close
from tests.runs import tiny_config, tiny_splits, train_into

MEAN = 0.1 + 0.8 * np.random.RandomState(1).rand(12)


def _head(params, place=("decoder",)):
    for name in place:
        params = params[name]
    return params[max(params)]["bias"]


@pytest.mark.parametrize("hidden_dim", [7, 12, (12, 5)], ids=str)  # 12 is also the number of values
def test_decoder_starts_at_the_mean(hidden_dim):
    plain = aevb.mlp_vae((3, 4), 2, hidden_dim, weight_init="glorot")
    model = start_at_mean(plain, MEAN.reshape(3, 4))
    params, before = model.init(jax.random.key(3)), plain.init(jax.random.key(3))
    np.testing.assert_allclose(jax.nn.sigmoid(_head(params)), MEAN, rtol=1e-5)
    assert model.decode(params, jnp.zeros(2)).event_shape == (3, 4)
    head = max(before["decoder"])
    before["decoder"][head] = {**before["decoder"][head], "bias": params["decoder"][head]["bias"]}
    assert_trees_close(params, before)
    # At z = 0, tanh networks without other biases are 0: only the bias is left.
    np.testing.assert_allclose(model.decode(params, jnp.zeros(2)).mean.ravel(), MEAN, rtol=1e-5)


def test_mean_that_is_0_or_1_has_finite_log_odds():
    model = start_at_mean(aevb.mlp_vae((2,), 1, 3), [0.0, 1.0])
    np.testing.assert_allclose(jax.nn.sigmoid(_head(model.init(jax.random.key(0)))), [0.001, 0.999], rtol=1e-4)


def test_conditional_decoder_starts_at_the_mean():
    model = start_at_mean(aevb.models.conditional_vae((12,), 2, num_classes=3, learned_prior=True), MEAN)
    found = _head(model.init(jax.random.key(0)), ("decoder", "likelihood"))
    np.testing.assert_allclose(jax.nn.sigmoid(found), MEAN, rtol=1e-5)


def test_models_that_start_alike_are_equal_and_are_saved_as_the_model_they_are(tmp_path):
    plain = aevb.mlp_vae((12,), 2, 4)
    one, other = start_at_mean(plain, MEAN), start_at_mean(plain, list(MEAN))
    assert one == other
    assert hash(one) == hash(other)
    assert one != start_at_mean(plain, MEAN / 2)
    params = one.init(jax.random.key(0))
    aevb.save(tmp_path / "model", one, params)
    model, loaded = aevb.load(tmp_path / "model")
    assert model == plain
    assert_trees_close(loaded, params)


@pytest.mark.parametrize(
    ("model", "mean", "message"),
    [
        (aevb.mlp_vae((12,), 2, 4), MEAN[:4], "no last layer with 4 biases"),
        (aevb.mlp_vae((12,), 2, 4), 255 * MEAN, r"values in \[0, 1\]"),
        (aevb.mlp_vae((12,), 2, 4), np.full(12, np.nan), r"values in \[0, 1\]"),
        (aevb.mlp_vae((12,), 2, 4, likelihood="gaussian"), MEAN, "no last layer with 12 biases"),
    ],
)
def test_mean_that_is_none_is_refused(model, mean, message):
    with pytest.raises(ValueError, match=message):
        start_at_mean(model, mean)


def test_adam_whose_second_moments_start_above_zero():
    """Three steps against Adam written out in NumPy, with the same correction and another start."""
    beta1, beta2, epsilon, rate, start = 0.99, 0.999, 1e-4, 1e-3, 0.25
    optimizer = make_optimizer("adam", rate, epsilon=epsilon, beta1=beta1, initial_second_moment=start)
    params = jnp.zeros(3)
    state = optimizer.init(params)
    gradients = np.random.RandomState(0).randn(3, 3)
    expected, m, v = np.zeros(3), np.zeros(3), np.full(3, start)
    for t, gradient in enumerate(gradients, 1):
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        expected -= rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    np.testing.assert_allclose(params, expected, rtol=1e-5)


def test_adam_without_options_is_optax_adam():
    ours, theirs = make_optimizer("adam", 1e-3), keeping_learning_rate(optax.adam)(learning_rate=1e-3)
    found = [made.update(jnp.ones(2), made.init(jnp.ones(2)), jnp.ones(2))[0] for made in (ours, theirs)]
    assert_trees_close(*found)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sgd", {"beta1": 0.5}, "beta1 and initial_second_moment are for adam, not sgd"),
        ("adagrad", {"initial_second_moment": 1.0}, "are for adam, not adagrad"),
        ("adam", {"beta1": 1.0}, "beta1 must be at least 0 and below 1, got 1"),
    ],
)
def test_options_of_adam_are_of_adam(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(name, 1e-3, **options)


SPLITS = tiny_splits()


def test_kl_warms_up_by_the_epoch(x64):
    """After half of the warm-up the KL has weight one half, after all of it one, as the parameters show."""
    config = tiny_config(SPLITS, kl_warm_up=4, optimizer="sgd", learning_rate=1.0, map_prior=False)
    model, xs = config.build_model(), jnp.asarray(SPLITS.train.pixels()[:20])
    algorithm = make_algorithm(config, 11)(model, optax.sgd(1.0), 230, False)
    state = algorithm.init(jax.random.key(0))
    # SGD with rate 1 on the loss: the change of the parameters is the gradient of reconstruction - weight x KL.
    for step, weight in ((0, 0.0), (22, 0.5), (44, 1.0), (99, 1.0)):
        after, _ = algorithm.step(state._replace(step=jnp.asarray(step)), xs, jnp.arange(20))
        key = jax.random.split(jax.random.split(state.key)[1], 20)

        def objective(params, weight=weight, key=key):
            terms = jax.vmap(aevb.elbo_terms, (None, 0, 0, None))(params, key, xs, model)
            return jnp.mean(terms.reconstruction - weight * terms.kl)

        expected = jax.tree.map(jnp.add, state.params, jax.grad(objective)(state.params))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), after.params, expected)


@pytest.mark.parametrize("flag", [{"bound": "iwae"}, {"kl_warm_up": 1}, {"free_bits": 0.5}], ids=str)
def test_objectives_of_aevb_are_not_for_baselines(flag):
    with pytest.raises(ValueError, match=f"{next(iter(flag))} is for the algorithm aevb, not wake_sleep"):
        make_algorithm(tiny_config(SPLITS, algorithm="wake_sleep", **flag), 11)


def test_run_starts_at_the_mean_of_its_training_images_and_reports_what_it_ascends(tmp_path, x64):
    values = {"output_bias": "data_mean", "bound": "iwae", "num_samples": 4, "gradient": "doubly_reparameterized"}
    config = tiny_config(SPLITS, num_epochs=0, **values)
    program = Program([config], SPLITS)
    mean = SPLITS.train.pixels().mean(0)
    np.testing.assert_allclose(jax.nn.sigmoid(_head(program.template(config).params)), mean, rtol=1e-6)
    history = train_into(tmp_path / "run", config, SPLITS)
    _, params = aevb.load_run(tmp_path / "run")
    np.testing.assert_allclose(jax.nn.sigmoid(_head(params)), mean, rtol=1e-6)
    assert history[-1].test_iwae > history[-1].test_elbo


def test_members_start_at_the_mean_too(x64):
    """Members of two latent sizes in one population each start at their own mean."""
    config = tiny_config(SPLITS, output_bias="data_mean")
    sizes = [dataclasses.replace(config), tiny_config(SPLITS, output_bias="data_mean", latent_dim=2)]
    program = Program(sizes, SPLITS)
    for each in sizes:
        found = _head(program.template(each).params)
        np.testing.assert_allclose(jax.nn.sigmoid(found), SPLITS.train.pixels().mean(0), rtol=1e-6)


def test_mean_is_of_pixels_that_are_probabilities():
    config = tiny_config(SPLITS, output_bias="data_mean", likelihood="gaussian")
    with pytest.raises(ValueError, match="needs likelihood=bernoulli"):
        Program([config], SPLITS)
