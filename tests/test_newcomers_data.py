"""Mistakes in the values and shapes of data: each is answered at once, in one or two lines."""

from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Algorithm, Given, Model, Observed
from aevb.likelihoods import GreyBernoulli
from tests.newcomers import (
    CONDITIONAL,
    DATA_DIM,
    KEY,
    LABELLED,
    LABELS,
    LINEAR,
    OBSERVED,
    OPTIMIZER,
    PIXEL_MODEL,
    PIXEL_WEIGHTS,
    PIXELS,
    WEIGHTS,
    WITH_GAPS,
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
    of_data,
    population,
    state_of,
    wrong,
)

OUTSIDE = "outside of the likelihood's support, [0, 1]: scale it first, x / 255"

MISTAKES: dict[str, Mistake] = {
    # Values
    **everywhere("pixels of 0 to 255 as floats", of_data(255 * XS), ValueError, OUTSIDE),
    **everywhere("pixels of 0 to 255 as integers", of_data(PIXELS), ValueError, OUTSIDE),
    **everywhere("NaN without Observed", of_data(WITH_GAPS), ValueError, "has NaN", "only under aevb.Observed"),
    "pixels of 0 to 255 in a Stream": wrong(lambda: fit(PIXEL_MODEL, aevb.Stream(255 * XS)), ValueError, OUTSIDE),
    "pixels of 0 to 255 in a Stream, evaluated": wrong(
        lambda: evaluate(PIXEL_MODEL, PIXEL_WEIGHTS, data=aevb.Stream(255 * XS)), ValueError, OUTSIDE
    ),
    "integer pixels in a Stream": wrong(
        lambda: fit(PIXEL_MODEL, aevb.Stream(PIXELS)), ValueError, "give the Stream a max_value to scale them"
    ),
    "a max_value below the pixels": wrong(
        lambda: fit(PIXEL_MODEL, aevb.Stream(PIXELS, max_value=16)), ValueError, "above its max_value of 16"
    ),
    "grey pixels for numpyro's Bernoulli": wrong(
        lambda: fit(linear(decode=lambda params, z: bits(params["decoder"] @ z))),
        ValueError,
        'draw pixels with binarization="stochastic", or use aevb.likelihoods.GreyBernoulli',
    ),
    **{
        f"NaN to be binarized, {binarization}": wrong(
            lambda binarization=binarization: fit(OBSERVED, WITH_GAPS, binarization=binarization),
            ValueError,
            f"data contain NaN, which binarization='{binarization}' would draw as a 0",
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
        lambda: evaluate(OBSERVED, data=aevb.Stream(WITH_GAPS), binarization="threshold"), ValueError, "contain NaN"
    ),
    **{
        f"pixels of 0 to 255 to be binarized, {binarization}": wrong(
            lambda binarization=binarization: fit(PIXEL_MODEL, 255 * XS, binarization=binarization),
            ValueError,
            f"but binarization='{binarization}' needs probabilities: scale them first",
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
        "a single datapoint needs a leading axis, x[None]",
    ),
    "data as a list of datapoints": wrong(lambda: evaluate(data=[*XS]), ValueError, "numpy.asarray makes one array"),
    "data as a list of lists": wrong(lambda: fit(data=XS.tolist()), TypeError, "data must be arrays of numbers"),
    "a data set's name": wrong(lambda: fit(data="digits"), TypeError, "data must be arrays", "got 'digits'"),
    "strings": wrong(lambda: fit(data=np.array(["a", "b"])), TypeError, "data must be arrays of numbers"),
    "a Dataset where its pixels belong": wrong(
        lambda: fit(data=aevb.data.Dataset("mine", "train", PIXELS.reshape(-1, 3, 4), None, 255, "all")),
        TypeError,
        "got a Dataset: use its .pixels()",
    ),
    "data and labels as a tuple": wrong(lambda: fit(data=(XS, LABELS)), ValueError, "have shape ((12,), ())"),
    "no data": wrong(lambda: fit(data=XS[:0]), ValueError, "the data are empty"),
    "no data to evaluate": wrong(lambda: evaluate(data=XS[:0]), ValueError, "the data are empty"),
    "a minibatch larger than the data": wrong(
        lambda: fit(batch_size=100),
        ValueError,
        "batch_size must be between 1 and the size of the data set, 40, got 100",
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
        lambda: fit(test_data=XS[:, :5]), ValueError, "test_data have shape (5,), but those of data have shape (12,)"
    ),
    "test data without the condition": wrong(
        lambda: fit(CONDITIONAL, LABELLED, test_data=XS),
        ValueError,
        "those of data have shape Given(value=(12,), condition=())",
    ),
    "empty test data": wrong(lambda: fit(test_data=XS[:0]), ValueError, "test_data is empty: leave it out instead"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_at_once(name):
    assert_answered(MISTAKES[name])


def untraceable(model: Model, optimizer: Any, dataset_size: int, map_prior: bool) -> Algorithm:
    """An algorithm whose step must not be traced."""

    def step(state: Any, xs: Any, indices: Any) -> Any:
        raise AssertionError("a training step was traced")

    return aevb.auto_encoding(model, optimizer, dataset_size, map_prior)._replace(step=step)


DATA_MISTAKES = {
    "values": (255 * XS, OUTSIDE),
    "integers": (PIXELS, OUTSIDE),
    "NaN": (WITH_GAPS, "has NaN"),
    "a shape": (XS[:, :5], "datapoints of data have shape (5,)"),
    "a Stream": (aevb.Stream(255 * XS), OUTSIDE),
}


@pytest.mark.parametrize("what", DATA_MISTAKES)
@pytest.mark.parametrize("going_on", [False, True])
def test_data_are_checked_before_a_training_step_is_traced(what, going_on):
    data, words = DATA_MISTAKES[what]
    state = state_of(model=PIXEL_MODEL) if going_on else None
    options = {"algorithm": untraceable, "optimizer": OPTIMIZER, "state": state}
    assert_answered(wrong(lambda: fit(PIXEL_MODEL, data, **options), ValueError, words))


def test_data_of_a_population_are_checked_before_a_training_step_is_traced():
    call = lambda: population(data=255 * XS, model=PIXEL_MODEL, algorithm=untraceable)
    assert_answered(wrong(call, ValueError, OUTSIDE))


def test_pixels_of_0_to_255_never_look_like_a_result():
    """Where values are unknown, in a compiled program, their probability is 0."""
    x = np.full(DATA_DIM, 200, np.uint8)
    assert jax.jit(aevb.elbo)(PIXEL_WEIGHTS, KEY, x, PIXEL_MODEL) == -np.inf
    assert jax.jit(aevb.iwae_bound, static_argnums=4)(PIXEL_WEIGHTS, KEY, x, PIXEL_MODEL, 3) == -np.inf
    zeros_and_ones = x > np.arange(DATA_DIM) * 40
    bound = jax.jit(aevb.elbo)(PIXEL_WEIGHTS, KEY, zeros_and_ones.astype(np.uint8), PIXEL_MODEL)
    assert bound == jax.jit(aevb.elbo)(PIXEL_WEIGHTS, KEY, zeros_and_ones.astype(np.float32), PIXEL_MODEL)


def test_what_is_missing_is_evaluated_under_observed():
    assert np.isfinite(evaluate(OBSERVED, data=WITH_GAPS).elbo)


def test_pixels_are_drawn_for_a_likelihood_of_zeros_and_ones():
    """Grey intensities are outside of its support, but targets drawn from them are inside."""
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
    with pytest.raises(
        aevb.DivergedError, match=r"at step 0, .* encode must not see: use aevb\.distributions\.zeros_and"
    ):
        fit(model, WITH_GAPS)


@pytest.mark.parametrize(
    "make", [lambda data: data, lambda data: aevb.Stream(data, block_size=10)], ids=["array", "stream"]
)
def test_numpy_s_64_bits_are_taken_without_a_warning(make):
    """What NumPy makes by default, floats and labels; warnings are errors here, and JAX 0.12 warns of wide shapes."""
    for model, data in ((PIXEL_MODEL, XS), (CONDITIONAL, Given(XS, LABELS))):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.result_type(leaf.dtype, leaf.dtype.kind + "8")), data)
        result = fit(model, make(wide))
        assert np.isfinite(aevb.evaluate(result.state.params, KEY, make(wide), model).elbo)
