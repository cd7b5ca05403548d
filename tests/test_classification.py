"""Bayes' rule on exact bounds, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Estimator, Model, Stream, classify
from tests.models import CASES
from tests.oracles import LinearGaussian

KEY = jax.random.key(0)
NUM_CLASSES, WIDTH, LATENT, SIZE = 3, 4, 2, 30
OF_CLASS = [LinearGaussian.random(WIDTH, LATENT, seed) for seed in range(NUM_CLASSES)]
XS = np.random.RandomState(9).randn(SIZE, WIDTH)
LOG_PRIOR = np.log([0.2, 0.5, 0.3])
EXACT = Estimator(kl="sampled")  # log p(x, z) - log q(z|x) is log p(x) for every z if q(z|x) is the posterior


def model_of(classes: list[LinearGaussian], widened: float = 1.0) -> Model:
    """A linear-Gaussian model per class; q(z|x, y) is its exact posterior, or `widened`."""

    def stacked(function):
        return jnp.stack([jnp.asarray(function(each)) for each in classes])

    def init(key):
        del key
        gain = stacked(lambda of: np.stack([of.posterior(of.bias + e)[0] for e in np.eye(WIDTH)], axis=1))
        encoder = {"gain": gain, "factor": stacked(lambda of: np.linalg.cholesky(of.posterior(of.bias)[1]))}
        return {
            "encoder": encoder,
            "decoder": {"weights": stacked(lambda of: of.weights), "bias": stacked(lambda of: of.bias)},
        }

    def encode(params, x, label):
        mean = params["encoder"]["gain"][label] @ (x - params["decoder"]["bias"][label])
        return dist.MultivariateNormal(mean, scale_tril=widened * params["encoder"]["factor"][label])

    def decode(params, z, label):
        mean = params["decoder"]["weights"][label] @ z + params["decoder"]["bias"][label]
        return dist.Normal(mean, classes[0].noise_variance ** 0.5).to_event(1)

    def prior(params, label):
        del params, label
        return dist.MultivariateNormal(jnp.zeros(LATENT), scale_tril=jnp.eye(LATENT))

    return Model(init, encode, decode, prior)


def evidences() -> np.ndarray:
    return np.array([[of.log_marginal(x) for of in OF_CLASS] for x in XS])


@pytest.mark.parametrize("log_prior", [None, LOG_PRIOR])
@pytest.mark.parametrize("estimator", [EXACT, Estimator(5, "sampled", bound="iwae")])
def test_exact_bounds_give_bayes_rule(x64, estimator, log_prior):
    model = model_of(OF_CLASS)
    found = classify(model.init(KEY), KEY, XS, model, NUM_CLASSES, log_prior=log_prior, estimator=estimator)
    joint = evidences() + (np.log(1 / NUM_CLASSES) if log_prior is None else log_prior)
    np.testing.assert_allclose(found.log_joint, joint, rtol=1e-9)
    np.testing.assert_allclose(found.probabilities, np.exp(joint) / np.exp(joint).sum(1, keepdims=True), rtol=1e-7)
    np.testing.assert_array_equal(found.labels, joint.argmax(1))
    assert len(np.unique(found.labels)) == NUM_CLASSES


def test_the_prior_decides_between_classes_that_explain_x_alike(x64):
    model = model_of([OF_CLASS[0]] * 2)
    found = classify(model.init(KEY), KEY, XS, model, 2, log_prior=np.log([0.9, 0.1]), estimator=EXACT)
    np.testing.assert_allclose(found.probabilities, [[0.9, 0.1]] * SIZE)


def test_a_loose_bound_is_below_the_evidence_and_more_weights_bring_it_closer(x64):
    model = model_of(OF_CLASS, widened=1.5)
    params = model.init(KEY)
    exact = evidences() - np.log(NUM_CLASSES)
    gaps = []
    for estimator in (Estimator(200, "analytic"), Estimator(200, "sampled", bound="iwae")):
        found = classify(params, KEY, XS, model, NUM_CLASSES, estimator=estimator)
        gaps.append(np.mean(exact - found.log_joint))
    assert 0.2 < gaps[0] < 2
    assert abs(gaps[1]) < 0.2 * gaps[0]


def test_classes_share_their_noise(x64):
    """Two classes with the same parameters have the same bound to the bit, for every draw."""
    model = model_of([OF_CLASS[0], OF_CLASS[0], OF_CLASS[1]], widened=1.5)
    found = classify(model.init(KEY), KEY, XS, model, 3, estimator=Estimator(2)).log_joint
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    other = classify(model.init(KEY), jax.random.key(1), XS, model, 3, estimator=Estimator(2)).log_joint
    assert np.all(np.abs(other[:, 0] - found[:, 0]) > 0)


@pytest.mark.parametrize("binarization", ["grey", "stochastic"])
def test_chunks_streams_and_positions_change_nothing(binarization):
    case, calls = CASES["condition"], []
    params, xs = case.model.init(KEY), case.data.value
    settings = {"binarization": binarization}
    whole = classify(params, KEY, xs, case.model, 3, **settings)
    for data, size in ((xs, 7), (Stream(xs, block_size=10), 4)):
        found = classify(params, KEY, data, case.model, 3, chunk_size=size, on_chunk=calls.append, **settings)
        np.testing.assert_allclose(found.log_joint, whole.log_joint, rtol=1e-5)
    assert calls == [7, 14, 21, 24, 4, 8, 10, 14, 18, 20, 24]


def test_the_bound_is_that_of_evaluate_on_average():
    case = CASES["conditional mlp"]
    params = case.model.init(KEY)
    found = classify(params, KEY, case.data.value, case.model, 3, estimator=Estimator(300)).log_joint + np.log(3)
    of_label = np.mean(found[np.arange(len(found)), case.data.condition])
    bound = aevb.evaluate(params, KEY, case.data, case.model, Estimator(300))
    assert of_label == pytest.approx(bound.elbo, abs=0.02)


def test_what_newcomers_get_wrong():
    case = CASES["conditional mlp"]
    params, xs = case.model.init(KEY), case.data.value
    ask = lambda data=xs, model=case.model, num_classes=3, **options: classify(
        params, KEY, data, model, num_classes, **options
    )
    for call, error, words in (
        (lambda: ask(case.data), TypeError, "xs must have no labels, got a Given"),
        (lambda: ask(model=CASES["plain"].model), TypeError, "the model takes no condition"),
        (lambda: ask(num_classes=4), ValueError, "the condition must be a label from 0 to 2, got 3"),
        (lambda: ask(num_classes=1), ValueError, "num_classes must be at least 2, got 1"),
        (
            lambda: ask(log_prior=[0.2, 0.3, 0.5]),
            ValueError,
            "logarithms of probabilities that sum to one",
        ),
        (lambda: ask(log_prior=np.log([0.5, 0.5])), ValueError, "log_prior must have shape [3], one entry per class"),
        (lambda: ask(xs[:0]), ValueError, "there is nothing to classify"),
        (lambda: ask(9 * xs), ValueError, "outside of the likelihood's support"),
        (lambda: ask(xs[:, :4]), ValueError, "the model's datapoints have shape (5,)"),
    ):
        with pytest.raises(error) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
