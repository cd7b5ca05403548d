"""Models and arguments that particle filters and FIVO refuse, in one line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import Markov, Model, Observed, marginal_likelihood
from aevb.marginal_likelihood import particle_filter
from tests.models import CASES

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)


def path_of(length: int) -> Markov:
    return Markov(lambda params, z, inputs: dist.Normal(z, 1.0).to_event(1), {}, jnp.zeros(2), jnp.arange(length))


def of_paths(decode: Any, encode: Any = None) -> Model:
    return Model(lambda key: {}, encode or (lambda params, x: path_of(6)), decode, lambda params: path_of(6))


BY_STEP = lambda params, z: Observed(dist.Normal(z, 1.0))
PLAIN = lambda params, x: dist.Normal(jnp.zeros((6, 2)), 1.0).to_event(2)

REFUSED = {
    "no path": (
        CASES["plain"].model,
        TypeError,
        r"latents along time: prior must return an aevb\.Markov, got Independent of Normal|got Normal",
    ),
    "no path in q": (of_paths(BY_STEP, PLAIN), TypeError, 'encode must return an aevb.Markov.*; proposal="prior" does'),
    "other steps": (
        of_paths(lambda params, z: Observed(dist.Normal(z[:4], 1.0))),
        ValueError,
        r"z has 6 steps, so x must have 6 steps on its leading axis, but it has shape \(4, 2\)",
    ),
    "of one length": (
        of_paths(lambda params, z: Observed(dist.Normal(z + jnp.zeros((6, 2)), 1.0))),
        ValueError,
        r"decode\(params, z\[:1\]\) must have shape \(1, 2\), but it has shape \(6, 2\)",
    ),
    "a failure": (
        of_paths(lambda params, z: Observed(dist.Normal(z.reshape(3, 4).reshape(6, 2), 1.0))),
        ValueError,
        r"decode\(params, z\[:1\]\) must have shape \(1, 2\), but it fails: .*reshape",
    ),
    "the future": (
        of_paths(lambda params, z: Observed(dist.Normal(z + 0 * jnp.flip(z, 0), 1.0))),
        ValueError,
        "its likelihood of one step of x depends on z at another step",
    ),
    "the past": (
        of_paths(lambda params, z: Observed(dist.Normal(jnp.cumsum(z, axis=0), 1.0))),
        ValueError,
        "its likelihood of one step of x depends on z at another step",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_do_not_go_step_by_step(name):
    model, error, message = REFUSED[name]
    params = model.init(KEY)
    shape = (4, 2) if name == "other steps" else CASES["plain"].data.shape[1:] if name == "no path" else (6, 2)
    x = np.full(shape, 0.5, np.float32)
    calls = [
        lambda: aevb.fivo_bound(params, KEY, x, model, 3),
        lambda: particle_filter(params, KEY, x, model, 3),
        lambda: marginal_likelihood.evaluate(params, KEY, x[None], model, "particle", num_samples=3),
    ]
    if name not in ("the future", "the past"):  # visible only in numbers
        calls.append(lambda: aevb.evaluate(params, KEY, x[None], model, aevb.Estimator(3, bound="fivo")))
    for call in calls:
        with pytest.raises(error, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_bootstrap_filter_needs_no_encoder():
    model = of_paths(BY_STEP, PLAIN)
    assert np.isfinite(particle_filter({}, KEY, jnp.ones((6, 2)), model, 50, "prior").log_marginal)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: aevb.Estimator(5, bound="fivo", gradient="score_function"), ValueError, "only .*pathwise.*, got"),
        (lambda: aevb.Estimator(0, bound="fivo"), ValueError, "num_samples must be at least 1, got 0"),
        (lambda: filtered(num_samples=0), ValueError, "num_samples must be at least 1, got 0"),
        (lambda: filtered(num_samples=2.0), TypeError, "num_samples must be an integer, got 2.0"),
        (lambda: filtered(num_filters=0), ValueError, "num_filters must be at least 1, got 0"),
        (lambda: filtered(proposal="encoder"), ValueError, "proposal must be one of .*, got 'encoder'"),
        (lambda: filtered(resample_below=50), ValueError, "between 0 and 1, got 50"),
        (lambda: filtered(x=jnp.ones((5, 2))), ValueError, r"x has shape \(5, 2\), the model's datapoints have"),
        (lambda: aevb.fivo_bound({}, jnp.ones(2), jnp.ones((6, 2)), of_paths(BY_STEP), 2), TypeError, "typed key"),
        (
            lambda: aevb.algorithms.auto_encoding(
                of_paths(BY_STEP), optax.adam(1e-3), 10, estimator=aevb.Estimator(5, bound="fivo"), free_bits=1.0
            ),
            ValueError,
            "free_bits need a KL, which FIVO does not have",
        ),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def filtered(x: Any = None, **options: Any) -> Any:
    x = jnp.ones((6, 2)) if x is None else x
    return particle_filter({}, KEY, x, of_paths(BY_STEP), **({"num_samples": 3} | options))
