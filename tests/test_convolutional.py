"""The convolutional family: its convolutions against Flax's, images of any size, and programs per platform."""

import json
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import models
from aevb.likelihoods import LIKELIHOODS
from aevb.model import data_shape, latent_shape
from aevb.networks import convolution
from aevb.networks.convolution import convolve, convolve_transposed
from tests.processes import assert_one_line_error, experiment

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SMALL = {"latent_dim": 2, "num_channels": [2, 3], "hidden_dim": 4}
COLOUR = models.build("convolutional", data_shape=(5, 7, 3), **SMALL)
SHAPES = [(1, 1, 1), (1, 6, 2), (7, 5, 3), (8, 8, 1)]


def images(num: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(0).rand(num, *shape).astype(np.float32)


# Convolutions


def compared(function, module: nn.Module, shape: tuple[int, int, int], size: int) -> None:
    """Compare values, and gradients of the image and the kernel, with those of a Flax module."""
    rng = np.random.RandomState(0)
    batch, kernel = rng.randn(3, *shape), rng.randn(size, size, shape[-1], 4)
    theirs = lambda batch, kernel: module.apply({"params": {"kernel": kernel}}, batch)
    ours = lambda batch, kernel: jax.vmap(function, (0, None))(batch, kernel)
    weights = rng.randn(*jax.eval_shape(theirs, batch, kernel).shape)

    def values_and_gradients(convolved):
        loss = lambda *inputs: jnp.sum(weights * jnp.tanh(convolved(*inputs)))
        return convolved(batch, kernel), jax.grad(loss, (0, 1))(batch, kernel)

    found, expected = (jax.jit(values_and_gradients, static_argnums=0)(each) for each in (ours, theirs))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(4, 2), (3, 1), (3, 3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_are_those_of_flax(x64, shape, size, stride, native):
    function = convolution._convolve_natively if native else convolve
    module = nn.Conv(4, (size, size), (stride, stride), use_bias=False, dtype=np.float64)
    compared(lambda image, kernel: function(image, kernel, stride), module, shape, size)


@pytest.mark.parametrize("function", [convolve_transposed, convolution._transposed_natively])
@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_convolutions_are_those_of_flax(x64, shape, function):
    compared(function, nn.ConvTranspose(4, (4, 4), (2, 2), use_bias=False, dtype=np.float64), shape, 4)


def test_layers_have_the_parameters_of_flax():
    image = images(1, 6, 6, 3)
    for ours, theirs in (
        (convolution.Convolution(5), nn.Conv(5, (4, 4), (2, 2), kernel_init=nn.initializers.glorot_normal())),
        (
            convolution.Convolution(5, is_transposed=True),
            nn.ConvTranspose(5, (4, 4), (2, 2), kernel_init=nn.initializers.glorot_normal()),
        ),
    ):
        params = ours.init(KEY, image[0])
        for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(theirs.init(KEY, image)), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(ours.apply(params, image[0]), theirs.apply(params, image)[0], rtol=1e-5, atol=1e-6)


# Programs per platform


def gradients(params, keys, batch):
    bound = lambda params: jnp.mean(jax.vmap(aevb.elbo, (None, 0, 0, None))(params, keys, batch, COLOUR))
    return jax.grad(bound)(params)


def lowered(platform: str) -> str:
    inputs = COLOUR.init(KEY), jax.random.split(KEY, 6), images(6, 5, 7, 3)
    return jax.jit(gradients).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_are_given_convolutions(platform):
    program = lowered(platform)
    assert "stablehlo.convolution" in program


def test_cpus_are_given_one_product_for_a_whole_batch():
    program = lowered("cpu")
    assert "stablehlo.convolution" not in program
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert not [line for line in products if "batching_dims" in line]


def test_a_program_exported_for_several_platforms_has_both():
    layer = convolution.Convolution(2)
    image = jax.ShapeDtypeStruct((5, 7, 3), np.float32)
    params = jax.eval_shape(layer.init, KEY, image)
    exported = jax.export.export(jax.jit(layer.apply), platforms=("cpu", "tpu"))(params, image)
    assert "stablehlo.convolution" in exported.mlir_module()
    assert "stablehlo.dot_general" in exported.mlir_module()
    params, image = layer.init(KEY, jnp.zeros(image.shape)), images(1, 5, 7, 3)[0]
    np.testing.assert_allclose(exported.call(params, image), layer.apply(params, image), rtol=1e-5, atol=1e-6)


# Models


@pytest.mark.parametrize(
    ("shape", "num_channels"),
    [((1, 1), 3), ((1, 1, 3), [2, 3, 4]), ((7, 5), [3]), ((5, 7, 3), 3), ((28, 28), 3), ((28, 28, 1), [3]),
     ((32, 32, 3), [2, 3, 4]), ((64, 48, 3), [2, 3, 4, 5]), ((3, 100, 2), 3)],
)  # fmt: skip
def test_images_of_any_size(shape, num_channels):
    model = models.build("convolutional", data_shape=shape, **(SMALL | {"num_channels": num_channels}))
    params = jax.eval_shape(model.init, KEY)
    assert set(params) == {"encoder", "decoder"}
    assert data_shape(model, params) == shape
    assert latent_shape(model, params) == (2,)
    bound = lambda params, x: aevb.elbo(params, KEY, x, model)
    assert jax.eval_shape(bound, params, jax.ShapeDtypeStruct(shape, np.float32)).shape == ()


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (5, 7, 3)])
def test_every_parameter_matters(shape):
    model = models.build("convolutional", data_shape=shape, **SMALL)
    keys, batch = jax.random.split(KEY, 20), images(20, *shape)
    params = jax.tree.map(lambda leaf: leaf + 0.1, model.init(KEY))
    found = jax.jit(
        jax.grad(lambda params: jnp.sum(jax.vmap(aevb.elbo, (None, 0, 0, None))(params, keys, batch, model)))
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(found(params)):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0), path


def test_values_of_a_likelihood_with_several_outputs_are_where_the_image_is(x64):
    """A decoder head with only a bias has one mean and one variance per channel, at every pixel."""
    model = models.build("convolutional", data_shape=(3, 5, 2), likelihood="gaussian", param_dtype="float64", **SMALL)
    params = jax.tree.map(jnp.zeros_like, model.init(KEY))
    params["decoder"]["Convolution_1"]["bias"] = jnp.array([1.0, 2.0, 0.0, np.log(4.0)])
    likelihood = model.decode(params, jnp.zeros(2))
    np.testing.assert_array_equal(likelihood.mean, np.broadcast_to([1.0, 2.0], (3, 5, 2)))
    np.testing.assert_allclose(likelihood.variance, np.broadcast_to([1.0, 4.0], (3, 5, 2)))


@pytest.mark.parametrize("likelihood", [name for name in LIKELIHOODS.names() if not name.startswith("of_")])
def test_every_likelihood(likelihood):
    for shape in ((5, 7), (5, 7, 3)):
        model = models.build("convolutional", data_shape=shape, likelihood=likelihood, **SMALL)
        assert data_shape(model, jax.eval_shape(model.init, KEY)) == shape


def test_equal_arguments_give_the_same_model():
    build = lambda **changes: models.build("convolutional", **({"data_shape": (5, 7), **SMALL} | changes))
    assert models.convolutional_vae([5, 7], **SMALL) is build()
    assert build(num_channels=(2, 3)) is build()
    assert build(num_channels=2) == build(num_channels=[2, 4])
    assert build(hidden_dim=[4]) == build()
    others = [{"num_channels": [2]}, {"hidden_dim": []}, {"num_residual_blocks": 0}, {"data_shape": (5, 7, 1)}]
    for changes in (*others, {"weight_init": "normal_0.1"}, {"compute_dtype": "bfloat16"}, {"likelihood": "gaussian"}):
        assert build(**changes) != build()
    name, arguments = models.recipe_of(COLOUR)
    assert models.build(name, **json.loads(json.dumps(arguments))) is COLOUR
    assert pickle.loads(pickle.dumps(COLOUR)) is COLOUR


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"data_shape": (784,)},
            ValueError,
            r"data_shape must be the shape of an image, \[H, W\] or \[H, W, C\], got \[784\]",
        ),
        ({"data_shape": (1, 2, 3, 4)}, ValueError, r"data_shape must be the shape of an image, .*\[1, 2, 3, 4\]"),
        ({"data_shape": 28}, TypeError, "data_shape must be a sequence of sizes, like the shape of an array, got 28"),
        (
            {"data_shape": "28"},
            TypeError,
            "data_shape must be a sequence of sizes, like the shape of an array, got '28'",
        ),
        ({"data_shape": (28, 0)}, ValueError, r"data_shape\[1\] must be at least 1, got 0"),
        ({"data_shape": (28, 28.0)}, TypeError, r"data_shape\[1\] must be an integer, got 28.0"),
        ({"latent_dim": 0}, ValueError, "latent_dim must be at least 1, got 0"),
        ({"num_channels": 0}, ValueError, "num_channels must be at least 1, got 0"),
        ({"num_channels": []}, ValueError, "num_channels must not be empty"),
        ({"num_channels": "32"}, TypeError, "num_channels must be an integer, got '32'"),
        ({"num_channels": [8, 1.5]}, TypeError, "num_channels must be an integer, got 1.5"),
        ({"hidden_dim": -1}, ValueError, "hidden_dim must be at least 1, got -1"),
        ({"num_residual_blocks": -1}, ValueError, "num_residual_blocks must be at least 0, got -1"),
        ({"likelihood": "poisson"}, ValueError, "likelihood must be one of bernoulli"),
        ({"weight_init": "he"}, ValueError, "weight_init must be one of"),
        (
            {"num_levels": 3},
            TypeError,
            "the model family 'convolutional' has no argument 'num_levels'; its arguments are data_shape",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        models.build("convolutional", **({"data_shape": (28, 28), "latent_dim": 2} | changes))
    assert "\n" not in str(caught.value)


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"x has shape \(5, 7\), the model's datapoints have shape \(5, 7, 3\)"):
        aevb.elbo(COLOUR.init(KEY), KEY, images(1, 5, 7)[0], COLOUR)


def test_half_precision_is_of_the_products_only():
    model = models.build("convolutional", data_shape=(5, 7), compute_dtype="bfloat16", **SMALL)
    params, x = model.init(KEY), images(1, 5, 7)[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    assert aevb.elbo(params, KEY, x, model).dtype == np.float32
    assert "bf16" in jax.jit(model.encode).lower(params, x).as_text()
    whole = models.build("convolutional", data_shape=(5, 7), **SMALL)
    np.testing.assert_allclose(aevb.elbo(params, KEY, x, model), aevb.elbo(params, KEY, x, whole), rtol=2e-2)


def test_from_training_to_a_saved_model(tmp_path):
    data = images(40, 5, 7, 3)
    settings = {"optimizer": optax.adam(1e-2), "batch_size": 10, "map_prior": False}
    result = aevb.fit(data, COLOUR, key=KEY, num_epochs=20, eval_every=10, **settings)
    assert result.history[-1].train_elbo > result.history[0].train_elbo
    params = result.state.params
    assert np.isfinite(aevb.evaluate(params, KEY, data, COLOUR).elbo)
    aevb.save(tmp_path / "saved", COLOUR, params)
    model, loaded = aevb.load(tmp_path / "saved")
    assert model is COLOUR
    reconstructed = aevb.posterior.reconstruct(loaded, data, model)
    assert reconstructed.shape == data.shape
    np.testing.assert_array_equal(reconstructed, aevb.posterior.reconstruct(params, data, COLOUR))
    assert aevb.posterior.sample(params, KEY, 4, COLOUR).shape == (4, 5, 7, 3)


@pytest.mark.slow
def test_a_model_works_without_compilation():
    params, x = COLOUR.init(KEY), images(1, 5, 7, 3)[0]
    with jax.disable_jit():
        found = aevb.elbo(params, KEY, x, COLOUR)
    assert found == pytest.approx(float(aevb.elbo(params, KEY, x, COLOUR)), rel=1e-5)


# As users run it

ARGUMENTS = ["--model=convolutional", "--num_channels=2,3", "--hidden_dim=4", "--num_residual_blocks=0"]


def test_digits_by_its_command(data_dir, tmp_path):
    workdir = tmp_path / "run"
    arguments = [*ARGUMENTS, "--latent_dim=2", "--num_epochs=1", f"--data_dir={data_dir}", f"--workdir={workdir}"]
    done = experiment("digits", *arguments)
    assert done.returncode == 0, done.stderr
    (config,) = workdir.rglob("config.json")
    model, params = aevb.load_run(config.parent)
    name, recorded = models.recipe_of(model)
    assert name == "convolutional"
    assert recorded["data_shape"] == [8, 8]
    assert recorded["weight_init"] == "glorot"  # its own default, not that of the MLP
    assert aevb.posterior.sample(params, KEY, 3, model).shape == (3, 8, 8)


@pytest.mark.slow
def test_colour_by_the_command_for_own_images(tmp_path):
    path, workdir = tmp_path / "images.npy", tmp_path / "run"
    np.save(path, np.random.RandomState(0).randint(0, 256, (60, 5, 7, 3), np.uint8))
    arguments = [*ARGUMENTS, "--latent_dim=2", "--num_train_samples=100", f"--data={path}", f"--workdir={workdir}"]
    done = experiment("images", *arguments)
    assert done.returncode == 0, done.stderr
    (config,) = workdir.rglob("config.json")
    model, params = aevb.load_run(config.parent)
    assert aevb.posterior.sample(params, KEY, 3, model).shape == (3, 5, 7, 3)


def test_a_wrong_flag_is_one_line(data_dir, tmp_path):
    done = experiment(
        "digits", "--model=convolutional", "--num_channels=0", f"--data_dir={data_dir}", f"--workdir={tmp_path}"
    )
    assert_one_line_error(done, "num_channels must be at least 1, got 0")
