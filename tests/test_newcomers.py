"""Mistakes that everyone makes once: each is answered at once, by a line or two that say what would be right."""

import functools
import importlib
import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import Chain, Estimator, Given, Markov, Model, Observed, marginal_likelihood, posterior
from aevb.algorithms import ALGORITHMS, full_vb, init_train_state, monte_carlo_em, wake_sleep
from aevb.checkpoints import RunError
from aevb.likelihoods import BERNOULLI, GreyBernoulli

LONGEST_MESSAGE, LONGEST_SECONDS = 240, 5.0
DATA_DIM, LATENT_DIM, SIZE = 12, 3, 40

KEY = jax.random.key(0)
OLD_KEY = jax.random.PRNGKey(0)
KEYS = jax.random.split(KEY, 3)
OPTIMIZER = optax.adam(1e-3)

XS = np.random.RandomState(0).rand(SIZE, DATA_DIM).astype(np.float32)
PIXELS = (255 * XS).astype(np.uint8)
WITH_GAPS = np.where(XS > 0.9, np.nan, XS).astype(np.float32)
LABELS = np.arange(SIZE) % LATENT_DIM


# Models: a good one of each kind, and what makes variants of it that have one mistake


def parameters(model: Model) -> Any:
    """Parameters of which nothing is computed."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, leaf.dtype), jax.eval_shape(model.init, KEY))


def normal(mean: Any) -> dist.Distribution:
    return dist.Normal(mean, 1.0).to_event(1)


def init(key: jax.Array) -> Any:
    del key
    return {"encoder": jnp.full((LATENT_DIM, DATA_DIM), 0.1), "decoder": jnp.full((DATA_DIM, LATENT_DIM), 0.1)}


def encode(params: Any, x: Any) -> Any:
    return normal(params["encoder"] @ x)


def decode(params: Any, z: Any) -> Any:
    return normal(params["decoder"] @ z)


def prior(params: Any) -> Any:
    del params
    return normal(jnp.zeros(LATENT_DIM))


def linear(**functions: Any) -> Model:
    return Model(**({"init": init, "encode": encode, "decode": decode, "prior": prior} | functions))


LINEAR, PIXEL_MODEL = linear(), aevb.mlp_vae((DATA_DIM,), LATENT_DIM, 8)
WEIGHTS, PIXEL_WEIGHTS = parameters(LINEAR), parameters(PIXEL_MODEL)
FLOW = aevb.mlp_vae((DATA_DIM,), LATENT_DIM, 8, posterior="flow")

WITHOUT_TO_EVENT = linear(encode=lambda params, x: dist.Normal(params["encoder"] @ x, 1.0))
PRIOR_OF_ONE = linear(prior=lambda params: normal(jnp.zeros(1)))
OBSERVED = linear(
    encode=lambda params, x: normal(params["encoder"] @ jnp.nan_to_num(x)),
    decode=lambda params, z: Observed(GreyBernoulli(params["decoder"] @ z)),
)


def two_levels(q1: Any = None, q2: Any = None, p1: Any = None, name: str = "z2") -> Model:
    """Latents in two levels, drawn from the data up in q and from the top down in p."""
    q1 = q1 or (lambda x: normal(x[:LATENT_DIM]))
    q2, p1 = q2 or (lambda z: normal(z["z1"])), p1 or (lambda z: normal(z["z2"]))
    return linear(
        encode=lambda params, x: Chain(z1=q1(x), **{name: q2}),
        decode=lambda params, z: normal(params["decoder"] @ z["z1"]),
        prior=lambda params: Chain(z2=normal(jnp.zeros(LATENT_DIM)), z1=p1),
    )


def bits(logits: Any) -> dist.Distribution:
    return dist.Bernoulli(logits=logits).to_event(1)


DISCRETE = two_levels(lambda x: bits(x[:LATENT_DIM]), lambda z: normal(1.0 * z["z1"]), lambda z: bits(z["z2"]))


def one_hot(label: Any) -> Any:
    return jax.nn.one_hot(label, LATENT_DIM)


CONDITIONAL = linear(
    encode=lambda params, x, label: normal(params["encoder"] @ x + one_hot(label)),
    decode=lambda params, z, label: normal(params["decoder"] @ (z + one_hot(label))),
    prior=lambda params, label: normal(one_hot(label)),
)
LABELLED = Given(XS, LABELS)


def paths(step: Any) -> Model:
    """A path of as many steps as there are values."""
    return linear(
        encode=lambda params, x: normal(jnp.stack([x, x], axis=-1)).to_event(1),
        decode=lambda params, z: normal(z[:, 0]),
        prior=lambda params: Markov(step, params["decoder"], jnp.zeros(2), jnp.arange(DATA_DIM)),
    )


def chain_with(level: Any) -> Chain:
    return Chain(z2=normal(jnp.zeros(LATENT_DIM)), z1=level)


def closing_over(array: Any) -> Callable:
    return lambda z: normal(z["z2"] + array)


class Level:
    """A function with arrays, as an object."""

    def __init__(self, array: Any):
        self.array = array

    def __call__(self, z: Any) -> dist.Distribution:
        return normal(z["z2"] + self.array)


# Calls, of which all but what is given is right


def elbo(model: Any = LINEAR, params: Any = WEIGHTS, key: Any = KEY, x: Any = XS[0], **options: Any) -> Any:
    return aevb.elbo(params, key, x, model, **options)


def iwae(model: Any = LINEAR, params: Any = WEIGHTS, key: Any = KEY, x: Any = XS[0], num_samples: Any = 2) -> Any:
    return aevb.iwae_bound(params, key, x, model, num_samples)


def minibatch(model: Any = LINEAR, params: Any = WEIGHTS, key: Any = KEY, dataset_size: Any = SIZE) -> Any:
    return aevb.minibatch_elbo(params, key, XS, model, dataset_size)


def evaluate(model: Any = LINEAR, params: Any = WEIGHTS, key: Any = KEY, data: Any = XS, **options: Any) -> Any:
    return aevb.evaluate(params, key, data, model, **options)


def fit(model: Any = LINEAR, data: Any = XS, key: Any = KEY, **options: Any) -> Any:
    return aevb.fit(data, model, **({"key": key, "num_epochs": 1, "batch_size": 10} | options))


def marginal(model: Any = LINEAR, params: Any = WEIGHTS, key: Any = KEY, data: Any = XS, **options: Any) -> Any:
    return marginal_likelihood.evaluate(params, key, data, model, **({"method": "is"} | options))


def encoded(model: Any = LINEAR, params: Any = WEIGHTS, data: Any = XS, **options: Any) -> Any:
    return posterior.encode(params, data, model, **options)


def sample(model: Any = LINEAR, params: Any = WEIGHTS, key: Any = KEY, num_samples: Any = 3, **options: Any) -> Any:
    return posterior.sample(params, key, num_samples, model, **options)


def population(keys: Any = KEYS, data: Any = XS, model: Any = LINEAR, **options: Any) -> Any:
    return aevb.fit_population(data, model, keys=keys, **({"num_epochs": 1, "batch_size": 10} | options))


def state_of(optimizer: Any = OPTIMIZER, key: Any = KEY, model: Any = LINEAR) -> Any:
    return init_train_state(key, model, optimizer)


# Programs whose compilation takes long: none is compiled before the answer


@pytest.fixture(scope="module")
def compiled() -> Iterator[set[str]]:
    """The names of the functions that are compiled; a test clears them first."""
    names: set[str] = set()

    def listen(event: str, seconds: float, **details: Any) -> None:
        del seconds
        if event == "/jax/core/compile/backend_compile_duration":
            names.add(details["fun_name"].removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


PROGRAMS = {
    "train_epochs": fit,
    "train_block": lambda: fit(data=aevb.Stream(XS)),
    "_evaluate_chunks": evaluate,
    "_chunk": lambda: marginal(num_samples=2),
    "_encode_chunk": encoded,
    "_reconstruct_chunk": lambda: posterior.reconstruct(WEIGHTS, XS, LINEAR),
    "_sample_chunk": sample,
    "step": lambda: aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), OPTIMIZER)(state_of(), XS[:10]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_right_works_and_compiles(compiled, name):
    """So that the other tests here look for names that there are."""
    jax.clear_caches()
    compiled.clear()
    PROGRAMS[name]()
    assert name in compiled


class Mistake(NamedTuple):
    """A call with a mistake, the error that it raises, and words of its message."""

    call: Callable[[], Any]
    error: type[Exception]
    says: tuple[str, ...]
    never_says: str = "Traceback"


def wrong(call: Callable[[], Any], error: type[Exception], *says: str, never_says: str = "Traceback") -> Mistake:
    return Mistake(call, error, says, never_says)


Calls = dict[str, Callable[[], Any]]


def everywhere(what: str, calls: Calls, error: type[Exception], *says: str) -> dict[str, Mistake]:
    return {f"{what}, in {name}": wrong(call, error, *says) for name, call in calls.items()}


def of_model(model: Model, params: Any = WEIGHTS) -> Calls:
    """A model in every function that takes one."""
    return {
        "elbo": lambda: elbo(model, params),
        "elbo of estimator A": lambda: elbo(model, params, kl="sampled"),
        "iwae_bound": lambda: iwae(model, params),
        "minibatch_elbo": lambda: minibatch(model, params),
        "evaluate": lambda: evaluate(model, params),
        "fit": lambda: fit(model),
        "fit of wake-sleep": lambda: fit(model, algorithm=wake_sleep),
        "fit of a stream": lambda: fit(model, aevb.Stream(XS)),
        "fit_population": lambda: population(model=model),
        "marginal_likelihood.evaluate": lambda: marginal(model, params),
        "importance_sampling": lambda: marginal_likelihood.importance_sampling(params, KEY, XS[0], model),
        "hmc_estimator": lambda: marginal(model, params, method="hmc"),
        "posterior.encode": lambda: encoded(model, params, key=KEY),
        "posterior.reconstruct": lambda: posterior.reconstruct(params, XS, model, key=KEY),
    }


def of_data(data: Any, model: Model = PIXEL_MODEL, params: Any = PIXEL_WEIGHTS) -> Calls:
    """A data set in every function that takes one, and its first datapoint."""
    return {
        "elbo": lambda: elbo(model, params, x=data[0]),
        "iwae_bound": lambda: iwae(model, params, x=data[0]),
        "importance_sampling": lambda: marginal_likelihood.importance_sampling(params, KEY, data[0], model),
        "fit": lambda: fit(model, data),
        "fit as test data": lambda: fit(model, XS, test_data=data),
        "fit_population": lambda: population(data=data, model=model),
        "evaluate": lambda: evaluate(model, params, data=data),
        "marginal_likelihood.evaluate": lambda: marginal(model, params, data=data),
        "posterior.encode": lambda: encoded(model, params, data=data),
        "posterior.reconstruct": lambda: posterior.reconstruct(params, data, model),
    }


def of_key(key: Any) -> Calls:
    """A key in every function that takes one."""
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
    """A count in every place of one."""
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


OUTSIDE = "outside of the likelihood's support, [0, 1]: scale it first, x / 255"

MISTAKES: dict[str, Mistake] = {
    # What a model's functions return
    **{
        name: mistake._replace(never_says="sampled")
        for name, mistake in everywhere(
            "encode without to_event", of_model(WITHOUT_TO_EVENT), ValueError, "encode must", "end it with .to_event(1)"
        ).items()
    },
    **everywhere(
        "a prior of one dimension and an encoder of three",
        {name: call for name, call in of_model(PRIOR_OF_ONE).items() if "hmc" not in name},
        ValueError,
        "encode returns a distribution over z of shape (3,), prior one of shape (1,)",
    ),
    **everywhere(
        "encode that returns a tuple",
        of_model(linear(encode=lambda params, x: (params["encoder"] @ x, 1.0))),
        TypeError,
        "encode must return one numpyro distribution, got a tuple: return dist.Normal(mean, scale).to_event(1), say",
    ),
    **everywhere(
        "decode that returns an array",
        of_model(linear(decode=lambda params, z: params["decoder"] @ z)),
        TypeError,
        "decode must return one numpyro distribution, got an array of shape (12,)",
    ),
    **everywhere(
        "decode without to_event",
        of_model(linear(decode=lambda params, z: dist.Normal(params["decoder"] @ z, 1.0))),
        ValueError,
        "decode must return one distribution without batch axes",
        "its batch shape is (12,): end it with .to_event(1)",
    ),
    **everywhere(
        "a prior without to_event",
        of_model(linear(prior=lambda params: dist.Normal(jnp.zeros(LATENT_DIM), 1.0))),
        ValueError,
        "prior must",
        "end it with .to_event(1)",
    ),
    "an image decoder without to_event": wrong(
        lambda: elbo(linear(decode=lambda params, z: dist.Normal(jnp.ones((4, 3)) * z, 1.0))),
        ValueError,
        "end it with .to_event(2)",
    ),
    "a posterior without a closed-form KL, in elbo": wrong(
        lambda: jax.eval_shape(lambda x: elbo(FLOW, parameters(FLOW), x=x), XS[0]), ValueError, 'use kl="sampled"'
    ),
    "a posterior without a closed-form KL, in fit": wrong(
        lambda: fit(FLOW),
        ValueError,
        "no closed-form KL divergence of TransformedDistribution from Normal is registered",
        'estimator=aevb.Estimator(kl="sampled")',
    ),
    # Values
    **everywhere("pixels of 0 to 255 as floats", of_data(255 * XS), ValueError, OUTSIDE),
    **everywhere("pixels of 0 to 255 as integers", of_data(PIXELS), ValueError, OUTSIDE),
    **everywhere("NaN without Observed", of_data(WITH_GAPS), ValueError, "has NaN", "only under aevb.Observed"),
    "pixels of 0 to 255 in a Stream": wrong(lambda: fit(PIXEL_MODEL, aevb.Stream(255 * XS)), ValueError, OUTSIDE),
    "pixels of 0 to 255 in a Stream, evaluated": wrong(
        lambda: evaluate(PIXEL_MODEL, PIXEL_WEIGHTS, data=aevb.Stream(255 * XS)), ValueError, OUTSIDE
    ),
    "integer pixels in a Stream": wrong(
        lambda: fit(PIXEL_MODEL, aevb.Stream(PIXELS)), ValueError, "give the Stream a max_value to scale by"
    ),
    "a max_value below the pixels": wrong(
        lambda: fit(PIXEL_MODEL, aevb.Stream(PIXELS, max_value=16)), ValueError, "above its max_value of 16"
    ),
    "grey pixels for numpyro's Bernoulli": wrong(
        lambda: fit(linear(decode=lambda params, z: bits(params["decoder"] @ z))),
        ValueError,
        'binarization="stochastic" draws pixels, and aevb.likelihoods.GreyBernoulli takes them as they are',
    ),
    **{
        f"NaN to be binarized, {binarization}": wrong(
            lambda binarization=binarization: fit(OBSERVED, WITH_GAPS, binarization=binarization),
            ValueError,
            f"data have NaN, which binarization='{binarization}' would draw as a 0",
        )
        for binarization in ("stochastic", "fixed", "threshold")
    },
    "NaN to be binarized, in evaluate": wrong(
        lambda: evaluate(OBSERVED, data=WITH_GAPS, binarization="stochastic"), ValueError, "would draw as a 0"
    ),
    "NaN to be binarized, in a Stream": wrong(
        lambda: fit(OBSERVED, aevb.Stream(WITH_GAPS), binarization="stochastic"), ValueError, "would draw as a 0"
    ),
    "NaN of a Stream to be cut, in evaluate": wrong(
        lambda: evaluate(OBSERVED, data=aevb.Stream(WITH_GAPS), binarization="threshold"), ValueError, "have NaN"
    ),
    **{
        f"pixels of 0 to 255 to be binarized, {binarization}": wrong(
            lambda binarization=binarization: fit(PIXEL_MODEL, 255 * XS, binarization=binarization),
            ValueError,
            f"but binarization='{binarization}' takes each for a probability: scale them first",
        )
        for binarization in ("stochastic", "fixed", "threshold")
    },
    "an unknown binarization": wrong(lambda: fit(binarization="binary"), ValueError, "got 'binary'"),
    # Shapes
    **everywhere(
        "a batch where one datapoint belongs",
        {
            "elbo": lambda: elbo(x=XS),
            "iwae_bound": lambda: iwae(x=XS),
            "grad": lambda: jax.grad(aevb.elbo)(WEIGHTS, KEY, XS, LINEAR),
        },
        ValueError,
        "x has shape (40, 12), the model's datapoints have shape (12,)",
        "jax.vmap it over a batch",
    ),
    "x of another shape": wrong(
        lambda: elbo(x=XS[0].reshape(3, 4)), ValueError, "x has shape (3, 4), the model's datapoints have shape (12,)"
    ),
    "x as a list": wrong(lambda: elbo(x=XS[0].tolist()), ValueError, "12 arrays in a list", "numpy.asarray"),
    "x that is left out": wrong(lambda: elbo(x=None), ValueError, "the model's datapoints have shape (12,)"),
    **everywhere(
        "data of another shape",
        {
            "fit": lambda: fit(data=XS[:, :5]),
            "evaluate": lambda: evaluate(data=XS[:, :5]),
            "marginal_likelihood.evaluate": lambda: marginal(data=XS[:, :5]),
        },
        ValueError,
        "datapoints of data have shape (5,), the model's datapoints have shape (12,)",
    ),
    **everywhere(
        "one datapoint where a data set belongs",
        {
            "fit": lambda: fit(data=XS[0]),
            "evaluate": lambda: evaluate(data=XS[0]),
            "encode": lambda: encoded(data=XS[0]),
        },
        ValueError,
        "one datapoint alone must have a leading axis too, x[None]",
    ),
    "data as a list of datapoints": wrong(lambda: evaluate(data=[*XS]), ValueError, "numpy.asarray makes one array"),
    "data as a list of lists": wrong(lambda: fit(data=XS.tolist()), TypeError, "data must be arrays of numbers"),
    "a data set's name": wrong(lambda: fit(data="digits"), TypeError, "data must be arrays", "got 'digits'"),
    "strings": wrong(lambda: fit(data=np.array(["a", "b"])), TypeError, "data must be arrays of numbers"),
    "a Dataset where its pixels belong": wrong(
        lambda: fit(data=aevb.data.Dataset("mine", "train", PIXELS.reshape(-1, 3, 4), None, 255, "all")),
        TypeError,
        "got a Dataset, whose .pixels() are",
    ),
    "data and labels as a tuple": wrong(lambda: fit(data=(XS, LABELS)), ValueError, "have shape ((12,), ())"),
    "no data": wrong(lambda: fit(data=XS[:0]), ValueError, "the data are empty"),
    "no data to evaluate": wrong(lambda: evaluate(data=XS[:0]), ValueError, "the data are empty"),
    "a minibatch larger than the data": wrong(
        lambda: fit(batch_size=100), ValueError, "batch_size must be between 1 and the data set's 40, got 100"
    ),
    "arrays of different numbers of rows": wrong(
        lambda: fit(CONDITIONAL, Given(XS, LABELS[:5])),
        ValueError,
        "every array of data must have the same number of rows: value has 40, condition has 5",
    ),
    "a dict of different numbers of rows": wrong(
        lambda: evaluate(data={"a": XS, "b": XS[:3]}), ValueError, "['a'] has 40, ['b'] has 3"
    ),
    "test data of another shape": wrong(
        lambda: fit(test_data=XS[:, :5]), ValueError, "datapoints of test_data have shape (5,), those of data (12,)"
    ),
    "test data without the condition": wrong(
        lambda: fit(CONDITIONAL, LABELLED, test_data=XS), ValueError, "those of data Given(value=(12,), condition=())"
    ),
    "empty test data": wrong(lambda: fit(test_data=XS[:0]), ValueError, "test_data is empty: leave it out instead"),
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
        "got a key, and key is a dict with the entries decoder, encoder: params come before the key",
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
        "key must be one typed key, as jax.random.key(0) makes it, got an old-style key",
        "jax.random.wrap_key_data converts it",
    ),
    **everywhere("a seed as the key", of_key(0), TypeError, "as jax.random.key(0) makes it, got 0"),
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
        lambda: elbo(PIXEL_MODEL), ValueError, "params are not the parameters of this model", "init's"
    ),
    "parameters of another size": wrong(
        lambda: evaluate(PIXEL_MODEL, parameters(aevb.mlp_vae((DATA_DIM,), LATENT_DIM, 9))),
        ValueError,
        "params['decoder']['Dense_0']['bias'] has shape (9,), the model's has shape (8,)",
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
        "state is of another model, optimizer or algorithm: its optimizer_state",
    ),
    "a state of another model": wrong(
        lambda: fit(PIXEL_MODEL, optimizer=OPTIMIZER, state=state_of()), ValueError, "algorithm: its params"
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
        "optimizer must be an optax transformation, got 'adam': optax.adam(1e-3), say",
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
        "algorithm must be a function that makes one, got 'wake_sleep': aevb.algorithms.wake_sleep, say",
    ),
    "an algorithm that was made already": wrong(
        lambda: fit(algorithm=wake_sleep(LINEAR, OPTIMIZER, SIZE)), TypeError, "that makes one, got an Algorithm"
    ),
    "a function that makes no algorithm": wrong(
        lambda: fit(algorithm=lambda *arguments: 3), TypeError, "algorithm must make an aevb.Algorithm, got 3"
    ),
    "a function where an algorithm belongs": wrong(
        lambda: aevb.make_train_epochs(aevb.auto_encoding, 10),
        TypeError,
        "aevb.auto_encoding(model, optimizer, dataset_size)",
    ),
    "an estimator beside an algorithm": wrong(
        lambda: fit(estimator=Estimator(), algorithm=wake_sleep), ValueError, "an algorithm carries its own estimator"
    ),
    # Conditions
    **everywhere(
        "a Given for a model without a condition",
        {
            "elbo": lambda: elbo(x=Given(XS[0], LABELS[0])),
            "fit": lambda: fit(data=LABELLED),
            "evaluate": lambda: evaluate(data=LABELLED),
            "marginal_likelihood.evaluate": lambda: marginal(data=LABELLED),
            "posterior.encode": lambda: encoded(data=LABELLED),
            "posterior.sample": lambda: sample(condition=LABELS[0]),
        },
        TypeError,
        "the datapoint is a Given, but the model takes no condition: pass its value alone",
    ),
    **everywhere(
        "a conditional model without a Given",
        of_model(CONDITIONAL) | {"posterior.sample": lambda: sample(CONDITIONAL)},
        TypeError,
        "the model takes a condition: pass aevb.Given(value, condition) as the datapoint",
    ),
    "a condition for the prior alone": wrong(
        lambda: elbo(linear(prior=CONDITIONAL.prior), x=Given(XS[0], LABELS[0])),
        TypeError,
        "encode of the model takes no condition, unlike prior",
    ),
    # Levels and paths
    **everywhere(
        "a level that asks for a later one",
        of_model(two_levels(q1=lambda x: lambda z: normal(z["z2"]))),
        ValueError,
        "level 'z1' of a Chain asks for 'z2', which does not come before it",
    ),
    **everywhere(
        "a level without to_event",
        of_model(two_levels(q2=lambda z: dist.Normal(z["z1"], 1.0))),
        ValueError,
        "level 'z2' of a Chain has the batch shape (3,): end it with .to_event(1)",
    ),
    "a level of the prior without to_event": wrong(
        lambda: fit(two_levels(p1=lambda z: dist.Normal(z["z2"], 1.0))),
        ValueError,
        "level 'z1' of a Chain",
        ".to_event(1)",
    ),
    "a level that is no distribution": wrong(
        lambda: elbo(two_levels(q2=lambda z: z["z1"])),
        TypeError,
        "level 'z2' of a Chain must be a numpyro distribution, got an array of shape (3,)",
    ),
    "a level that is an array": wrong(
        lambda: chain_with(jnp.zeros(3)), TypeError, "level 'z1' of a Chain must be a distribution or a function"
    ),
    "a Chain without levels": wrong(Chain, TypeError, "a Chain needs at least one level"),
    **everywhere(
        "levels of different names",
        {name: call for name, call in of_model(two_levels(name="z3")).items() if name in ("elbo", "evaluate", "fit")},
        ValueError,
        "over z of shape {'z1': (3,), 'z3': (3,)}, prior one of shape {'z1': (3,), 'z2': (3,)}",
    ),
    "levels in q and one vector in p": wrong(
        lambda: elbo(linear(encode=two_levels().encode)), ValueError, "prior one of shape (3,)"
    ),
    **everywhere(
        "a level that closes over arrays",
        {
            "jit": lambda: jax.jit(lambda chain: chain.sample(KEY))(chain_with(closing_over(jnp.ones(3)))),
            "vmap": lambda: jax.vmap(lambda array: chain_with(closing_over(array)))(jnp.ones((2, 3))),
            "scan": lambda: jax.lax.scan(lambda _, array: (_, chain_with(closing_over(array))), 0, jnp.ones((2, 3))),
            "jit, by a partial": lambda: jax.jit(Chain.means)(
                chain_with(functools.partial(lambda array, z: normal(array), jnp.ones(3)))
            ),
            "jit, by an object": lambda: jax.jit(Chain.means)(chain_with(Level(jnp.ones(3)))),
            "vmap, by a method": lambda: jax.vmap(lambda array: chain_with(Level(array).__call__))(jnp.ones((2, 3))),
        },
        TypeError,
        "level 'z1' of a Chain is a function that closes over arrays",
        "jax.tree_util.Partial(function, arrays)",
    ),
    "a step that closes over arrays": wrong(
        lambda: jax.vmap(
            lambda array: Markov(lambda params, z, t: normal(z + array), None, jnp.zeros(2), jnp.arange(3))
        )(jnp.ones((2, 2))),
        TypeError,
        "step of a Markov is a function that closes over arrays",
        "jax.tree_util.Partial",
    ),
    **everywhere(
        "a step without to_event",
        {
            "elbo": lambda: elbo(paths(lambda params, z, t: dist.Normal(z, 1.0))),
            "fit": lambda: fit(paths(lambda params, z, t: dist.Normal(z, 1.0))),
        },
        ValueError,
        "step of a Markov must return a distribution of event shape (2,)",
        "end it with .to_event(1)",
    ),
    "a step that returns an array": wrong(
        lambda: elbo(paths(lambda params, z, t: z)), TypeError, "step of a Markov must return a numpyro distribution"
    ),
    "a number of steps as the inputs": wrong(
        lambda: Markov(lambda params, z, t: normal(z), None, jnp.zeros(2), 10),
        TypeError,
        "must be arrays [T, ...], got 10",
    ),
    "Observed over what depends on each other": wrong(
        lambda: Observed(dist.MultivariateNormal(np.zeros(3, np.float32), np.eye(3, dtype=np.float32))),
        ValueError,
        "Observed needs a factorised likelihood, but MultivariateNormal ties together",
    ),
    "Observed over an array": wrong(lambda: Observed(jnp.zeros(3)), TypeError, "Observed wraps a numpyro distribution"),
    # Discrete latents
    **everywhere(
        "a discrete level and the pathwise gradient",
        {"elbo": lambda: elbo(DISCRETE), "iwae_bound": lambda: iwae(DISCRETE), "fit": lambda: fit(DISCRETE)},
        TypeError,
        "level 'z1' (BernoulliLogits) cannot be reparameterized",
        'gradient="score_function" needs none',
    ),
    "a discrete posterior and the pathwise gradient": wrong(
        lambda: aevb.reparameterize(bits(jnp.zeros(3)), KEY), TypeError, "BernoulliLogits cannot be reparameterized"
    ),
    **everywhere(
        "a discrete level and Hamiltonian Monte Carlo",
        {method: lambda method=method: marginal(DISCRETE, method=method) for method in ("hmc", "mixture", "ais")}
        | {"Monte Carlo EM": lambda: fit(DISCRETE, algorithm=monte_carlo_em)},
        TypeError,
        "moves z along the gradient of its density, but level 'z1' is discrete",
    ),
    # Names
    "an unknown estimator of the KL": wrong(lambda: elbo(kl="exact"), ValueError, "kl must be one of", "got 'exact'"),
    "an unknown gradient": wrong(lambda: elbo(gradient="reinforce"), ValueError, "got 'reinforce'"),
    "an unknown method": wrong(lambda: marginal(method="annealed"), ValueError, "got 'annealed'"),
    "an unknown model family": wrong(
        lambda: aevb.models.build("unet"),
        ValueError,
        "model family must be one of mlp",
        "got 'unet'",
        "registered first",
    ),
    "an argument that a family has not": wrong(
        lambda: aevb.models.build("mlp", data_shape=(12,), latents=3),
        TypeError,
        "the model family 'mlp' takes no 'latents', but data_shape, latent_dim",
    ),
    "an argument that a family lacks": wrong(
        lambda: aevb.mlp_vae((12,)), TypeError, "missing a required argument: 'latent_dim'"
    ),
    "an unknown likelihood": wrong(
        lambda: aevb.mlp_vae((12,), 3, likelihood="poisson"),
        ValueError,
        "likelihood must be one of bernoulli",
        "'poisson'",
    ),
    "a likelihood that is no name": wrong(
        lambda: aevb.mlp_vae((12,), 3, likelihood=BERNOULLI),
        TypeError,
        "likelihood of the model family 'mlp' must be such as",
    ),
    "an unknown posterior": wrong(lambda: aevb.mlp_vae((12,), 3, posterior="diagonal"), ValueError, "got 'diagonal'"),
    "an unknown algorithm": wrong(
        lambda: ALGORITHMS.get("vi"), ValueError, "algorithm must be one of aevb, wake_sleep", "got 'vi'"
    ),
    "an unknown data set": wrong(
        lambda: aevb.data.load("cifar"), ValueError, "'cifar': there are mnist, frey_face, digits"
    ),
    "a registration without a name": wrong(
        lambda: aevb.models.register(lambda: LINEAR), ValueError, "model family is registered under a name"
    ),
    "a registration of what is there": wrong(
        lambda: aevb.models.register("mlp"), ValueError, "model family 'mlp' is built in: choose another name"
    ),
    "a likelihood that is a distribution": wrong(
        lambda: aevb.likelihoods.register("mine", dist.Poisson), TypeError, "must be an aevb.likelihoods.Likelihood"
    ),
    "an algorithm that is no function": wrong(
        lambda: aevb.algorithms.register("mine", wake_sleep(LINEAR, OPTIMIZER, SIZE)),
        TypeError,
        "algorithm must be a function",
    ),
    "a data set that is no Source": wrong(lambda: aevb.data.register(XS), TypeError, "must be an aevb.data.Source"),
}


def assert_answered(caught: pytest.ExceptionInfo, seconds: float, compiled: set[str], mistake: Mistake) -> None:
    message = str(caught.value)
    assert all(words in message for words in mistake.says), message
    assert mistake.never_says not in message
    assert len(message) <= LONGEST_MESSAGE
    assert message.count("\n") <= 1
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # no other traceback comes first
    assert not compiled & PROGRAMS.keys()
    assert seconds < LONGEST_SECONDS


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_at_once(compiled, name):
    mistake = MISTAKES[name]
    compiled.clear()
    start = time.perf_counter()
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    assert_answered(caught, time.perf_counter() - start, compiled, mistake)


# A state that a training step was given


@pytest.fixture(scope="module")
def used() -> dict[str, Any]:
    """States whose buffers are gone, by what they were given to."""
    state, in_epochs = state_of(), state_of()
    aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), OPTIMIZER)(state, XS[:10])
    aevb.make_train_epochs(aevb.auto_encoding(LINEAR, OPTIMIZER, SIZE), 10)(in_epochs, XS, 1)
    kept = []
    result = fit(optimizer=OPTIMIZER, num_epochs=2, on_evaluation=lambda state, row: kept.append(state))
    fit(optimizer=OPTIMIZER, num_epochs=3, state=result.state)
    return {"a step": state, "epochs": in_epochs, "fit": result.state, "fit, kept from a callback": kept[0]}


AGAIN: dict[str, Callable[[Any], Any]] = {
    "make_train_step": lambda state: aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), OPTIMIZER)(state, XS[:10]),
    "make_train_epochs": lambda state: aevb.make_train_epochs(aevb.auto_encoding(LINEAR, OPTIMIZER, SIZE), 10)(
        state, XS, 1
    ),
    "fit": lambda state: fit(optimizer=OPTIMIZER, num_epochs=4, state=state),
    "elbo": lambda state: elbo(params=state.params),
    "evaluate": lambda state: evaluate(params=state.params),
    "marginal_likelihood.evaluate": lambda state: marginal(params=state.params),
    "posterior.encode": lambda state: encoded(params=state.params),
    "posterior.sample": lambda state: sample(params=state.params),
}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("first", ["a step", "epochs", "fit", "fit, kept from a callback"])
def test_a_state_that_was_given_away_is_not_used_again(compiled, used, first, again):
    compiled.clear()
    mistake = wrong(lambda: AGAIN[again](used[first]), ValueError, "a training step that was given them reused them")
    start = time.perf_counter()
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    assert_answered(caught, time.perf_counter() - start, compiled, mistake)


# What is saved and loaded


FILE_MISTAKES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "a model that was not built by name": (
        lambda folder: aevb.save(folder / "new", LINEAR, WEIGHTS),
        ValueError,
        'register it with @aevb.models.register("name")',
    ),
    "parameters of another model": (
        lambda folder: aevb.save(folder / "new", PIXEL_MODEL, WEIGHTS),
        ValueError,
        "params are not the parameters of this model",
    ),
    "a training state instead of parameters": (
        lambda folder: aevb.save(folder / "new", PIXEL_MODEL, state_of()),
        ValueError,
        "pass the .params of the TrainState",
    ),
    "arguments in another order": (
        lambda folder: aevb.save(folder / "new", PIXEL_WEIGHTS, PIXEL_MODEL),
        TypeError,
        "model must be an aevb.Model, got a dict with the entries",
    ),
    "a folder that is there": (
        lambda folder: aevb.save(folder, PIXEL_MODEL, PIXEL_WEIGHTS),
        FileExistsError,
        "is there already: save into a new folder",
    ),
    "nothing to load": (lambda folder: aevb.load(folder / "none"), RunError, "is no saved model"),
    "a run folder to load": (
        lambda folder: ((folder / "config.json").write_text("{}"), aevb.load(folder)),
        RunError,
        "it is a run folder, which aevb.load_run reads",
    ),
    "no run to load": (lambda folder: aevb.load_run(folder / "none"), RunError, "it has no config.json"),
    "a saved model to load as a run": (
        lambda folder: (aevb.save(folder / "new", PIXEL_MODEL, PIXEL_WEIGHTS), aevb.load_run(folder / "new")),
        RunError,
        "but a saved model, which aevb.load reads",
    ),
    "a damaged run": (
        lambda folder: ((folder / "config.json").write_text("{"), aevb.load_run(folder)),
        RunError,
        "config.json cannot be read",
    ),
}


@pytest.mark.parametrize("name", FILE_MISTAKES)
def test_a_mistake_with_files_is_answered_at_once(compiled, tmp_path, name):
    call, error, words = FILE_MISTAKES[name]
    mistake = wrong(lambda: call(tmp_path), error, words)
    compiled.clear()
    start = time.perf_counter()
    with pytest.raises(error) as caught:
        mistake.call()
    short = str(caught.value).replace(str(tmp_path), "")
    assert len(short) <= LONGEST_MESSAGE
    caught.value.args = (short,)
    assert_answered(caught, time.perf_counter() - start, compiled, mistake)


# What is no mistake


def test_fit_takes_the_old_order_with_a_warning():
    new = fit(optimizer=OPTIMIZER)
    with pytest.warns(DeprecationWarning, match=r"fit\(model, data\) is deprecated: the data come first"):
        old = aevb.fit(LINEAR, XS, key=KEY, num_epochs=1, batch_size=10, optimizer=OPTIMIZER)
    assert jax.tree.all(jax.tree.map(np.array_equal, new.state.params, old.state.params))


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_integers_of_numpy_are_integers(integer):
    """They give what Python's give, by the same compiled programs."""
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


def test_pixels_of_0_to_255_never_look_like_a_result():
    """Where their values are not known, in a compiled program, their probability is 0."""
    x = np.full(DATA_DIM, 200, np.uint8)
    assert jax.jit(aevb.elbo)(PIXEL_WEIGHTS, KEY, x, PIXEL_MODEL) == -np.inf
    assert jax.jit(aevb.iwae_bound, static_argnums=4)(PIXEL_WEIGHTS, KEY, x, PIXEL_MODEL, 3) == -np.inf
    zeros_and_ones = x > np.arange(DATA_DIM) * 40
    bound = jax.jit(aevb.elbo)(PIXEL_WEIGHTS, KEY, zeros_and_ones.astype(np.uint8), PIXEL_MODEL)
    assert bound == jax.jit(aevb.elbo)(PIXEL_WEIGHTS, KEY, zeros_and_ones.astype(np.float32), PIXEL_MODEL)


def test_what_is_missing_is_evaluated_under_observed():
    assert np.isfinite(evaluate(OBSERVED, data=WITH_GAPS).elbo)


def test_pixels_are_drawn_for_a_likelihood_of_zeros_and_ones():
    """Grey intensities are outside of its support; what is drawn of them is not."""
    model = linear(decode=lambda params, z: bits(params["decoder"] @ z))
    assert np.isfinite(evaluate(model, binarization="stochastic").elbo)


def test_a_support_that_depends_on_parameters_is_checked_with_them():
    bounded = lambda params, z: dist.Uniform(0.0, 10.0 + params["decoder"] @ z).to_event(1)
    model = linear(decode=bounded)
    assert np.isfinite(evaluate(model).elbo)
    for call in (lambda: evaluate(model, data=20 * XS), lambda: fit(model, 20 * XS)):
        with pytest.raises(ValueError, match=r"ranges from .* an interval that depends on the parameters"):
            call()


def test_a_bound_that_is_not_a_number_says_what_encode_must_not_see():
    model = linear(decode=lambda params, z: Observed(GreyBernoulli(params["decoder"] @ z)))
    with pytest.raises(aevb.DivergedError, match=r"at step 0, .* encode must not see: aevb\.distributions\.zeros_and"):
        fit(model, WITH_GAPS)


def test_an_error_of_the_models_own_passes_unchanged():
    class OwnError(Exception):
        pass

    def decode(params: Any, z: Any) -> Any:
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        elbo(linear(decode=decode))


# What there is


def test_dir_lists_what_is_public():
    assert set(dir(aevb)) == {*aevb.__all__, "__version__"}
    assert all(getattr(aevb, name) is not None for name in aevb.__all__)


PACKAGES = (
    "aevb",
    "aevb.algorithms",
    "aevb.data",
    "aevb.distributions",
    "aevb.likelihoods",
    "aevb.marginal_likelihood",
    "aevb.models",
    "aevb.posterior",
    "aevb.training",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_documented(package):
    module = importlib.import_module(package)
    is_own = lambda value: getattr(value, "__module__", None) == package
    own = [name for name, value in vars(module).items() if not name.startswith("_") and is_own(value)]
    for name in getattr(module, "__all__", own):
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value):
            documentation = inspect.getdoc(value) or ""
            assert documentation.endswith((".", "`")) or "\n" in documentation, f"{package}.{name}"
            assert not documentation.startswith(f"{name}("), f"{package}.{name}"  # made by NamedTuple
