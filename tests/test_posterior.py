"""Uses of a trained model, with every kind of model: encode, reconstruct, sample."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Given, Model, posterior
from aevb.data.rows import rows
from aevb.model import bind, likelihood_of, posterior_of, prior_of
from tests.models import CASES, SIZE, Case
from tests.newcomers import KEY, LINEAR, XS, normal, prior

pytestmark = pytest.mark.usefixtures("barely_optimized")

OTHER_KEY = jax.random.key(1)
MANY = 2000  # draws
ERRORS = 4.5  # allowed error of an estimate, in standard errors
ERRORS_OF_SQUARES = 5.5  # their mean over 64 draws has a longer tail: one entry in 10,000 exceeds 4.5
CHUNK_SIZE = 7  # does not divide the data
UNLABELLED = 1  # a datapoint whose latents all have noise
HIERARCHICAL = ("hierarchical", "hierarchical ladder", "hierarchical convolutional")
PATHS = ("path", "deep markov", "conditional deep markov", "linear gaussian")
MEAN_IS_UNKNOWN = (
    "flow", "two levels", "ladder", "three levels", "discrete level", "semi-supervised", *PATHS, *HIERARCHICAL
)  # fmt: skip
QUICK = ("plain", "ladder", "learned prior", "modalities")


@pytest.fixture(params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def name(request) -> str:
    return request.param


@functools.cache
def params_of(name: str) -> Any:
    """Return small parameters, for which paths have no heavy tails that would invalidate standard errors."""
    rng = np.random.RandomState(0)
    shapes = jax.eval_shape(CASES[name].model.init, KEY)
    return jax.tree.map(lambda leaf: 0.1 * rng.randn(*leaf.shape).astype(leaf.dtype), shapes)


def call(function: Callable[..., Any], name: str, data: Any = None, **options: Any) -> Any:
    case = CASES[name]
    return function(params_of(name), case.data if data is None else data, case.model, **options)


encode = functools.partial(call, posterior.encode)
reconstruct = functools.partial(call, posterior.reconstruct)


def sample(name: str, num_samples: int, key: Any = KEY, **options: Any) -> Any:
    case = CASES[name]
    condition = {"condition": case.data.condition[0]} if isinstance(case.data, Given) else {}
    return posterior.sample(params_of(name), key, num_samples, case.model, **(condition | options))


@functools.cache
def encoded(name: str) -> posterior.Encoded:
    """Encode all of the data in one chunk."""
    return encode(name, key=KEY, num_samples=MANY)


class Direct(NamedTuple):
    """The results of the model's own functions for one datapoint.

    Attributes:
      mean: The mean of q(z|x), if it is known.
      scale: The scale of q(z|x), if it is known.
      reconstructed: The mean of p(x|z) at that mean.
      draws: The means of p(x|z) at many draws of z.
    """

    mean: Any
    scale: Any
    reconstructed: Any
    draws: Any


@functools.cache
def direct(name: str, position: int) -> Direct:
    return _direct(params_of(name), rows(CASES[name].data, position), CASES[name].model, name not in MEAN_IS_UNKNOWN)


@functools.partial(jax.jit, static_argnums=3)
def _direct(params: Any, x: Any, model: Model, is_known: bool) -> Direct:
    bound, value = bind(model, x)
    q = posterior_of(bound, params, value)
    reconstructed = lambda z: mean_of(likelihood_of(bound, params, z))
    draws = jax.vmap(reconstructed)(q.sample(OTHER_KEY, (MANY,)))
    known = (q.mean, jnp.sqrt(q.variance), reconstructed(q.mean)) if is_known else (None, None, None)
    return Direct(*known, draws)


def mean_of(likelihood: Any) -> Any:
    return likelihood.means() if isinstance(likelihood, aevb.Chain) else likelihood.mean


def value_of(case: Case) -> Any:
    return case.data.value if isinstance(case.data, Given) else case.data


def assert_close(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    """Require the same structure and shapes, and the same numbers up to rounding."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def assert_mean(draws: Any, expected: Any, expected_error: Any = 0.0, errors: float = ERRORS) -> None:
    """Require that the mean of `draws` over the first axis is `expected`, within the errors of both."""
    draws = np.asarray(draws, np.float64)
    error = np.hypot(np.std(draws, axis=0) / len(draws) ** 0.5, expected_error)
    assert np.all(np.abs(np.mean(draws, axis=0) - expected) <= errors * error + 1e-5)


def shapes(tree: Any) -> Any:
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))
    return jax.tree.map(np.shape, tree)


def with_leading(sizes: tuple[int, ...], template: Any) -> Any:
    return jax.tree.map(lambda leaf: (*sizes, *leaf.shape), template)


# encode


def test_encoded_is_what_one_datapoint_gives(name):
    """This holds for any size of the chunks."""
    model, params = CASES[name].model, params_of(name)
    found = encode(name, key=KEY, num_samples=MANY, chunk_size=CHUNK_SIZE)
    assert_close(found, encoded(name))
    z = jax.eval_shape(lambda x: prior_of(bind(model, x)[0], params).sample(KEY), rows(CASES[name].data, 0))
    assert shapes(found.samples) == with_leading((SIZE, MANY), z)
    assert shapes(found.mean) == shapes(found.scale) == with_leading((SIZE,), z)
    if name in MEAN_IS_UNKNOWN:
        for moment, of in ((found.mean, np.mean), (found.scale, np.std)):
            exact = jax.tree.map(lambda leaf, of=of: of(np.float64(leaf), axis=1), found.samples)
            assert_close(moment, exact, rtol=1e-4)
    else:
        for position in (0, CHUNK_SIZE, SIZE - 1):
            assert_close(rows(found[:2], position), direct(name, position)[:2])


def test_samples_have_the_mean_and_the_scale(name):
    """Mean and scale are those that the family knows, or those of 64 draws."""
    is_known = name not in MEAN_IS_UNKNOWN
    expected = encode(name) if is_known else encode(name, key=OTHER_KEY)
    assert expected.samples is None
    num_draws = np.inf if is_known else posterior.NUM_SAMPLES
    leaves = map(jax.tree.leaves, (encoded(name).samples, expected.mean, expected.scale))
    for samples, mean, scale in zip(*leaves, strict=True):
        samples = np.moveaxis(np.asarray(samples, np.float64), 1, 0)
        assert_mean(samples, mean, np.std(samples, axis=0) / num_draws**0.5)
        squares = (samples - np.mean(samples, axis=0)) ** 2
        assert_mean(squares, scale**2, np.std(squares, axis=0) / num_draws**0.5, ERRORS_OF_SQUARES)


def test_noise_depends_on_the_key_and_the_position_alone(name):
    part, options = slice(2 * CHUNK_SIZE), {"num_samples": MANY, "chunk_size": CHUNK_SIZE}
    data = rows(CASES[name].data, part)
    assert_close(encode(name, data, key=KEY, **options), rows(encoded(name), part))
    repeated = encode(name, rows(data, np.full(2 * CHUNK_SIZE, UNLABELLED)), key=KEY, **options).samples
    other = encode(name, data, key=OTHER_KEY, **options).samples
    for samples, others, same in zip(*map(jax.tree.leaves, (encoded(name).samples, other, repeated)), strict=True):
        assert np.any(samples[part] != others)
        assert len(np.unique(same, axis=0)) == 2 * CHUNK_SIZE


# reconstruct


def test_reconstructed_is_what_one_datapoint_gives(name):
    """This holds at the posterior's mean, or at one draw if the mean is unknown, for any size of the chunks."""
    found = reconstruct(name, key=KEY, chunk_size=CHUNK_SIZE)
    assert shapes(found) == jax.tree.map(np.shape, value_of(CASES[name]))
    if name in MEAN_IS_UNKNOWN:
        assert_close(found, reconstruct(name, key=KEY, num_samples=1))
        return
    assert_close(found, reconstruct(name))
    for position in (0, CHUNK_SIZE, SIZE - 1):
        assert_close(rows(found, position), direct(name, position).reconstructed)


def test_reconstructed_over_draws_is_their_mean(name):
    found = reconstruct(name, key=KEY, num_samples=MANY)
    for position in (0, SIZE - 1):
        draws, means = map(jax.tree.leaves, (direct(name, position).draws, rows(found, position)))
        for leaf, mean in zip(draws, means, strict=True):
            if np.isnan(leaf).any():  # a class has no mean
                assert name == "modalities"
                assert np.isnan(mean)
            else:
                assert_mean(leaf, mean, np.std(leaf, axis=0) / MANY**0.5)


# sample


def test_sampled_is_made_up_of_prior_and_likelihood(name):
    """Means of p(x|z) and draws from it have the same mean. Draws have the shape and dtype of data."""
    case, params = CASES[name], params_of(name)
    bound = bind(case.model, rows(case.data, 0))[0]

    @jax.jit
    def means_of_draws(key: jax.Array) -> Any:
        z = prior_of(bound, params).sample(key, (MANY,))
        return jax.vmap(lambda z: mean_of(likelihood_of(bound, params, z)))(z)

    expected = means_of_draws(OTHER_KEY)
    for mean in (True, False):
        found = sample(name, MANY, mean=mean)
        assert shapes(found) == with_leading((MANY,), rows(value_of(case), 0))
        for values, means in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            if np.isnan(means).any():  # of a class
                assert np.isnan(values).all() if mean else set(np.unique(values)) == {0, 1, 2}
            else:
                assert_mean(values, np.mean(means, axis=0), np.std(means, axis=0) / MANY**0.5)
    assert_close(sample(name, 10, chunk_size=4, mean=False), rows(found, slice(10)))


def test_pixels_that_are_drawn_are_zeros_and_ones():
    found = sample("plain", 50, mean=False)
    assert set(np.unique(found)) == {0, 1}
    means = sample("plain", 50)
    assert np.all((means > 0) & (means < 1))


def test_samples_are_given_one_condition():
    one, other = (sample("learned prior", MANY, condition=label) for label in (0, 2))
    errors = np.hypot(np.std(one, axis=0), np.std(other, axis=0)) / MANY**0.5
    assert np.any(np.abs(np.mean(one, axis=0) - np.mean(other, axis=0)) > 10 * errors)


# All three


def test_progress_is_told():
    for function in (encode, reconstruct, functools.partial(sample, num_samples=SIZE)):
        told: list[int] = []
        function("plain", chunk_size=CHUNK_SIZE, on_chunk=told.append)
        assert told == [7, 14, 21, 24]
        function("plain", chunk_size=SIZE + 1, on_chunk=told.append)
        assert told[4:] == [SIZE]


def test_arrays_of_either_kind_are_taken():
    data = jnp.asarray(CASES["plain"].data)
    assert_close(encode("plain", data)[:2], encode("plain")[:2])


# Posteriors that know one of two moments, or claim to


def on_a_sphere(params: Any, x: Any) -> Any:
    """A posterior that knows its mean direction, which is not a mean, and no variance."""
    return dist.ProjectedNormal(params["encoder"] @ x)


def of_a_class(params: Any, x: Any) -> Any:
    return dist.Categorical(logits=params["encoder"] @ x)


def at_a_class(params: Any, z: Any) -> dist.Distribution:
    return normal(params["decoder"] @ jax.nn.one_hot(z, 3))


def test_a_moment_that_is_known_is_exact():
    model = Model(LINEAR.init, on_a_sphere, LINEAR.decode, lambda params: dist.ProjectedNormal(jnp.ones(3)))
    params = LINEAR.init(KEY)
    with pytest.raises(ValueError, match="need a key"):
        posterior.encode(params, XS, model)
    found = posterior.encode(params, XS, model, key=KEY)
    np.testing.assert_allclose(found.mean[0], on_a_sphere(params, XS[0]).mean, rtol=1e-5)
    assert np.all(found.scale > 0)
    assert posterior.reconstruct(params, XS, model).shape == XS.shape


def test_a_class_has_no_mean():
    """numpyro returns NaN as its mean. A class is drawn instead, and never decoded from NaN."""
    model = Model(LINEAR.init, of_a_class, at_a_class, lambda params: dist.Categorical(logits=jnp.zeros(3)))
    params = {"encoder": LINEAR.init(KEY)["encoder"], "decoder": jnp.arange(36.0).reshape(12, 3)}
    for function in (posterior.encode, posterior.reconstruct):
        with pytest.raises(ValueError, match="need a key"):
            function(params, XS, model)
    found = posterior.encode(params, XS, model, key=KEY, num_samples=MANY)
    np.testing.assert_allclose(found.mean, np.mean(found.samples, axis=1), rtol=1e-5)
    one_of = np.asarray(params["decoder"]).T
    reconstructed = posterior.reconstruct(params, XS, model, key=KEY)
    assert np.all(np.any(np.all(reconstructed[:, None] == one_of, axis=-1), axis=-1))
    assert len(np.unique(reconstructed, axis=0)) == 3


# Errors


@pytest.mark.parametrize("function", [posterior.encode, posterior.reconstruct])
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"xs": CASES["plain"].data[:0]}, ValueError, "xs are empty: there is nothing to encode"),
        ({"xs": CASES["plain"].data[:, :3]}, ValueError, "datapoints of xs have shape (3,)"),
        ({"xs": CASES["plain"].data[0]}, ValueError, "x[None]"),
        ({"xs": CASES["plain"].data + 1}, ValueError, "outside of the likelihood's support, [0, 1]"),
        ({"xs": CASES["missing data"].data}, ValueError, "xs has NaN"),
        ({"xs": CASES["condition"].data}, TypeError, "the model takes no condition: pass its value alone"),
        ({"xs": "digits"}, TypeError, "xs must be arrays of numbers [N, ...], got 'digits'"),
        ({"num_samples": 2}, ValueError, "need a key"),
        ({"num_samples": -1, "key": KEY}, ValueError, "num_samples must be at least 0, got -1"),
        ({"num_samples": 1.5, "key": KEY}, TypeError, "num_samples must be an integer, got 1.5"),
        ({"key": 0}, TypeError, "key must be one typed key"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        ({"model": "mlp"}, TypeError, "model must be an aevb.Model"),
        ({"model": CASES["condition"].model}, TypeError, "pass aevb.Given(value, condition)"),
        ({"params": {}}, ValueError, "params are not the parameters of this model"),
    ],
)
def test_what_can_not_be_encoded_is_refused(function, changes, error, words):
    case = CASES["plain"]
    with pytest.raises(error) as caught:
        function(**({"params": params_of("plain"), "xs": case.data, "model": case.model} | changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [encode, reconstruct])
def test_a_posterior_that_does_not_know_its_mean_needs_a_key(function):
    with pytest.raises(ValueError, match=r"need a key: (encode|reconstruct)\(params, xs, model, key=jax\.random\.key"):
        function("flow")


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("plain", {"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ("plain", {"num_samples": 2.0}, TypeError, "num_samples must be an integer, got 2.0"),
        ("plain", {"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        ("plain", {"key": 0}, TypeError, "key must be one typed key"),
        ("plain", {"condition": 1}, TypeError, "the model takes no condition"),
        ("condition", {"condition": None}, TypeError, "the model takes a condition"),
    ],
)
def test_what_can_not_be_sampled_is_refused(name, options, error, words):
    with pytest.raises(error) as caught:
        sample(name, **({"num_samples": 3} | options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_parameters_are_refused_by_sample():
    with pytest.raises(ValueError, match="params are not the parameters of this model"):
        posterior.sample({}, KEY, 3, CASES["plain"].model)
    other = Model(LINEAR.init, LINEAR.encode, LINEAR.decode, lambda params: prior(params).expand((2,)))
    with pytest.raises(ValueError, match="prior must"):
        posterior.sample(LINEAR.init(KEY), KEY, 3, other)
