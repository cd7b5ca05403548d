"""Section 2.4: three families of z = g(noise), each with an unbiased pathwise gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb

NUM_DRAWS = 100_000
MOST_SIGMA = 4.5


def identity(z):
    return z


# name: (parameters -> distribution, parameters, f, parameters -> E[f(z)])
FAMILIES = {
    # 1. inverse CDF
    "exponential": (lambda p: dist.Exponential(p), 1.7, identity, lambda p: 1 / p),
    "cauchy": (lambda p: dist.Cauchy(p, 0.8), 0.4, jnp.cos, lambda p: jnp.exp(-0.8) * jnp.cos(p)),
    "logistic": (lambda p: dist.Logistic(p, 0.5), 0.3, jnp.square, lambda p: p**2 + 0.25 * jnp.pi**2 / 3),
    "gumbel": (lambda p: dist.Gumbel(0.2, p), 1.3, identity, lambda p: 0.2 + p * 0.5772156649),
    "weibull": (lambda p: dist.Weibull(p, 2.0), 1.5, jnp.square, lambda p: p**2),
    # 2. location and scale
    "normal": (lambda p: dist.Normal(0.3, p), 1.2, jnp.square, lambda p: 0.09 + p**2),
    "laplace": (lambda p: dist.Laplace(0.1, p), 0.9, jnp.square, lambda p: 0.01 + 2 * p**2),
    "student t": (lambda p: dist.StudentT(9.0, p, 1.0), 0.5, jnp.square, lambda p: p**2 + 9 / 7),
    "uniform": (lambda p: dist.Uniform(0.0, p), 1.4, jnp.square, lambda p: p**2 / 3),
    # 3. composition
    "log-normal": (lambda p: dist.LogNormal(0.1, p), 0.6, identity, lambda p: jnp.exp(0.1 + p**2 / 2)),
    "gamma": (lambda p: dist.Gamma(p, 2.0), 2.5, jnp.square, lambda p: p * (p + 1) / 4),
    "beta": (lambda p: dist.Beta(p, 3.0), 2.0, identity, lambda p: p / (p + 3)),
    "dirichlet": (
        lambda p: dist.Dirichlet(jnp.stack([p, 2.0 * jnp.ones(()), jnp.ones(())])),
        1.5,
        lambda z: z[..., 0],
        lambda p: p / (p + 3),
    ),
    "chi-squared": (lambda p: dist.Chi2(p), 3.0, identity, lambda p: p),
    "full covariance": (
        lambda p: dist.MultivariateNormal(jnp.zeros(2), scale_tril=jnp.eye(2) + p * jnp.eye(2, k=-1)),
        0.7,
        lambda z: z[..., 0] * z[..., 1],
        lambda p: p,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_pathwise_gradient_is_unbiased(x64, name):
    family, value, f, expectation = FAMILIES[name]
    value = jnp.float64(value)
    key = jax.random.key(sum(map(ord, name)))

    def draw(value, key):
        return f(aevb.reparameterize(family(value), key))

    keys = jax.random.split(key, NUM_DRAWS)
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(draw), (None, 0)))(value, keys)
    for draws, exact in ((values, expectation(value)), (gradients, jax.grad(expectation)(value))):
        draws = np.asarray(draws)
        assert abs(draws.mean() - float(exact)) < MOST_SIGMA * draws.std() / np.sqrt(NUM_DRAWS) + 1e-12


def test_shape_is_sample_then_batch_then_event():
    family = dist.Normal(jnp.zeros((5, 3)), 1.0).to_event(1)
    assert aevb.reparameterize(family, jax.random.key(0), (7, 2)).shape == (7, 2, 5, 3)


def test_a_discrete_distribution_is_refused():
    with pytest.raises(TypeError, match="BernoulliLogits cannot be reparameterized"):
        aevb.reparameterize(dist.BernoulliLogits(jnp.zeros(3)), jax.random.key(0))
