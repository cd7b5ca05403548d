"""Arguments in another order or of another kind: each mistake is answered at once, in one or two lines."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import Estimator, marginal_likelihood, posterior
from aevb.algorithms import full_vb, monte_carlo_em, wake_sleep
from tests.newcomers import (
    DATA_DIM,
    FLOW,
    KEY,
    KEYS,
    LATENT_DIM,
    LINEAR,
    OLD_KEY,
    OPTIMIZER,
    PIXEL_MODEL,
    PROGRAMS,
    SIZE,
    WEIGHTS,
    XS,
    Calls,
    Mistake,
    assert_answered,
    compiling,
    elbo,
    encoded,
    evaluate,
    everywhere,
    fit,
    iwae,
    linear,
    marginal,
    minibatch,
    parameters,
    population,
    prior,
    sample,
    state_of,
    wrong,
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_right_works_and_compiles(name):
    """This ensures that the other tests look for existing names."""
    jax.clear_caches()
    with compiling() as compiled:
        PROGRAMS[name]()
    assert name in compiled


def of_key(key: Any) -> Calls:
    """Return calls of every function that takes a key."""
    return {
        "elbo": lambda: elbo(key=key),
        "iwae_bound": lambda: iwae(key=key),
        "minibatch_elbo": lambda: minibatch(key=key),
        "a loss": lambda: aevb.make_loss(LINEAR, SIZE)(WEIGHTS, key, XS),
        "a weighted loss": lambda: aevb.make_loss(LINEAR, SIZE, kl_weight=2.0)(WEIGHTS, key, XS),
        "reparameterize": lambda: aevb.reparameterize(prior(None), key),
        "evaluate": lambda: evaluate(key=key),
        "fit": lambda: fit(key=key),
        "init_train_state": lambda: state_of(key=key),
        "the init of full_vb": lambda: full_vb(LINEAR, OPTIMIZER, SIZE).init(key),
        "the init of monte_carlo_em": lambda: monte_carlo_em(LINEAR, OPTIMIZER, SIZE).init(key),
        "marginal_likelihood.evaluate": lambda: marginal(key=key),
        "importance_sampling": lambda: marginal_likelihood.importance_sampling(WEIGHTS, key, XS[0], LINEAR),
        "posterior.sample": lambda: sample(key=key),
        "posterior.encode": lambda: encoded(key=key, num_samples=2),
    }


def of_count(count: Any) -> Calls:
    """Return calls of every function that takes a count."""
    return {
        "num_samples of elbo": lambda: elbo(num_samples=count),
        "num_samples of iwae_bound": lambda: iwae(num_samples=count),
        "num_samples of Estimator": lambda: Estimator(num_samples=count),
        "num_samples of importance_sampling": lambda: marginal(num_samples=count),
        "num_samples of posterior.sample": lambda: sample(num_samples=count),
        "num_samples of posterior.encode": lambda: encoded(key=KEY, num_samples=count),
        "dataset_size": lambda: minibatch(dataset_size=count),
        "num_epochs": lambda: fit(num_epochs=count),
        "batch_size": lambda: fit(batch_size=count),
        "chunk_size of evaluate": lambda: evaluate(chunk_size=count),
        "chunk_size of marginal_likelihood.evaluate": lambda: marginal(chunk_size=count),
        "chunk_size of posterior.encode": lambda: encoded(chunk_size=count),
        "block_size of a Stream": lambda: aevb.Stream(XS, block_size=count),
        "latent_dim": lambda: aevb.mlp_vae((DATA_DIM,), count),
        "hidden_dim": lambda: aevb.mlp_vae((DATA_DIM,), LATENT_DIM, count),
        "data_shape": lambda: aevb.mlp_vae((count,), LATENT_DIM),
    }


MISTAKES: dict[str, Mistake] = {
    # Arguments in another order, or of another kind
    "evaluate with model and data swapped": wrong(
        lambda: aevb.evaluate(WEIGHTS, KEY, LINEAR, XS), TypeError, "model must be an aevb.Model, got an array of shape"
    ),
    "encode with model and data swapped": wrong(
        lambda: posterior.encode(WEIGHTS, LINEAR, XS), TypeError, "model must be an aevb.Model, got an array of shape"
    ),
    "posterior.sample with count and model swapped": wrong(
        lambda: posterior.sample(WEIGHTS, KEY, LINEAR, 3), TypeError, "model must be an aevb.Model, got 3"
    ),
    **everywhere(
        "parameters and key swapped",
        {"elbo": lambda: elbo(params=KEY, key=WEIGHTS), "iwae_bound": lambda: iwae(params=KEY, key=WEIGHTS)},
        TypeError,
        "got a key, and key is a dict with the entries decoder, encoder: params come before key",
    ),
    **everywhere(
        "parameters and key swapped",
        {
            "minibatch_elbo": lambda: minibatch(params=KEY, key=WEIGHTS),
            "evaluate": lambda: evaluate(params=KEY, key=WEIGHTS),
            "marginal_likelihood.evaluate": lambda: marginal(params=KEY, key=WEIGHTS),
            "posterior.sample": lambda: sample(params=KEY, key=WEIGHTS),
        },
        TypeError,
        "key must be one typed key",
        "got a dict with the entries decoder, encoder",
    ),
    **everywhere(
        "an old-style key",
        of_key(OLD_KEY),
        TypeError,
        "key must be one typed key, such as jax.random.key(0), got an old-style key",
        "jax.random.wrap_key_data converts it",
    ),
    **everywhere("a seed as the key", of_key(0), TypeError, "such as jax.random.key(0), got 0"),
    **everywhere("a batch of keys", of_key(KEYS), TypeError, "got keys of shape (3,): jax.vmap over them, or take one"),
    "one key for a population": wrong(
        lambda: population(keys=KEY), TypeError, "keys must be typed keys, one per member"
    ),
    "old-style keys for a population": wrong(lambda: population(keys=[OLD_KEY]), TypeError, "got an old-style key"),
    "no key for samples": wrong(lambda: encoded(num_samples=2), ValueError, "samples need a key"),
    "no key for a posterior without a known mean": wrong(
        lambda: encoded(FLOW, parameters(FLOW)),
        ValueError,
        "need a key: encode(params, xs, model, key=jax.random.key(0))",
    ),
    **everywhere("a boolean as a count", of_count(True), TypeError, "must be an integer, got True"),
    **everywhere("a float as a count", of_count(2.0), TypeError, "must be an integer, got 2.0"),
    "a boolean as eval_every": wrong(
        lambda: fit(eval_every=True), ValueError, 'eval_every must be at least 1, or "log"'
    ),
    "a float as eval_every": wrong(lambda: fit(eval_every=2.5), ValueError, 'eval_every must be at least 1, or "log"'),
    "a traced count": wrong(
        lambda: jax.jit(aevb.elbo)(WEIGHTS, KEY, XS[0], LINEAR, num_samples=5),
        TypeError,
        "bind it with functools.partial before jax.jit",
    ),
    "an array as a count of an estimator": wrong(
        lambda: marginal(num_samples=jnp.int32(3)), TypeError, "num_samples must be a Python number"
    ),
    "an option that an estimator has not": wrong(lambda: marginal(num_sample=3), TypeError, "num_sample"),
    "a number where the estimator belongs": wrong(
        lambda: aevb.evaluate(WEIGHTS, KEY, XS, LINEAR, 10), TypeError, "estimator must be an aevb.Estimator, got 10"
    ),
    "the name of a bound as the estimator": wrong(
        lambda: fit(estimator="iwae"), TypeError, "estimator must be an aevb.Estimator, got 'iwae'"
    ),
    "the class as the estimator": wrong(
        lambda: fit(estimator=Estimator), TypeError, "estimator must be an aevb.Estimator, got the class Estimator"
    ),
    "a name as the evaluation": wrong(
        lambda: fit(evaluation="iwae"), TypeError, "evaluation must be an aevb.Estimator"
    ),
    "a model that is none": wrong(lambda: elbo("vae"), TypeError, "model must be an aevb.Model, got 'vae'"),
    "functions of one argument too few": wrong(
        lambda: elbo(linear(prior=lambda: prior(None))), TypeError, "prior of a model must be prior(params)"
    ),
    # Parameters
    "parameters of another model": wrong(
        lambda: elbo(PIXEL_MODEL), ValueError, "params are not the parameters of this model", "that of init"
    ),
    "parameters of another size": wrong(
        lambda: evaluate(PIXEL_MODEL, parameters(aevb.mlp_vae((DATA_DIM,), LATENT_DIM, 9))),
        ValueError,
        "params['decoder']['Dense_0']['bias'] has shape (9,), but the model's has shape (8,)",
    ),
    "a training state as the parameters": wrong(
        lambda: evaluate(params=state_of()), ValueError, "pass the .params of the TrainState"
    ),
    "what fit returned as the parameters": wrong(
        lambda: elbo(params=aevb.FitResult(state_of(), [])), ValueError, "pass the .state.params of the FitResult"
    ),
    "what fit returned as the state": wrong(
        lambda: fit(state=aevb.FitResult(state_of(), [])), TypeError, "must be an aevb.TrainState", "pass its .state"
    ),
    "a state of another optimizer": wrong(
        lambda: fit(optimizer=OPTIMIZER, state=state_of(optax.sgd(1e-3))),
        ValueError,
        "state is of another model, optimizer or algorithm: the structure or shapes of its optimizer_state",
    ),
    "a state of another model": wrong(
        lambda: fit(PIXEL_MODEL, optimizer=OPTIMIZER, state=state_of()), ValueError, "shapes of its params"
    ),
    # Optimizers and algorithms
    **everywhere(
        "the name of an optimizer",
        {
            "fit": lambda: fit(optimizer="adam"),
            "init_train_state": lambda: state_of("adam"),
            "make_train_step": lambda: aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), "adam"),
            "auto_encoding": lambda: aevb.auto_encoding(LINEAR, "adam", SIZE),
            "monte_carlo_em": lambda: monte_carlo_em(LINEAR, "adam", SIZE),
        },
        TypeError,
        "optimizer must be an optax transformation, got 'adam': pass optax.adam(1e-3), for example",
    ),
    **everywhere(
        "an optimizer that was not called",
        {
            "fit": lambda: fit(optimizer=optax.adam),
            "init_train_state": lambda: state_of(optax.adam),
            "make_train_step": lambda: aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), optax.adam),
        },
        TypeError,
        "got the function adam: call it, optax.adam(1e-3)",
    ),
    "the name of an algorithm": wrong(
        lambda: fit(algorithm="wake_sleep"),
        TypeError,
        "algorithm must be a function that returns one, got 'wake_sleep': pass aevb.algorithms.wake_sleep, for example",
    ),
    "an algorithm that was made already": wrong(
        lambda: fit(algorithm=wake_sleep(LINEAR, OPTIMIZER, SIZE)), TypeError, "that returns one, got an Algorithm"
    ),
    "a function that makes no algorithm": wrong(
        lambda: fit(algorithm=lambda *arguments: 3), TypeError, "algorithm must return an aevb.Algorithm, got 3"
    ),
    "a function where an algorithm belongs": wrong(
        lambda: aevb.make_train_epochs(aevb.auto_encoding, 10),
        TypeError,
        "aevb.auto_encoding(model, optimizer, dataset_size)",
    ),
    "an estimator beside an algorithm": wrong(
        lambda: fit(estimator=Estimator(), algorithm=wake_sleep), ValueError, "an algorithm has its own estimator"
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_at_once(name):
    assert_answered(MISTAKES[name])


# Valid arguments


def test_fit_takes_the_old_order_with_a_warning():
    new = fit(optimizer=OPTIMIZER)
    with pytest.warns(DeprecationWarning, match=r"fit\(model, data\) is deprecated: the data come first") as caught:
        old = aevb.fit(LINEAR, XS, key=KEY, num_epochs=1, batch_size=10, optimizer=OPTIMIZER)
    assert jax.tree.all(jax.tree.map(np.array_equal, new.state.params, old.state.params))
    assert caught[0].filename == __file__


def test_fit_population_takes_the_old_order_with_a_warning():
    words = r"fit_population\(model, data\) is deprecated: the data come first"
    with pytest.warns(DeprecationWarning, match=words) as caught, pytest.raises(ValueError, match="batch_size must be"):
        aevb.fit_population(LINEAR, XS, keys=KEYS, batch_size=100)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_integers_of_numpy_are_integers(integer):
    """They give the same results as Python's, with the same compiled programs."""
    two, ten = integer(2), integer(10)
    pairs = [
        *((jax.jit(lambda c=c, n=n: c(num_samples=n))() for n in (two, 2)) for c in (elbo, iwae)),
        (jax.jit(lambda: minibatch(dataset_size=integer(SIZE)))(), jax.jit(minibatch)()),
        (evaluate(estimator=Estimator(two), chunk_size=ten)[:3], evaluate(estimator=Estimator(2), chunk_size=10)[:3]),
        (marginal(num_samples=ten, chunk_size=ten).mean, marginal(num_samples=10, chunk_size=10).mean),
        (encoded(key=KEY, num_samples=two, chunk_size=ten), encoded(key=KEY, num_samples=2, chunk_size=10)),
        (sample(num_samples=two, chunk_size=ten), sample(num_samples=2, chunk_size=10)),
    ]
    for one, other in pairs:
        assert jax.tree.all(jax.tree.map(np.array_equal, one, other))
    assert aevb.mlp_vae((integer(DATA_DIM),), integer(LATENT_DIM), integer(8)) is PIXEL_MODEL
    assert len(aevb.Stream(XS, block_size=ten, num_threads=two)) == SIZE


def test_fit_takes_integers_of_numpy():
    one, ten = np.int64(1), np.int32(10)
    result = fit(optimizer=OPTIMIZER, num_epochs=one, batch_size=ten, eval_every=one)
    expected = fit(optimizer=OPTIMIZER)
    assert jax.tree.all(jax.tree.map(np.array_equal, result.state.params, expected.state.params))
    assert [row.epoch for row in result.history] == [0, 1]
