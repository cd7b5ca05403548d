"""Every gradient estimator against the exact gradient of its bound, and the importance weighted bound."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb.gradients import Gradient
from aevb.model import data_shape
from tests import oracles
from tests.models import DATA_DIM, MODELS, linear_gaussian_model

NUM_DRAWS = 100_000
MOST_SIGMA = 4.5  # one false alarm in 150,000 coordinates; there are some 500 here
LARGEST_ERROR = 0.04  # of a mean gradient, relative to its norm: a bias of a tenth would be detected
NOISE_VARIANCE = 0.5


class Estimator(NamedTuple):
    bound: str
    kl: str
    gradient: Gradient
    num_samples: int

    def __str__(self):
        return " ".join(map(str, self))

    def __call__(self, params, key, x, model):
        if self.bound == "iwae":
            return aevb.iwae_bound(params, key, x, model, self.num_samples, self.gradient)
        return aevb.elbo(params, key, x, model, self.num_samples, self.kl, self.gradient)

    @property
    def pathwise(self):
        return self._replace(gradient="pathwise")


ELBO = [
    *(Estimator("elbo", kl, "pathwise", 1) for kl in ("analytic", "sampled")),
    Estimator("elbo", "sampled", "sticking_the_landing", 1),
    Estimator("elbo", "sampled", "sticking_the_landing", 3),
    *(Estimator("elbo", kl, "score_function", 1) for kl in ("analytic", "sampled")),
    *(Estimator("elbo", kl, "score_function", 3) for kl in ("analytic", "sampled")),
    *(Estimator("elbo", kl, "score_function_leave_one_out", 3) for kl in ("analytic", "sampled")),
]
IWAE = [
    *(Estimator("iwae", "", gradient, 1) for gradient in ("pathwise", "doubly_reparameterized", "score_function")),
    *(Estimator("iwae", "", gradient, 2) for gradient in ("pathwise", "doubly_reparameterized", "score_function")),
    Estimator("iwae", "", "score_function_leave_one_out", 2),
]


# A linear-Gaussian model whose encoder is diagonal and far from the posterior, whose prior is learned, and which
# shares a vector between encoder, decoder and prior.

X = np.array([0.8, -0.6, 0.3])
PARAMS = {
    "encoder": {
        "gain": np.array([[0.5, -0.2, 0.1], [0.3, 0.2, -0.4]]),
        "log_scale": np.array([-0.6, -0.2]),
    },
    "decoder": {"weights": np.array([[0.9, -0.3], [0.4, 0.8], [-0.5, 0.2]]), "bias": np.array([0.1, -0.2, 0.3])},
    "shared": np.array([0.2, -0.3]),
}


def posterior_mean_and_scale(params, x):
    return params["encoder"]["gain"] @ x + params["shared"], jnp.exp(params["encoder"]["log_scale"])


def decoder_mean(params, z):
    return params["decoder"]["weights"] @ (z + 0.5 * params["shared"]) + params["decoder"]["bias"]


SHARING = aevb.Model(
    lambda key: jax.tree.map(jnp.asarray, PARAMS),
    lambda params, x: dist.Normal(*posterior_mean_and_scale(params, x)).to_event(1),
    lambda params, z: dist.Normal(decoder_mean(params, z), NOISE_VARIANCE**0.5).to_event(1),
    lambda params: dist.Normal(params["shared"], 1.2).to_event(1),
)


def log_normal(value, mean, variance):
    return jnp.sum(-0.5 * jnp.log(2 * jnp.pi * variance) - 0.5 * (value - mean) ** 2 / variance, axis=-1)


def exact_elbo(params):
    """The exact ELBO in closed form: Gaussian expectations of quadratics."""
    mean, scale = posterior_mean_and_scale(params, X)
    spread = jnp.sum((params["decoder"]["weights"] * scale) ** 2) / (2 * NOISE_VARIANCE)
    reconstruction = log_normal(X, decoder_mean(params, mean), NOISE_VARIANCE) - spread
    ratio = scale**2 / 1.2**2
    divergence = 0.5 * jnp.sum(ratio - 1 - jnp.log(ratio) + (mean - params["shared"]) ** 2 / 1.2**2)
    return reconstruction - divergence


def exact_iwae_of_two(params, num_nodes=20):
    """E[log((w_1 + w_2) / 2)] by Gauss-Hermite quadrature over both dimensions of both z."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    noise = jnp.asarray(list(itertools.product(nodes, repeat=2)))
    measure = jnp.asarray([a * b for a, b in itertools.product(weights, repeat=2)]) / (2 * np.pi)
    mean, scale = posterior_mean_and_scale(params, X)
    z = mean + scale * noise
    log_joint = log_normal(X, jax.vmap(functools.partial(decoder_mean, params))(z), NOISE_VARIANCE)
    log_weights = log_joint + log_normal(z, params["shared"], 1.2**2) - log_normal(z, mean, scale**2)
    bounds = jnp.logaddexp(log_weights[:, None], log_weights[None, :]) - jnp.log(2)
    return measure @ bounds @ measure


def exact_bound(estimator):
    return exact_iwae_of_two if estimator.num_samples > 1 and estimator.bound == "iwae" else exact_elbo


class Comparison(NamedTuple):
    bound: float  # distance of the mean value from the exact bound, in standard errors
    gradient: float  # the same for the gradient, in the coordinate where it is largest
    relative_error: float  # standard error of the whole gradient, relative to its norm


def in_one_program(function, objectives, *in_axes):
    """Compile `function` of all objectives together, so that shared draws are made and compiled once."""

    def run(params, key, x, model):
        return [jax.vmap(function(objective), (*in_axes, None))(params, key, x, model) for objective in objectives]

    return jax.jit(run, static_argnums=3)


@functools.cache
def compare(model, objectives, exact_bounds) -> list[Comparison]:
    """Compare the means over many draws of each objective and its gradient with the exact ones."""
    params, keys = model.init(jax.random.key(0)), jax.random.split(jax.random.key(7), NUM_DRAWS)
    found = in_one_program(jax.value_and_grad, objectives, None, 0, None)(params, keys, jnp.asarray(X), model)
    once = {exact: jax.jit(jax.value_and_grad(exact))(params) for exact in set(exact_bounds)}
    comparisons = []
    for (bounds, gradients), exact in zip(found, exact_bounds, strict=True):
        exact_bound, exact_gradient = once[exact]
        draws = np.concatenate([np.reshape(leaf, (NUM_DRAWS, -1)) for leaf in jax.tree.leaves(gradients)], axis=1)
        expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(exact_gradient)])
        error = draws.std(0) / np.sqrt(NUM_DRAWS) + 1e-12
        comparisons.append(
            Comparison(
                float(abs(bounds.mean() - exact_bound) / (bounds.std() / np.sqrt(NUM_DRAWS))),
                float(np.max(np.abs(draws.mean(0) - expected) / error)),
                float(np.linalg.norm(error) / np.linalg.norm(expected)),
            )
        )
    return comparisons


def assert_unbiased(found: Comparison):
    assert found.bound < MOST_SIGMA
    assert found.gradient < MOST_SIGMA
    assert found.relative_error < LARGEST_ERROR


@pytest.mark.parametrize("estimator", [*ELBO, *IWAE], ids=str)
def test_gradient_is_unbiased(x64, estimator):
    group = ELBO if estimator in ELBO else IWAE
    found = compare(SHARING, tuple(group), tuple(map(exact_bound, group)))
    assert_unbiased(found[group.index(estimator)])


def without_the_score(params, key, x, model):
    """Sticking the landing with more than one weight, which iwae_bound refuses."""
    z, frozen = aevb.reparameterize(model.encode(params, x), key, (2,)), jax.lax.stop_gradient(params)
    log_joint = jax.vmap(lambda z: model.decode(params, z).log_prob(x) + model.prior(params).log_prob(z))(z)
    return jax.nn.logsumexp(log_joint - model.encode(frozen, x).log_prob(z))


def without_the_signal(params, key, x, model):
    """z treated as constant, without the score function in return."""
    posterior = model.encode(params, x)
    z = jax.lax.stop_gradient(posterior.sample(key))
    log_joint = model.decode(params, z).log_prob(x) + model.prior(params).log_prob(z)
    return log_joint - posterior.log_prob(z)


WRONG = {
    without_the_score: exact_iwae_of_two,
    without_the_signal: exact_elbo,
    Estimator("iwae", "", "pathwise", 2): exact_elbo,
    Estimator("elbo", "sampled", "score_function_leave_one_out", 2): exact_iwae_of_two,
}


@pytest.mark.parametrize("index", range(len(WRONG)))
def test_a_biased_gradient_would_be_found(x64, index):
    found = compare(SHARING, tuple(WRONG), tuple(WRONG.values()))
    assert found[index].gradient > 2 * MOST_SIGMA


def test_the_exact_answers_are_exact(x64):
    """The closed form agrees with the oracle, the quadrature with a finer one and with many draws."""
    params = SHARING.init(jax.random.key(0))
    weights, shared = params["decoder"]["weights"], params["shared"]
    exact = oracles.LinearGaussian(
        np.asarray(weights * 1.2), np.asarray(params["decoder"]["bias"] + weights @ (1.5 * shared)), NOISE_VARIANCE
    )  # in (z - prior mean) / 1.2
    mean, scale = posterior_mean_and_scale(params, X)
    standardized = np.asarray((mean - shared) / 1.2), np.diag(np.asarray(scale) ** 2) / 1.2**2
    np.testing.assert_allclose(exact_elbo(params), exact.elbo(X, *standardized), rtol=1e-12)
    coarse, fine = (
        jax.jit(jax.grad(functools.partial(exact_iwae_of_two, num_nodes=nodes)))(params) for nodes in (20, 28)
    )
    for one, other in zip(jax.tree.leaves(coarse), jax.tree.leaves(fine), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert exact_elbo(params) < exact_iwae_of_two(params) - 0.1 < exact.log_marginal(X) - 0.1


# Discrete latents: nothing can be reparameterized, and all 8 values of z can be enumerated.

BITS = jnp.asarray(list(itertools.product([0, 1], repeat=3)))
DISCRETE = aevb.Model(
    lambda key: {
        "encoder": jnp.array([[0.6, -0.4, 0.9], [-0.8, 0.3, 0.2], [0.1, 1.1, -0.5]]),
        "decoder": jnp.array([[0.9, -0.7, 0.4], [-0.2, 0.8, 0.6], [0.5, 0.3, -1.0]]),
        "prior": jnp.array([0.4, -0.3, 0.2]),
    },
    lambda params, x: dist.BernoulliLogits(params["encoder"] @ x).to_event(1),
    lambda params, z: dist.Normal(params["decoder"] @ z, 0.8).to_event(1),
    lambda params: dist.BernoulliLogits(params["prior"]).to_event(1),
)


def enumerated(params, num_samples):
    def log_weight_and_log_posterior(z):
        log_likelihood = jnp.asarray(DISCRETE.decode(params, z).log_prob(X))
        log_posterior = jnp.asarray(DISCRETE.encode(params, X).log_prob(z))
        return log_likelihood + DISCRETE.prior(params).log_prob(z) - log_posterior, log_posterior

    log_weights, log_posterior = jax.vmap(log_weight_and_log_posterior)(BITS)
    probabilities = jnp.exp(log_posterior)
    if num_samples == 1:
        return probabilities @ log_weights
    return probabilities @ (jnp.logaddexp(log_weights[:, None], log_weights[None, :]) - jnp.log(2)) @ probabilities


OF_DISCRETE = [
    *(Estimator("elbo", "sampled", "score_function", num_samples) for num_samples in (1, 2)),
    Estimator("elbo", "sampled", "score_function_leave_one_out", 2),
    Estimator("iwae", "", "score_function", 2),
    Estimator("iwae", "", "score_function_leave_one_out", 2),
]
ENUMERATED = {
    "elbo": functools.partial(enumerated, num_samples=1),
    "iwae": functools.partial(enumerated, num_samples=2),
}


@pytest.mark.parametrize("estimator", OF_DISCRETE, ids=str)
def test_discrete_latents_against_enumeration(x64, estimator):
    found = compare(DISCRETE, tuple(OF_DISCRETE), tuple(ENUMERATED[each.bound] for each in OF_DISCRETE))
    assert_unbiased(found[OF_DISCRETE.index(estimator)])


def test_discrete_latents_have_no_other_gradient(x64):
    params, key, x = DISCRETE.init(jax.random.key(0)), jax.random.key(1), jnp.asarray(X)
    for estimator in (Estimator("elbo", "sampled", "sticking_the_landing", 1), Estimator("iwae", "", "pathwise", 2)):
        with pytest.raises(
            TypeError, match=r'cannot be reparameterized: .*gradient="score_function", which needs none'
        ):
            estimator(params, key, x, DISCRETE)


# A flow's density at a fixed z is computed differently from that of a draw, and is slow to compile.
@pytest.mark.parametrize(
    ("model", "estimators"),
    [
        (SHARING, [estimator for estimator in (*ELBO, *IWAE) if estimator.num_samples > 1]),
        (
            aevb.mlp_vae((DATA_DIM,), 3, 8, posterior="flow", param_dtype="float64"),
            [Estimator("elbo", "sampled", "sticking_the_landing", 2)],
        ),
    ],
    ids=["sharing", "flow"],
)
def test_the_value_is_the_same_whatever_gives_the_gradient(x64, model, estimators):
    params, keys = model.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 3)
    xs = jax.random.uniform(jax.random.key(2), (3, *data_shape(model, params)))
    pathwise = [estimator.pathwise for estimator in estimators]
    values = in_one_program(lambda estimator: estimator, pathwise, None, 0, 0)(params, keys, xs, model)
    found = in_one_program(jax.value_and_grad, estimators, None, 0, 0)(params, keys, xs, model)
    for (value, gradient), expected in zip(found, values, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradient))


def test_the_value_is_the_bound_where_it_is_not_finite():
    """Log-densities of -infinity stay -infinity; infinities are not subtracted."""
    model = DISCRETE.__class__(
        lambda key: jnp.zeros(3),
        lambda params, x: dist.BernoulliLogits(params).to_event(1),
        lambda params, z: dist.Delta(jnp.ones(3), event_dim=1),
        lambda params: dist.BernoulliLogits(jnp.zeros(3)).to_event(1),
    )
    for bound in ("elbo", "iwae"):
        estimator = Estimator(bound, "sampled", "score_function", 2)
        assert estimator(jnp.zeros(3), jax.random.key(0), jnp.zeros(3), model) == -jnp.inf


def test_importance_weighted_bounds_rise_to_the_marginal_likelihood(x64):
    exact = oracles.LinearGaussian.random(4, 2, seed=1)
    model = linear_gaussian_model(exact, full_covariance=False)
    params = model.init(jax.random.key(0))
    params["encoder"]["factor"] *= 1.5  # wider than the posterior, so that the weights have a variance
    x = jnp.asarray(np.random.RandomState(0).randn(4))
    log_marginal = exact.log_marginal(np.asarray(x))
    gaps, errors = [], []
    for num_samples in (1, 4, 32):
        keys = jax.random.split(jax.random.key(num_samples), 20_000)
        bound = functools.partial(aevb.iwae_bound, num_samples=num_samples)
        bounds = np.asarray(jax.jit(jax.vmap(bound, (None, 0, None, None)))(params, keys, x, model))
        gaps.append(log_marginal - bounds.mean())
        errors.append(bounds.std() / len(bounds) ** 0.5)
    assert np.all(np.diff(gaps) < -MOST_SIGMA * np.hypot(errors[1:], errors[:-1]))
    assert gaps[-1] > -MOST_SIGMA * errors[-1]
    assert gaps[-1] + MOST_SIGMA * errors[-1] < 0.05 * gaps[0]


def test_one_weight_is_the_elbo(x64):
    params, key, x = SHARING.init(jax.random.key(0)), jax.random.key(1), jnp.asarray(X)
    pairs = [("pathwise", "pathwise"), ("doubly_reparameterized", "sticking_the_landing")]
    weighted = [Estimator("iwae", "", gradient, 1) for gradient, _ in pairs]
    plain = [Estimator("elbo", "sampled", gradient, 1) for _, gradient in pairs]
    found = jax.jit(lambda p: [jax.value_and_grad(e)(p, key, x, SHARING) for e in (*weighted, *plain)])(params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), found[:2], found[2:])


def test_noise_vanishes_at_the_exact_posterior(x64):
    model = linear_gaussian_model(oracles.LinearGaussian.random(DATA_DIM, 3, seed=0))
    params, key = model.init(jax.random.key(0)), jax.random.key(1)
    x = jnp.asarray(np.random.RandomState(0).randn(DATA_DIM))
    # The score function's is 0 too, once it has a baseline: every weight is p(x).
    estimators = [
        Estimator("elbo", "sampled", "sticking_the_landing", 1),
        Estimator("elbo", "sampled", "score_function_leave_one_out", 5),
        Estimator("iwae", "", "doubly_reparameterized", 5),
        Estimator("iwae", "", "pathwise", 5),
    ]
    *quiet, noisy = jax.jit(lambda params: [jax.grad(e)(params, key, x, model) for e in estimators])(params)

    def size(tree):
        return max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(tree))

    for gradient in quiet:
        assert size(gradient["encoder"]) < 1e-9
        assert size(gradient["decoder"]) > 1e-2
    assert size(noisy["encoder"]) > 1e-2


def test_leave_one_out_varies_less_than_no_baseline_and_pathwise_less_still():
    model, _ = MODELS["bernoulli"]
    params, x = model.init(jax.random.key(0)), jnp.linspace(0, 1, DATA_DIM)
    keys = jax.random.split(jax.random.key(1), 1000)

    names = ("score_function", "score_function_leave_one_out", "pathwise")
    estimators = [Estimator("elbo", "analytic", name, 4) for name in names]
    gradients = in_one_program(jax.grad, estimators, None, 0, None)(params, keys, x, model)
    none, leave_one_out, pathwise = (
        sum(float(jnp.sum(jnp.var(leaf, axis=0))) for leaf in jax.tree.leaves(each["encoder"])) for each in gradients
    )
    assert none > 100 * leave_one_out
    assert leave_one_out > pathwise


def test_a_loss_descends_by_the_estimator_it_was_made_with():
    model, _ = MODELS["bernoulli"]
    params, key = model.init(jax.random.key(0)), jax.random.key(1)
    xs = jax.random.uniform(jax.random.key(2), (5, DATA_DIM))
    loss = aevb.make_loss(model, 20, aevb.Estimator(2, gradient="score_function_leave_one_out"))
    keys = jax.random.split(key, 5)
    estimator = Estimator("elbo", "analytic", "score_function_leave_one_out", 2)
    (gradients,) = in_one_program(jax.grad, [estimator], None, 0, 0)(params, keys, xs, model)
    found = jax.jit(jax.grad(loss))(params, key, xs)
    for one, each in zip(jax.tree.leaves(found), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(one, -jnp.mean(each, axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            Estimator("elbo", "analytic", "sticking_the_landing", 1),
            r'a term that only kl="sampled" has, got kl=\'analytic\'',
        ),
        (Estimator("elbo", "sampled", "doubly_reparameterized", 2), 'gradient="sticking_the_landing" with kl="sampl'),
        (Estimator("iwae", "", "sticking_the_landing", 2), 'biased for .*: use gradient="doubly_reparameterized"'),
        (Estimator("iwae", "", "score_function_leave_one_out", 1), "num_samples of at least 2, got 1"),
        (Estimator("elbo", "analytic", "score_function_leave_one_out", 1), "num_samples of at least 2, got 1"),
        (Estimator("elbo", "analytic", "reinforce", 1), r"gradient must be one of \('pathwise', .*got 'reinforce'"),
        (Estimator("iwae", "", "reinforce", 1), "gradient must be one of"),
        (Estimator("iwae", "", "pathwise", 0), "num_samples must be at least 1, got 0"),
    ],
)
def test_combinations_that_would_be_wrong_are_refused(estimator, message):
    model, _ = MODELS["bernoulli"]
    params = model.init(jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda p: estimator(p, jax.random.key(0), jnp.zeros(DATA_DIM), model), params)
