"""`Chain`, `Markov` and `Observed` as pytrees: through jit, vmap and grad, as arguments, inside, and as results."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.tree_util import Partial

from aevb import Chain, Markov, Observed

KEY = jax.random.key(0)
W, X = jnp.array([[1.0, 0.5, 0.0], [0.0, 1.0, 2.0], [0.3, 0.0, 1.0]]), jnp.array([0.5, -1.0, 2.0])


def normal(mean, scale=1.0):
    return dist.Normal(mean, scale).to_event(1)


def below(w, z):
    return normal(w @ z["a"])


def walk(w, z, inputs):
    return normal(z @ w + inputs[..., None])


MAKERS = {
    "chain": lambda w, x: Chain(a=normal(w @ x), b=Partial(below, w)),
    "chain of a fixed function": lambda w, x: Chain(a=normal(w @ x), b=lambda z: normal(2 * z["a"])),
    "markov": lambda w, x: Markov(walk, w, x, jnp.arange(4.0)),
    "chain with a path": lambda w, x: Chain(
        a=normal(w @ x), path=Partial(lambda w, z: Markov(walk, w, z["a"], jnp.arange(4.0)), w)
    ),
    "observed": lambda w, x: Observed(dist.Normal(w @ x, 1.0)),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def test_returned_from_a_compiled_function_and_handed_to_one(make):
    inside = make(W, X)
    z = inside.sample(KEY)
    returned = jax.jit(make)(W, X)
    assert type(returned) is type(inside)
    assert returned.event_shape == inside.event_shape
    np.testing.assert_allclose(returned.log_prob(z), inside.log_prob(z), rtol=1e-5)
    handed = jax.jit(lambda distribution, z: distribution.log_prob(z))
    np.testing.assert_allclose(handed(inside, z), inside.log_prob(z), rtol=1e-5)
    again = jax.tree.unflatten(*reversed(jax.tree.flatten(inside)))
    np.testing.assert_array_equal(again.log_prob(z), inside.log_prob(z))


def test_mapped_and_differentiated(make):
    xs = jnp.stack([X, 2 * X, X - 1])
    zs = jax.vmap(lambda x: make(W, x).sample(KEY))(xs)
    densities = jax.vmap(lambda x, z: make(W, x).log_prob(z))(xs, zs)
    one_by_one = [make(W, x).log_prob(jax.tree.map(lambda leaf, i=i: leaf[i], zs)) for i, x in enumerate(xs)]
    np.testing.assert_allclose(densities, jnp.stack(one_by_one), rtol=1e-5)
    batched = jax.vmap(make, (None, 0))(W, xs)
    np.testing.assert_allclose(jax.vmap(lambda q, z: q.log_prob(z))(batched, zs), densities, rtol=1e-5)
    z = jax.tree.map(lambda leaf: leaf[0], zs)
    slope = jax.grad(lambda w: make(w, X).log_prob(z))(W)
    step = 1e-2
    for entry in ((0, 0), (1, 2)):
        up, down = (make(W.at[entry].add(s), X).log_prob(z) for s in (step, -step))
        tolerance = 2e-2 * (1 + abs(float(slope[entry])))
        assert float(slope[entry]) == pytest.approx(float(up - down) / (2 * step), abs=tolerance)
    distribution = make(W, X)
    of_distribution = jax.grad(lambda q: q.log_prob(z), allow_int=True)(distribution)
    assert jax.tree.structure(of_distribution) == jax.tree.structure(distribution)


@pytest.mark.parametrize("sample_shape", [(), (4,), (4, 2)])
def test_draws_have_the_shapes_of_the_event_after_those_of_the_sample(make, sample_shape):
    distribution = make(W, X)
    z = distribution.sample(KEY, sample_shape)
    shapes = jax.tree.map(lambda leaf: leaf.shape[len(sample_shape) :], z)
    assert shapes == distribution.event_shape
    assert jnp.shape(distribution.log_prob(z)) == sample_shape


def test_the_order_of_levels_survives():
    """JAX sorts the keys of a dict, but levels are drawn in their own order."""
    chain = jax.jit(lambda x: Chain(z=normal(x), a=Partial(lambda z: normal(z["z"]))))(X)
    assert list(chain.levels) == ["z", "a"]
    assert set(chain.sample(KEY)) == {"a", "z"}


def test_a_chain_is_the_product_of_its_levels():
    w, x = W, X
    chain = Chain(a=normal(w @ x, 0.5), b=lambda z: normal(w @ z["a"], 2.0), c=lambda z: normal(z["a"] + z["b"], 0.1))
    z = chain.sample(KEY, (5,))
    expected = {
        "a": jax.vmap(normal(w @ x, 0.5).log_prob)(z["a"]),
        "b": jax.vmap(lambda a, b: normal(w @ a, 2.0).log_prob(b))(z["a"], z["b"]),
        "c": jax.vmap(lambda a, b, c: normal(a + b, 0.1).log_prob(c))(z["a"], z["b"], z["c"]),
    }
    for level, density in chain.log_probs(z).items():
        np.testing.assert_allclose(density, expected[level], rtol=1e-5)
    np.testing.assert_allclose(chain.log_prob(z), sum(expected.values()), rtol=1e-5)
    assert chain.has_rsample
    assert list(chain.means()) == ["a", "b", "c"]
    np.testing.assert_allclose(chain.means()["c"], w @ x + w @ (w @ x), rtol=1e-5)


@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.vmap(f, (None, 0))])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda w, x: Chain(a=normal(w @ x), b=lambda z: normal(w @ z["a"])),
            "level 'b' of a Chain is a function that",
        ),
        (
            lambda w, x: Markov(lambda p, z, t: normal(w @ z), (), x, jnp.arange(3)),
            "step of a Markov is a function that",
        ),
        (
            lambda w, x: Chain(a=normal(x), b=lambda z, w=w: normal(w @ z["a"])),
            "level 'b' of a Chain is a function that",
        ),
    ],
)
def test_a_function_that_hides_arrays_cannot_cross_and_says_what_can(transform, make, message):
    xs = X if transform is jax.jit else X[None]
    with pytest.raises(TypeError, match=message) as error:
        transform(make)(W, xs)
    assert "jax.tree_util.Partial" in str(error.value)
    assert np.isfinite(jax.jit(lambda w, x: make(w, x).log_prob(make(w, x).sample(KEY)))(W, X))  # inside the support
