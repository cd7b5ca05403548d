"""FIVO as an objective: its gradient, and training and classification with it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax.test_util import check_grads

import aevb
from aevb import Markov, Model
from aevb.particles import run_filter
from tests.gaussians import recording, state_space
from tests.test_every_model import assert_close
from tests.test_particles import KEY, drawn, wrong

pytestmark = pytest.mark.usefixtures("barely_optimized")


@pytest.mark.parametrize("kl_weight", [None, 0.3])
def test_the_gradient_is_that_of_the_value_without_resampling(x64, kl_weight):
    """It is tested in theta and phi, through z, with a gap and padding. Resampling keeps it finite."""
    exact, x = state_space(5), jnp.asarray(recording(4, 1))
    params = jax.tree.map(jnp.asarray, wrong(exact.params))

    def value(params: Any, resample_below: float) -> jax.Array:
        options = {"resample_below": resample_below, "kl_weight": kl_weight, "differentiable": True}
        return jnp.sum(run_filter(params, KEY, x, exact.model, 3, **options).log_predictive)

    never = jax.jit(functools.partial(value, resample_below=0.0))
    check_grads(never, (params,), order=1, modes=["rev"], rtol=1e-5)
    slopes = jax.jit(jax.grad(functools.partial(value, resample_below=1.0)))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slopes))


def small_state_space() -> tuple[Model, np.ndarray, Any]:
    """Return a model with its own diagonal posterior, data of a state space, and that state space's exact log p."""
    exact, length = state_space(8), 8

    def init(key: jax.Array) -> Any:
        decoder = jax.tree.map(jnp.asarray, exact.params["decoder"])
        decoder |= {"F": 0.5 * decoder["F"], "H": 0.7 * decoder["H"]}
        return {"encoder": {"z": 0.1 * jax.random.normal(key, (3, 6)), "x": jnp.zeros((8, 6))}, "decoder": decoder}

    def step(weights: jax.Array, z: jax.Array, inputs: jax.Array) -> dist.Distribution:
        mean, log_variance = jnp.split(z @ weights + inputs, 2, axis=-1)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)

    def transition(decoder: Any, z: jax.Array, time: jax.Array) -> dist.Distribution:
        del time
        return dist.Normal(z @ jnp.transpose(decoder["F"]), jnp.exp(0.5 * decoder["log_q"])).to_event(1)

    def encode(params: Any, x: jax.Array) -> Markov:
        seen = jnp.concatenate(aevb.distributions.zeros_and_mask(x), axis=-1)
        return Markov(step, params["encoder"]["z"], params["decoder"]["start"], seen @ params["encoder"]["x"])

    def prior(params: Any) -> Markov:
        return Markov(transition, params["decoder"], params["decoder"]["start"], jnp.arange(length))

    data = np.array(jnp.stack([drawn(length, 0, seed) for seed in range(32)]), np.float32)
    data[::3, 6:] = np.nan
    log_marginal = jax.jit(lambda params: jnp.mean(jax.vmap(exact.log_marginal, (None, 0))(params, jnp.asarray(data))))
    return Model(init, encode, exact.model.decode, prior), data, log_marginal


def test_training_raises_the_exact_log_marginal():
    model, data, log_marginal = small_state_space()
    before = float(log_marginal(model.init(jax.random.split(KEY)[0])))
    estimator = aevb.Estimator(8, bound="fivo")
    settings = {"estimator": estimator, "optimizer": optax.adam(1e-2), "batch_size": 16, "num_epochs": 60}
    result = aevb.fit(data, model, key=KEY, valid_data=data[:8], map_prior=False, eval_every=30, **settings)
    first, last = result.history[0], result.history[-1]
    truth = float(log_marginal(result.state.params))
    assert before + 1 < truth
    assert first.train_fivo + 1 < last.train_fivo < truth
    assert last.train_elbo < last.train_fivo
    assert last.valid_bound == last.valid_fivo
    assert np.isnan(last.train_iwae)
    found = aevb.evaluate(result.state.params, KEY, data, model, aevb.Estimator(300, bound="fivo"))
    assert last.train_fivo - 0.1 < found.fivo < truth + 0.05
    weight = functools.partial(aevb.auto_encoding, estimator=estimator, kl_weight=optax.linear_schedule(0.0, 1.0, 20))
    settings = {key: value for key, value in settings.items() if key != "estimator"}
    warm = aevb.fit(data, model, key=KEY, map_prior=False, eval_every=60, algorithm=weight, **settings)
    assert warm.history[-1].train_fivo > first.train_fivo + 1


@pytest.mark.slow
def test_a_population_and_a_stream(x64):
    model, data, _ = small_state_space()
    data, keys = data.astype(np.float64), jax.random.split(KEY, 2)
    algorithm = functools.partial(aevb.auto_encoding, estimator=aevb.Estimator(4, bound="fivo"))
    settings = {"algorithm": algorithm, "optimizer": aevb.paper_optimizer(0.05), "batch_size": 8, "num_epochs": 2}
    members = aevb.fit_population(data, model, keys=keys, execution="side_by_side", **settings)
    for key, member in zip(keys, members, strict=True):
        alone = aevb.fit(data, model, key=key, **settings)
        assert_close(member.result.state, alone.state)
        assert member.result.history[-1].train_fivo == pytest.approx(alone.history[-1].train_fivo, rel=1e-9)
    streamed = aevb.fit(aevb.Stream(list(data), block_size=10), model, key=keys[0], **settings)
    assert np.isfinite(streamed.history[-1].train_fivo)


def test_classification_by_the_filter():
    """There is one state space per class, with its own start. Their bounds are compared as usual."""
    exact = state_space(8)

    def at(params: Any, label: jax.Array) -> Any:
        start = jnp.where(label == 1, 6.0, -6.0) * jnp.ones(3)
        return params | {"decoder": params["decoder"] | {"start": start}}

    model = Model(
        exact.model.init,
        lambda params, x, label: exact.model.encode(at(params, label), x),
        lambda params, z, label: exact.model.decode(params, z),
        lambda params, label: exact.model.prior(at(params, label)),
    )
    params, labels = model.init(KEY), np.arange(6) % 2
    draw = lambda label: model.prior(params, label).sample(jax.random.key(label))
    data = [exact.model.decode(params, draw(label)).mean for label in labels]
    estimator = aevb.Estimator(20, "sampled", bound="fivo")
    found = aevb.classify(params, KEY, jnp.stack(data), model, num_classes=2, estimator=estimator)
    np.testing.assert_array_equal(found.labels, labels)
