"""The Gaussian steps that a draw of a path keeps give the same bounds and gradients as steps computed again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Chain, Markov, Model, Observed
from aevb.distributions.markov import GaussianSteps
from aevb.models import deep_markov_vae, linear_gaussian_state_space
from tests.gaussians import normal

pytestmark = pytest.mark.usefixtures("barely_optimized")

LENGTH, NUM_SAMPLES = 5, 3
KEY = jax.random.key(0)


def prior_step(params, z, time):
    del time
    return normal(params["shift"] + jnp.tanh(z @ params["A"]), jnp.exp(params["log_scale"]))


def posterior_step(params, z, read):
    return normal(read + params["shift"] + 0.5 * jnp.tanh(z @ params["A"]), 0.5 + jnp.square(z))


def independent_step(params, z, read):
    """A step without the axes of the draws, and with a scale of one entry."""
    del z
    return normal(read, jnp.exp(params["log_scale"][:1]))


def path_given_level(step, params, inputs, z):
    return Markov(step, params | {"shift": z["level"]}, jnp.zeros(2), inputs)


def level_and_path(step):
    """Return a model of one Gaussian level, and a path whose steps are shifted by it."""

    def init(key):
        one = {"A": jax.random.normal(key, (2, 2)), "log_scale": jnp.array([0.1, -0.3])}
        return {"encoder": one | {"read": jnp.ones((3, 2))}, "decoder": one | {"emission": jnp.ones((2, 3))}}

    def levels(step, params, inputs, mean):
        path = functools.partial(path_given_level, step)
        return Chain(level=normal(mean, jnp.ones(2)), path=jax.tree_util.Partial(path, params, inputs))

    def encode(params, x):
        read = jnp.where(jnp.isnan(x), 0, x) @ params["encoder"]["read"]
        return levels(step, params["encoder"], read, jnp.mean(read, axis=0))

    def decode(params, z):
        return Observed(dist.Bernoulli(logits=z["path"] @ params["decoder"]["emission"]))

    def prior(params):
        return levels(prior_step, params["decoder"], jnp.arange(LENGTH), jnp.zeros(2))

    return Model(init, encode, decode, prior)


def deep_markov(posterior):
    return deep_markov_vae((LENGTH, 3), 2, 3, 3, 3, posterior=posterior, param_dtype="float64")


def linear_gaussian(posterior):
    return linear_gaussian_state_space((LENGTH, 3), 2, posterior, 3, param_dtype="float64")


CASES = {
    "structured": (deep_markov, "structured", ("analytic", "sampled")),
    "mean field": (deep_markov, "mean_field", ("analytic",)),
    "flow": (deep_markov, "flow", ("sampled",)),
    "linear": (linear_gaussian, "recurrent", ("sampled",)),
    "exact": (linear_gaussian, "exact", ("analytic",)),
    "level and path": (level_and_path, posterior_step, ("analytic", "sampled")),
    "level and independent steps": (level_and_path, independent_step, ("analytic",)),
}


def rolls():
    """Return four sequences with a gap, a missing value and padding."""
    x = (np.random.RandomState(0).rand(4, LENGTH, 3) > 0.5).astype(float)
    x[0, 2], x[0, 1, 1], x[1, 3:], x[2, 4:] = np.nan, np.nan, np.nan, np.nan
    return jnp.asarray(x)


def away_from_the_initial(params):
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)


def recompute_every_step(patch):
    """Let densities and KL divergences ignore what draws keep. Flows still use their own intermediates."""
    conditionals = Markov.conditionals
    patch.setattr(Markov, "conditionals", lambda self, z, intermediates=None: conditionals(self, z))


@pytest.mark.parametrize(
    ("case", "estimator"),
    [
        *[(case, aevb.Estimator(NUM_SAMPLES, kl)) for case, (*_, kls) in CASES.items() for kl in kls],
        ("structured", aevb.Estimator(NUM_SAMPLES, "analytic", "score_function")),
        ("structured", aevb.Estimator(NUM_SAMPLES, "sampled", "sticking_the_landing")),
        ("structured", aevb.Estimator(NUM_SAMPLES, "sampled", "doubly_reparameterized", "iwae")),
        ("structured", aevb.Estimator(NUM_SAMPLES, "sampled", "pathwise", "iwae")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join((value.bound, value.kl, value.gradient)),
)
def test_bounds_and_gradients_are_those_of_recomputed_steps(x64, monkeypatch, case, estimator):
    make, posterior, _ = CASES[case]
    model = make(posterior)
    params, xs = away_from_the_initial(model.init(KEY)), rolls()
    loss = aevb.make_loss(model, len(xs), estimator)
    compute = lambda: jax.jit(jax.value_and_grad(lambda params: loss(params, KEY, xs)))(params)
    kept = compute()
    recompute_every_step(monkeypatch)
    for found, expected in zip(jax.tree.leaves(kept), jax.tree.leaves(compute()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11 * (1 + np.max(np.abs(expected))))


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("bound", ["elbo", "iwae"])
def test_the_posteriors_steps_are_computed_only_while_drawing(monkeypatch, kl, bound):
    """A step of the drawing has the shape `[L, J]`, and the steps of whole paths `[L, T, J]`."""
    shapes = []

    def counting(params, z, read):
        shapes.append(z.shape)
        return posterior_step(params, z, read)

    def encode(params, x):
        return Markov(counting, params["encoder"] | {"shift": 0.0}, jnp.zeros(2), x @ params["encoder"]["read"])

    def prior(params):
        return Markov(prior_step, params["decoder"] | {"shift": 0.0}, jnp.zeros(2), jnp.arange(LENGTH))

    def decode(params, z):
        return Observed(dist.Bernoulli(logits=z @ params["decoder"]["emission"]))

    model = Model(level_and_path(posterior_step).init, encode, decode, prior)
    params, x = model.init(KEY), jnp.ones((LENGTH, 3))
    loss = aevb.make_loss(model, 1, aevb.Estimator(NUM_SAMPLES, kl, bound=bound))
    trace = lambda: jax.make_jaxpr(jax.grad(lambda params: loss(params, KEY, x[None])))(params)
    trace()
    assert (NUM_SAMPLES, 2) in shapes
    assert (NUM_SAMPLES, LENGTH, 2) not in shapes
    recompute_every_step(monkeypatch)
    trace()
    assert (NUM_SAMPLES, LENGTH, 2) in shapes


@pytest.mark.parametrize("step", [posterior_step, independent_step])
@pytest.mark.parametrize("sample_shape", [(), (3,), (3, 2)])
def test_kept_steps_are_the_conditionals(x64, step, sample_shape):
    params = {"A": jnp.eye(2), "shift": jnp.ones(2), "log_scale": jnp.zeros(2)}
    path = Markov(step, params, jnp.zeros(2), jnp.arange(8.0).reshape(4, 2))
    z, kept = path.sample_with_intermediates(KEY, sample_shape)
    assert isinstance(kept, GaussianSteps)
    steps, expected = path.conditionals(z, kept), path.conditionals(z)
    assert (steps.batch_shape, steps.event_shape) == ((*sample_shape, 4), (2,))
    for found, other in ((steps.mean, expected.mean), (steps.variance, expected.variance)):
        np.testing.assert_allclose(found, jnp.broadcast_to(other, z.shape), rtol=1e-13)
    np.testing.assert_allclose(path.log_probs(z, kept), path.log_probs(z), rtol=1e-13)


def test_flows_do_not_keep_their_steps(x64):
    """They hold their weights, which would be copied for every step."""
    model = deep_markov("flow")

    def draw():
        return model.encode(model.init(KEY), rolls()[0]).sample_with_intermediates(KEY, (NUM_SAMPLES,))

    assert not isinstance(jax.eval_shape(draw)[1], GaussianSteps)
