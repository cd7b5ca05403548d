"""Shared parts of the tests of newcomers' mistakes: models, calls of all public functions, and checks of answers."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import Given, Model, Observed, marginal_likelihood, posterior
from aevb.algorithms import init_train_state, wake_sleep
from aevb.likelihoods import GreyBernoulli

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


# Models: a correct one of each kind, and functions that make variants with one mistake


def parameters(model: Model) -> Any:
    """Return parameters without computing any."""
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


def bits(logits: Any) -> dist.Distribution:
    return dist.Bernoulli(logits=logits).to_event(1)


def one_hot(label: Any) -> Any:
    return jax.nn.one_hot(label, LATENT_DIM)


CONDITIONAL = linear(
    encode=lambda params, x, label: normal(params["encoder"] @ x + one_hot(label)),
    decode=lambda params, z, label: normal(params["decoder"] @ (z + one_hot(label))),
    prior=lambda params, label: normal(one_hot(label)),
)
LABELLED = Given(XS, LABELS)


# Calls that are correct except for the given argument


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


# Slow programs to compile, none of which may be compiled before the answer


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


@contextlib.contextmanager
def compiling() -> Iterator[set[str]]:
    """Collect the names of functions compiled in the meantime."""
    names: set[str] = set()

    def listen(event: str, seconds: float, **details: Any) -> None:
        del seconds
        if event == "/jax/core/compile/backend_compile_duration":
            names.add(details["fun_name"].removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# Mistakes


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
    """Return calls of every function that takes a model."""
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
    """Return calls of every function that takes a data set, and of those that take a datapoint."""
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


def assert_answered(mistake: Mistake, hidden: str = "") -> None:
    """Make a mistake and require an answer that is right, short, immediate, and the only one.

    Args:
      mistake: The call, and the expected answer.
      hidden: A part of the message that does not count towards its length.
    """
    with compiling() as compiled:
        start = time.perf_counter()
        with pytest.raises(mistake.error) as caught:
            mistake.call()
        seconds = time.perf_counter() - start
    error, message = caught.value, str(caught.value).replace(hidden, "")
    assert all(words in message for words in mistake.says), message
    assert mistake.never_says not in message, message
    assert len(message) <= LONGEST_MESSAGE, message
    assert message.count("\n") <= 1, message
    assert error.__cause__ is None, message
    assert error.__context__ is None or error.__suppress_context__, message  # no other traceback precedes it
    assert not compiled & PROGRAMS.keys(), compiled
    assert seconds < LONGEST_SECONDS, message
