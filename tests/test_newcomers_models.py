"""Mistakes in a model's functions, levels and conditions: each is answered at once, in one or two lines."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Chain, Given, Markov, Model, Observed
from aevb.algorithms import monte_carlo_em
from tests.models import CASES
from tests.newcomers import (
    CONDITIONAL,
    DATA_DIM,
    FLOW,
    KEY,
    LABELLED,
    LABELS,
    LATENT_DIM,
    PRIOR_OF_ONE,
    WITHOUT_TO_EVENT,
    XS,
    Mistake,
    assert_answered,
    bits,
    elbo,
    encoded,
    evaluate,
    everywhere,
    fit,
    iwae,
    linear,
    marginal,
    normal,
    of_model,
    parameters,
    sample,
    wrong,
)


def two_levels(q1: Any = None, q2: Any = None, p1: Any = None, name: str = "z2") -> Model:
    """Return a model of two levels, drawn from the data up in q and from the top down in p."""
    q1 = q1 or (lambda x: normal(x[:LATENT_DIM]))
    q2, p1 = q2 or (lambda z: normal(z["z1"])), p1 or (lambda z: normal(z["z2"]))
    return linear(
        encode=lambda params, x: Chain(z1=q1(x), **{name: q2}),
        decode=lambda params, z: normal(params["decoder"] @ z["z1"]),
        prior=lambda params: Chain(z2=normal(jnp.zeros(LATENT_DIM)), z1=p1),
    )


DISCRETE = two_levels(lambda x: bits(x[:LATENT_DIM]), lambda z: normal(1.0 * z["z1"]), lambda z: bits(z["z2"]))


def paths(step: Any) -> Model:
    """Return a model of paths with one step per value."""
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
    """A callable object with arrays."""

    def __init__(self, array: Any):
        self.array = array

    def __call__(self, z: Any) -> dist.Distribution:
        return normal(z["z2"] + self.array)


MISTAKES: dict[str, Mistake] = {
    # Return values of a model's functions
    **{
        name: mistake._replace(never_says="sampled")
        for name, mistake in everywhere(
            "encode without to_event", of_model(WITHOUT_TO_EVENT), ValueError, "encode must", "end it with .to_event(1)"
        ).items()
    },
    **everywhere(
        "a prior of one dimension and an encoder of three",
        of_model(PRIOR_OF_ONE),
        ValueError,
        "encode returns a distribution over z of shape (3,), but prior returns one of shape (1,)",
    ),
    **everywhere(
        "encode that returns a tuple",
        of_model(linear(encode=lambda params, x: (params["encoder"] @ x, 1.0))),
        TypeError,
        "encode must return one numpyro distribution, got a tuple: return, for example, dist.Normal(mean, scale)",
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
        "level 'z1' of a Chain uses 'z2', which does not come before it",
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
        "over z of shape {'z1': (3,), 'z3': (3,)}, but prior returns one of shape {'z1': (3,), 'z2': (3,)}",
    ),
    "levels in q and one vector in p": wrong(
        lambda: elbo(linear(encode=two_levels().encode)), ValueError, "prior returns one of shape (3,)"
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
        "Observed needs a factorised likelihood, but under MultivariateNormal the values of an event",
    ),
    "Observed over an array": wrong(lambda: Observed(jnp.zeros(3)), TypeError, "Observed wraps a numpyro distribution"),
    # Discrete latents
    **everywhere(
        "a discrete level and the pathwise gradient",
        {"elbo": lambda: elbo(DISCRETE), "iwae_bound": lambda: iwae(DISCRETE), "fit": lambda: fit(DISCRETE)},
        TypeError,
        "level 'z1' (BernoulliLogits) cannot be reparameterized",
        'gradient="score_function", which needs none',
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
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_at_once(name):
    assert_answered(MISTAKES[name])


def test_an_error_of_the_models_own_passes_unchanged():
    class OwnError(Exception):
        pass

    def decode(params: Any, z: Any) -> Any:
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        elbo(linear(decode=decode))


@pytest.mark.parametrize("name", CASES)
def test_the_weighted_bound_is_a_scalar(name):
    model, data, *_ = CASES[name]
    options = {"num_samples": 3, "gradient": "score_function"}
    bound = functools.partial(aevb.iwae_bound, **options)
    x = jax.tree.map(lambda leaf: leaf[0], data)
    assert jax.eval_shape(lambda params, x: bound(params, KEY, x, model), parameters(model), x).shape == ()
