"""Models by name: equal arguments give equal models, which can be recorded, pickled and copied."""

import copy
import functools
import json
import pickle
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import models
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.models.mlp import Posterior
from tests.newcomers import LINEAR, compiling, parameters

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SIZE, DATA_DIM = 8, 6
XS = np.random.RandomState(0).rand(SIZE, DATA_DIM).astype(np.float32)
SMALL = {"data_shape": (DATA_DIM,), "latent_dim": 2, "hidden_dim": 4}
POSTERIORS = get_args(Posterior)


# Equal arguments


def test_equal_arguments_give_the_same_model():
    model = models.build("mlp", **SMALL)
    assert aevb.mlp_vae(**SMALL) is model
    assert aevb.mlp_vae((DATA_DIM,), 2, 4) is model
    assert models.build("mlp", **dict(reversed(SMALL.items()))) is model
    assert models.build("mlp", **(SMALL | {"data_shape": [np.int64(DATA_DIM)], "hidden_dim": np.uint8(4)})) is model
    assert models.build("mlp", **SMALL, likelihood="bernoulli", compute_dtype=None, param_dtype=np.float32) is model


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"hidden_dim": 4}, {"hidden_dim": (4,)}),
        ({"likelihood": "gaussian", "squash_mean": True}, {"likelihood": "squashed_gaussian"}),
        ({"compute_dtype": "bfloat16"}, {"compute_dtype": jnp.bfloat16}),
        ({"param_dtype": "float32"}, {"param_dtype": "f4"}),
    ],
)
def test_arguments_in_another_spelling_give_an_equal_model(one, other):
    one, other = (models.build("mlp", **(SMALL | arguments)) for arguments in (one, other))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_dim": 3},
        {"hidden_dim": (4, 4)},
        {"data_shape": (2, 3)},
        {"likelihood": "gaussian"},
        {"posterior": "flow"},
        {"weight_init": "glorot"},
        {"compute_dtype": "bfloat16"},
    ],
)
def test_other_arguments_give_another_model(changes):
    assert models.build("mlp", **(SMALL | changes)) != models.build("mlp", **SMALL)


def test_equal_models_share_compiled_programs():
    one, other = models.build("mlp", **SMALL), models.build("mlp", **(SMALL | {"hidden_dim": [4]}))
    params = parameters(one)
    jax.clear_caches()
    bound = lambda model: aevb.evaluate(params, KEY, XS, model).elbo
    with compiling() as compiled:
        expected = bound(one)
    assert "_evaluate_chunks" in compiled
    with compiling() as compiled:
        assert bound(other) == expected
    assert not compiled


# Recorded, pickled, copied


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_model_is_recorded_in_json(posterior):
    model = models.build("mlp", **SMALL, posterior=posterior)
    name, arguments = models.recipe_of(model)
    assert arguments["data_shape"] == [DATA_DIM]
    recorded = json.loads(json.dumps({"name": name, "arguments": arguments}))
    assert models.build(recorded["name"], **recorded["arguments"]) is model


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_model_is_pickled_and_copied(posterior):
    model = models.build("mlp", **SMALL, posterior=posterior)
    assert pickle.loads(pickle.dumps(model)) is model
    assert copy.deepcopy({"model": model})["model"] is model
    assert copy.copy(model) is model


def test_a_model_that_was_not_built_by_name_is_pickled_as_its_functions():
    assert LINEAR.recipe is None
    assert pickle.loads(pickle.dumps(LINEAR)) == LINEAR


@pytest.mark.parametrize(
    "posterior",
    ["gaussian", *(pytest.param(each, marks=pytest.mark.slow) for each in POSTERIORS if each != "gaussian")],
)
def test_a_model_works_without_compilation(posterior):
    model = models.build("mlp", **SMALL, posterior=posterior)
    params = parameters(model)
    look = functools.partial(aevb.elbo, params, KEY, XS[0], model, kl="sampled")
    with jax.disable_jit():
        assert models.build("mlp", **SMALL, posterior=posterior) is model
        found = look()
    assert found == pytest.approx(float(look()), rel=1e-5)


@pytest.mark.slow
def test_a_model_is_trained_without_compilation():
    model = models.build("mlp", **SMALL)

    def train() -> tuple:
        settings = {"key": KEY, "optimizer": optax.sgd(0.1), "num_epochs": 1, "batch_size": 4}
        result = aevb.fit(XS, model, **settings)
        return result.state.params, result.history[-1].train_elbo, aevb.posterior.encode(result.state.params, XS, model)

    compiled = train()
    with jax.disable_jit():
        found = train()
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# Custom families


def test_a_family_may_take_any_arguments_by_name():
    @models.register("any_arguments")
    def build(data_shape: Any, *, name: str = "mine", **others: Any) -> aevb.Model:
        assert data_shape == [DATA_DIM]  # as recorded, even if a tuple was given
        return models.build("mlp", data_shape=data_shape, **others)

    model = build((DATA_DIM,), latent_dim=2, hidden_dim=4)
    arguments = {"data_shape": [DATA_DIM], "name": "mine", "latent_dim": 2, "hidden_dim": 4}
    assert models.recipe_of(model) == ("any_arguments", arguments)
    assert models.build("any_arguments", **arguments) is model
    assert model == models.build("mlp", **SMALL)


def test_a_family_that_is_registered_again_is_built_anew():
    def register(latent_dim: int) -> None:
        models.register("registered_twice")(lambda: aevb.mlp_vae((DATA_DIM,), latent_dim, 4))

    register(2)
    before = models.build("registered_twice")
    register(3)
    assert models.build("registered_twice") != before


def test_a_new_likelihood_leaves_other_models_as_they_are(monkeypatch):
    model = models.build("mlp", **SMALL)
    monkeypatch.setattr(LIKELIHOODS, "_added", dict(LIKELIHOODS._added))
    aevb.likelihoods.register("of_this_test", Likelihood(1, dist.Laplace))
    assert models.build("mlp", **SMALL) is model


def test_what_can_not_be_a_family_is_refused():
    with pytest.raises(TypeError, match=r"'positional' is built with keyword arguments, but size cannot be one"):
        models.register("positional")(lambda size, /: LINEAR)
    models.register("no_model")(lambda: 3)
    with pytest.raises(TypeError, match=r"model must be an aevb\.Model, got 3"):
        models.build("no_model")
    for argument in (XS, len, {"a": XS}):
        with pytest.raises(TypeError, match="posterior of the model family 'mlp' must be a JSON type") as caught:
            models.build("mlp", **SMALL, posterior=argument)
        assert "\n" not in str(caught.value)
