"""Properties of the public functions over everything that they take: shapes, sizes, dtypes, estimators, numbers.

Other files test the numbers against exact answers. Models are tiny, and most cases are traced but never compiled.
"""

import contextlib
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import aevb
from aevb.algorithms import TrainState
from aevb.training.padding import Padding

KEY = jax.random.key(0)
# Failing cases are already small, and shrinking them would trace or compile them hundreds of times.
TRACED = settings(
    derandomize=True, deadline=None, database=None, max_examples=20, phases=[Phase.explicit, Phase.generate]
)
COMPILED = settings(TRACED, max_examples=6)

integers = st.integers
data_shapes = st.lists(integers(1, 4), min_size=1, max_size=3).map(tuple)
seeds = integers(0, 2**31)


@st.composite
def models(draw: Any, posteriors: tuple[str, ...] = ("gaussian", "full_covariance", "flow"), **fixed: Any):
    """Valid combinations of arguments of `mlp_vae`."""
    likelihood = draw(st.sampled_from(["bernoulli", "gaussian"]))
    posterior = draw(st.sampled_from(posteriors))
    arguments = {
        "data_shape": draw(data_shapes),
        "latent_dim": draw(integers(2 if posterior == "flow" else 1, 4)),
        "hidden_dim": draw(st.one_of(integers(1, 6), st.lists(integers(1, 6), min_size=1, max_size=2))),
        "likelihood": likelihood,
        "posterior": posterior,
        "squash_mean": likelihood == "gaussian" and draw(st.booleans()),
        "weight_init": draw(st.sampled_from(["normal_0.01", "normal_0.1", "glorot"])),
        "compute_dtype": draw(st.sampled_from([None, "bfloat16", "float16"])),
        "param_dtype": draw(st.sampled_from(["float32", "float64"])),
    }
    return arguments | fixed


@st.composite
def estimators(draw: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `elbo` that are valid together and with the model."""
    kl = draw(st.sampled_from(["analytic", "sampled"])) if arguments["posterior"] == "gaussian" else "sampled"
    gradients = ["pathwise", "score_function", "score_function_leave_one_out"]
    gradient = draw(st.sampled_from(gradients + ["sticking_the_landing"] * (kl == "sampled")))
    fewest = 2 if gradient == "score_function_leave_one_out" else 1
    return {"num_samples": draw(integers(fewest, 4)), "kl": kl, "gradient": gradient}


def precision(arguments: dict[str, Any]) -> contextlib.AbstractContextManager:
    return jax.enable_x64(arguments["param_dtype"] == "float64")


def random_params(model: aevb.Model, seed: int, scale: float = 0.5):
    """Return parameters of order one, where the network is no longer nearly linear."""
    leaves, structure = jax.tree.flatten(model.init(KEY))
    rng = np.random.RandomState(seed % 2**32)
    return jax.tree.unflatten(structure, [jnp.asarray(scale * rng.randn(*leaf.shape), leaf.dtype) for leaf in leaves])


def random_data(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    return np.random.RandomState(seed % 2**32).rand(*shape).astype(dtype)


def assert_like(found: Any, params: Any) -> None:
    """Require the shapes and dtypes of the parameters."""
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)


# Shapes and dtypes


@pytest.mark.slow
@TRACED
@given(st.data())
def test_bounds_are_scalars_of_the_wider_dtype_and_gradients_are_like_the_parameters(data):
    arguments = data.draw(models())
    chosen = data.draw(estimators(arguments))
    x_dtype = data.draw(st.sampled_from(["float32", "bfloat16", "float16", "bool", "uint8", "int32"]))
    count = data.draw(integers(1, 4))
    with precision(arguments):
        model = aevb.mlp_vae(**arguments)
        params = jax.eval_shape(model.init, KEY)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {arguments["param_dtype"]}
        x = jax.ShapeDtypeStruct(arguments["data_shape"], x_dtype)
        xs = jax.ShapeDtypeStruct((count, *x.shape), x_dtype)
        bound = functools.partial(aevb.elbo, **chosen)
        whole = functools.partial(aevb.minibatch_elbo, **chosen, dataset_size=10)
        weighted = functools.partial(aevb.iwae_bound, num_samples=chosen["num_samples"])
        for function, of in ((bound, x), (whole, xs), (weighted, x)):
            value, gradient = jax.eval_shape(jax.value_and_grad(function), params, KEY, of, model)
            assert (value.shape, value.dtype) == ((), jnp.promote_types(x_dtype, arguments["param_dtype"]))
            assert_like(gradient, params)
        terms = jax.eval_shape(functools.partial(aevb.elbo_terms, **chosen), params, KEY, x, model)
        assert [term.shape for term in jax.tree.leaves(terms)] == [()] * 3
        assert [*terms.kl_by_level] == ["z"]


@pytest.mark.slow
@COMPILED
@given(st.data())
def test_encoders_and_decoders_declare_the_shapes_of_the_data_and_the_latents(data):
    arguments = data.draw(models())
    with precision(arguments):
        model = aevb.mlp_vae(**arguments)
        params, seed = model.init(KEY), data.draw(seeds)
        shape, latent_shape = arguments["data_shape"], (arguments["latent_dim"],)
        x, z = random_data(seed, *shape), random_data(seed, *latent_shape)
        for found, expected in (
            (model.encode(params, x), latent_shape),
            (model.decode(params, z), shape),
            (model.prior(params), latent_shape),
        ):
            assert (found.batch_shape, found.event_shape) == ((), expected)
            draw = jnp.asarray(found.sample(KEY))
            assert draw.shape == expected
            assert jnp.isfinite(found.log_prob(draw))
        assert aevb.mlp_vae(**arguments) == model  # always the same, so that programs are shared


@pytest.mark.slow
@COMPILED
@given(
    st.sampled_from([dist.Normal, dist.Laplace, dist.Gumbel, dist.LogNormal, dist.Cauchy]),
    st.lists(integers(1, 3), max_size=2).map(tuple),
    st.lists(integers(0, 3), max_size=2).map(tuple),
    integers(0, 1),
)
def test_reparameterize_has_sample_then_batch_then_event_shape(family, batch_shape, sample_shape, event_dims):
    event_dims = min(event_dims, len(batch_shape))
    distribution = family(jnp.zeros(batch_shape), jnp.ones(batch_shape)).to_event(event_dims)
    z = aevb.reparameterize(distribution, KEY, sample_shape)
    assert (z.shape, z.dtype) == (sample_shape + batch_shape, jnp.float32)
    assert np.all(np.isfinite(z))


# Values


@pytest.mark.slow
@COMPILED
@given(st.data())
def test_bounds_and_their_gradients_are_finite_and_made_of_their_terms(data):
    arguments = data.draw(models())
    chosen = data.draw(estimators(arguments))
    with precision(arguments):
        model = aevb.mlp_vae(**arguments)
        params, seed = random_params(model, data.draw(seeds)), data.draw(seeds)
        x, key = random_data(seed, *arguments["data_shape"]), jax.random.key(seed)

        @jax.jit
        def values(key):
            value, gradient = jax.value_and_grad(functools.partial(aevb.elbo, **chosen))(params, key, x, model)
            return value, gradient, aevb.elbo_terms(params, key, x, model, **chosen)

        value, gradient, terms = values(key)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((value, gradient, terms)))
        np.testing.assert_allclose(value, terms.reconstruction - terms.kl, rtol=1e-5, atol=1e-5)
        if arguments["likelihood"] == "bernoulli":
            assert terms.reconstruction < 0
        other = values(jax.random.key(seed + 1))[2]
        assert other.reconstruction != terms.reconstruction  # other noise
        if chosen["kl"] == "analytic":
            assert other.kl == terms.kl > 0  # which has none


@pytest.mark.slow
@COMPILED
@given(st.data())
def test_one_importance_weight_is_the_sampled_elbo(data):
    arguments = data.draw(models(compute_dtype=None))
    with precision(arguments):
        model = aevb.mlp_vae(**arguments)
        params, seed = random_params(model, data.draw(seeds)), data.draw(seeds)
        x, key = random_data(seed, *arguments["data_shape"]), jax.random.key(seed)
        bounds = jax.jit(
            lambda: (aevb.iwae_bound(params, key, x, model, 1), aevb.elbo(params, key, x, model, 1, "sampled"))
        )()
        np.testing.assert_allclose(*bounds, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@COMPILED
@given(st.data())
def test_zeros_and_ones_are_the_same_targets_in_every_dtype(data):
    model = aevb.mlp_vae((3,), 2, 4)
    params, seed = random_params(model, data.draw(seeds)), data.draw(seeds)
    x = np.round(random_data(seed, 3))
    bound = jax.jit(lambda x: aevb.elbo(params, KEY, x, model))
    bounds = [bound(x.astype(dtype)) for dtype in ("float32", "bool", "uint8", "int32", "float16")]
    assert len(set(map(float, bounds))) == 1


# Minibatches

PLAIN = aevb.mlp_vae((3,), 2, 4)


@pytest.mark.slow
@COMPILED
@given(
    integers(1, 5), integers(0, 1000), integers(1, 3), st.sampled_from(["analytic", "sampled"]), st.booleans(), seeds
)
def test_a_minibatch_stands_for_the_dataset_by_the_sum_of_its_bounds(count, more, num_samples, kl, map_prior, seed):
    """The estimate is (N / M) times the sum. Per datapoint, only the prior depends on N."""
    params, key = random_params(PLAIN, seed), jax.random.key(seed)
    xs = jnp.asarray(random_data(seed, count, 3))
    one = jax.jit(lambda key, x: aevb.elbo(params, key, x, PLAIN, num_samples, kl))
    bounds = [one(one_key, x) for one_key, x in zip(jax.random.split(key, count), xs, strict=True)]
    size = count + more
    found = jax.jit(lambda: aevb.minibatch_elbo(params, key, xs, PLAIN, size, num_samples, kl))()
    np.testing.assert_allclose(found, size / count * np.sum(bounds), rtol=1e-4)
    theta = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params["decoder"])])
    expected = -np.mean(bounds) + (0.5 * np.sum(theta.astype(np.float64) ** 2) / size if map_prior else 0.0)
    loss = jax.jit(aevb.make_loss(PLAIN, size, aevb.Estimator(num_samples, kl), map_prior))(params, key, xs)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.slow
@COMPILED
@given(st.permutations(range(5)), st.sampled_from(["analytic", "sampled"]), seeds)
def test_datapoints_in_another_order_have_the_same_bounds_in_that_order(order, kl, seed):
    params, xs = random_params(PLAIN, seed), random_data(seed, 5, 3)
    keys = jax.random.split(jax.random.key(seed), 5)
    bounds = jax.jit(jax.vmap(lambda key, x: aevb.elbo(params, key, x, PLAIN, 2, kl)))
    order = np.array(order)
    np.testing.assert_allclose(bounds(keys[order], xs[order]), bounds(keys, xs)[order], rtol=1e-5)


@pytest.mark.slow
@COMPILED
@given(integers(1, 7), integers(1, 9), integers(1, 9), st.sampled_from(["grey", "threshold", "stochastic"]), seeds)
def test_what_fills_up_a_chunk_or_a_block_counts_for_nothing(size, chunk_size, block_size, binarization, seed):
    params, data, key = random_params(PLAIN, seed), random_data(seed, size, 3), jax.random.key(seed)
    data = np.round(data) if binarization == "threshold" else data  # an array is evaluated after `binarize_once`
    chosen = {"model": PLAIN, "estimator": aevb.Estimator(2), "binarization": binarization, "active_units": True}
    evaluate = functools.partial(aevb.evaluate, params, key, **chosen)
    whole = evaluate(data)
    assert [type(value) for value in whole] == [float, float, float, int, dict, dict, float]
    assert all(map(math.isfinite, whole[:4]))
    assert math.isnan(whole.iwae)
    assert whole.elbo == pytest.approx(whole.reconstruction - whole.kl)
    stream = aevb.Stream(data, block_size=block_size)
    for found in (evaluate(data, chunk_size=chunk_size), evaluate(stream, chunk_size=chunk_size)):
        assert jax.tree.structure(found) == jax.tree.structure(whole)
        np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(whole), rtol=1e-5)


@pytest.mark.slow
@COMPILED
@given(integers(1, 3), integers(0, 3), st.lists(integers(1, 4), min_size=1, max_size=2), seeds)
def test_padded_latents_add_nothing_to_a_bound_and_are_cut_without_a_trace(latent_dim, extra, hidden_dim, seed):
    optimizer = aevb.paper_optimizer()
    alone, padded = (aevb.mlp_vae((3,), size, hidden_dim) for size in (latent_dim, latent_dim + extra))
    params, x = random_params(alone, seed), random_data(seed, 3)
    state = TrainState(params, optimizer.init(params), jax.random.key(seed), jnp.int32(7))
    padding = Padding(optimizer, alone, padded)
    wide = padding.pad(state)
    assert_like(wide.params, padded.init(KEY))
    for kl in ("analytic", "sampled"):
        bounds = jax.jit(
            lambda kl=kl: (aevb.elbo(params, KEY, x, alone, kl=kl), aevb.elbo(wide.params, KEY, x, padded, kl=kl))
        )()
        np.testing.assert_allclose(*bounds, rtol=1e-5)
    back = padding.cut(wide)
    assert_like(back, state)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), back, state))


# Training


@pytest.mark.slow
@COMPILED
@given(st.data())
def test_fit_goes_as_far_as_it_is_told_and_looks_when_it_is_told(data):
    arguments = data.draw(models(posteriors=("gaussian",)))
    size, num_epochs = data.draw(integers(1, 9)), data.draw(integers(0, 5))
    batch_size, eval_every = data.draw(integers(1, size)), data.draw(integers(1, 6))
    dtype = data.draw(st.sampled_from(["float32", "float16", "float64"]))
    binarization = data.draw(st.sampled_from(["grey", "stochastic", "fixed", "threshold"]))
    with precision(arguments):
        model = aevb.mlp_vae(**arguments)
        xs = random_data(data.draw(seeds), size, *arguments["data_shape"], dtype=dtype)
        template = aevb.init_train_state(KEY, model, aevb.paper_optimizer())
        result = aevb.fit(
            xs,
            model,
            key=KEY,
            test_data=xs[:1],
            num_epochs=num_epochs,
            batch_size=batch_size,
            eval_every=eval_every,
            binarization=binarization,
            active_units=True,
        )
    steps = size // batch_size
    assert int(result.state.step) == num_epochs * steps
    assert_like(result.state, template)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.state.params))
    looks = sorted({*range(0, num_epochs + 1, eval_every), num_epochs})
    assert [row.epoch for row in result.history] == looks
    for row in result.history:
        assert [type(value) for value in row[:8]] == [int, int, float, float, float, float, int, float]
        assert all(map(math.isfinite, row[:8]))
        assert row.test_kl_by_level == {"z": pytest.approx(row.test_kl)}
        assert row.active_units_by_level == {"z": row.active_units}
        assert row.num_train_samples == row.epoch * steps * batch_size
        assert row.test_elbo == pytest.approx(row.test_reconstruction - row.test_kl)
        assert row.active_units in range(arguments["latent_dim"] + 1)
