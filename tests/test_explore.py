"""The page of `experiments.explore`: its data, and its arithmetic, run by Node.js."""

import base64
import copy
import io
import json
import re
import subprocess

import jax
import numpy as np
import pytest
from PIL import Image

import aevb
from aevb import models, posterior
from aevb.checkpoints import RunError
from aevb.data import Dataset
from aevb.models.families import takes_images
from experiments.config_files import to_json
from experiments.configs import Config, ModelConfig
from experiments.explorer import networks, page, payload
from experiments.explorer.arrays import NUM_SHADES, encode_array, sprite
from experiments.explorer.latents import plane_of, posterior_means
from tests import javascript
from tests.processes import assert_one_line_error, experiment

SHAPE = (7, 6)
CASES = {
    "mlp": ("mlp", {"latent_dim": 3, "hidden_dim": [9, 5]}),
    "full covariance": ("mlp", {"latent_dim": 4, "hidden_dim": 8, "posterior": "full_covariance"}),
    "squashed": ("mlp", {"latent_dim": 2, "hidden_dim": 8, "likelihood": "gaussian", "squash_mean": True}),
    "gaussian": ("mlp", {"latent_dim": 1, "hidden_dim": 8, "likelihood": "gaussian"}),
    "fixed scale": ("mlp", {"latent_dim": 2, "hidden_dim": 8, "likelihood": "gaussian_fixed_scale"}),
    "logistic": ("mlp", {"latent_dim": 2, "hidden_dim": 8, "likelihood": "discretized_logistic"}),
    "spiked": ("mlp", {"latent_dim": 2, "hidden_dim": 8, "likelihood": "spiked_logistic"}),
    "beta binomial": ("mlp", {"latent_dim": 2, "hidden_dim": 8, "likelihood": "beta_binomial"}),
    "half precision": ("mlp", {"latent_dim": 2, "hidden_dim": 8, "compute_dtype": "bfloat16"}),
    "conditional": ("conditional", {"latent_dim": 3, "hidden_dim": 8, "num_classes": 3}),
    "learned prior": ("conditional", {"latent_dim": 3, "hidden_dim": 8, "num_classes": 3, "learned_prior": True}),
    "bottom up": ("hierarchical", {"latent_dim": [5, 3, 2], "hidden_dim": 8}),
    "ladder": ("hierarchical", {"latent_dim": [5, 3], "hidden_dim": [8, 6], "inference": "ladder"}),
    "convolutional": ("convolutional", {"latent_dim": 3, "num_channels": 3, "hidden_dim": 9}),
    "colour": (
        "hierarchical_convolutional",
        {
            "latent_dim": [4, 2],
            "num_channels": [2, 3, 4],
            "hidden_dim": 7,
            "likelihood": "categorical",
            "data_shape": [7, 6, 3],
        },
    ),
}
pytestmark = pytest.mark.usefixtures("barely_optimized")

CHECK = """
  const { buildModel } = await load("model.mjs");
  const { selfCheck } = await load("check.mjs");
  return Object.fromEntries(Object.entries(given).map(([name, each]) => {
    const result = selfCheck(buildModel(each.model), each.checks);
    return [name, [result.passed, result.pixels, result.latents, result.count]];
  }));
"""


def built(name, scale=0.4):
    """Return the payload of a case with random parameters."""
    family, arguments = CASES[name]
    shape = tuple(arguments.get("data_shape", SHAPE))
    flat = shape if takes_images(family) else (int(np.prod(shape)),)
    arguments = {**ModelConfig(family, arguments).arguments, "data_shape": list(flat)}
    model = models.build(family, **arguments)
    random = np.random.RandomState(0)
    draw = lambda leaf: (scale * random.normal(size=leaf.shape)).astype(np.float32)
    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))
    xs = (random.randint(0, 256, (4, *flat)) / 255).astype(np.float32)
    if arguments.get("num_classes"):
        xs = aevb.Given(xs, np.arange(4, dtype=np.int32) % 3)
    networks.check_family(family, arguments)
    image = networks.image_shape(shape)
    return payload.of_model(family, arguments, model, params, xs, image, jax.random.key(3))


def test_every_family_and_likelihood_computes_what_jax_does(tmp_path):
    """Results agree to float32's rounding for float32 weights, and within the page's own tolerance otherwise."""
    cases = {name: built(name) for name in CASES}
    assert {each["model"]["likelihood"] for each in cases.values()} == set(networks.LIKELIHOODS)
    assert {each["model"]["family"] for each in cases.values()} == set(networks.FAMILIES)
    for name, (passed, pixels, latents, count) in javascript.run(CHECK, cases, tmp_path).items():
        assert passed, (name, pixels, latents)
        assert count == 8
        exact = cases[name]["weights"] == "float32"
        assert pixels < (1e-3 if exact else 5e-3), name  # the references are float16
        assert latents < (1e-4 if exact else 1e-2), name
    assert any(each["weights"] == "float16" for each in cases.values())


def test_the_check_fails_of_wrong_weights_and_of_wrong_references(tmp_path):
    right = built("bottom up")
    wrong = {}
    for network in ("decoder", "priors", "posteriors", "features"):
        wrong[network] = copy.deepcopy(right)
        layers = wrong[network]["model"][network]
        dense = layers[0] if network == "decoder" else layers[0][0]
        bias = np.frombuffer(base64.b64decode(dense["bias"]["data"]), np.dtype(dense["bias"]["dtype"]))
        dense["bias"] = encode_array(bias + 0.5, dense["bias"]["dtype"])
    for field in ("mean", "deviation"):
        wrong[field] = copy.deepcopy(right)
        shape = wrong[field]["checks"][5][field]["shape"]
        wrong[field]["checks"][5][field] = encode_array(np.full(shape, 0.5), "float16")
    wrong["nothing"] = {**right, "checks": []}
    wrong["NaN"] = copy.deepcopy(right)
    not_a_number = np.full(5, np.nan, np.float32)
    wrong["NaN"]["checks"][0]["z"]["z1"]["data"] = base64.b64encode(not_a_number.tobytes()).decode()
    results = javascript.run(CHECK, {"right": right, **wrong}, tmp_path)
    assert results.pop("right")[0]
    assert not any(passed for passed, *_ in results.values()), results


def test_weights_that_float16_would_spoil_are_float32(tmp_path):
    kept = built("mlp", scale=10.0)
    assert kept["weights"] == "float32"
    assert kept["model"]["decoder"][0]["kernel"]["dtype"] == "float32"
    assert javascript.run(CHECK, {"kept": kept}, tmp_path)["kept"][0]


def test_arrays_arrive_as_they_were(tmp_path):
    values = np.random.RandomState(0).normal(size=1000) * 10.0 ** np.random.RandomState(1).randint(-7, 4, 1000)
    values[:3] = 0, -0.0, 6e-8  # the last is subnormal in float16
    arrays = dict.fromkeys(("float16", "float32"), values)
    arrays |= {"uint8": np.arange(256), "int32": np.array([-(2**31), -1, 0, 2**31 - 1])}
    given = {dtype: encode_array(array, dtype) for dtype, array in arrays.items()}
    body = """
      const { decodeArray } = await load("arrays.mjs");
      return Object.fromEntries(Object.entries(given).map(([name, each]) => [name, decodeArray(each)]));
    """
    for dtype, found in javascript.run(body, given, tmp_path).items():
        np.testing.assert_array_equal(np.asarray(found, np.float64), arrays[dtype].astype(dtype).astype(np.float64))
    with pytest.raises(RunError, match="not finite as float16"):
        encode_array(np.array([1e5]), "float16")


def test_planes_and_gaussians_in_them(tmp_path):
    random = np.random.RandomState(0)
    across, up, z, mean, scale = (random.normal(size=5) for _ in range(5))
    body = """
      const { planeOf, project, moveInPlane, ellipseOf } = await load("geometry.mjs");
      const plane = planeOf(given.across, given.up);
      const moved = moveInPlane(plane, given.z, [0.7, -1.1]);
      const gaussian = { mean: given.mean, scale: given.scale };
      return { plane, moved, place: project(plane, moved), ellipse: ellipseOf(plane, gaussian) };
    """
    given = {"across": across, "up": up, "z": z, "mean": mean, "scale": np.abs(scale)}
    found = javascript.run(body, {name: values.tolist() for name, values in given.items()}, tmp_path)
    u, v = np.array(found["plane"]["across"]), np.array(found["plane"]["up"])
    np.testing.assert_allclose([u @ u, v @ v, u @ v], [1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(abs(u @ across), np.linalg.norm(across))
    np.testing.assert_allclose(found["place"], [0.7, -1.1])
    moved = np.array(found["moved"]) - z
    np.testing.assert_allclose(moved, (u @ moved) * u + (v @ moved) * v, atol=1e-12)
    covariance = np.stack([u, v]) @ np.diag(scale**2) @ np.stack([u, v]).T
    ellipse = found["ellipse"]
    np.testing.assert_allclose(np.square(ellipse["radii"]), np.linalg.eigvalsh(covariance)[::-1])
    direction = np.array([np.cos(ellipse["angle"]), np.sin(ellipse["angle"])])
    np.testing.assert_allclose(covariance @ direction, ellipse["radii"][0] ** 2 * direction)
    np.testing.assert_allclose(ellipse["center"], [u @ mean, v @ mean])


def test_neighbours_levels_and_files(tmp_path):
    means = np.random.RandomState(0).normal(size=(300, 3)).astype(np.float16)
    plane = plane_of(means)
    level = {
        "means": encode_array(means, "float16"),
        "components": encode_array(plane.components, "float32"),
        "explained": plane.explained.tolist(),
        "variances": plane.variances.tolist(),
    }
    points = {"count": 300, "levels": {"z": level}, "sprite": None}
    points["labels"] = encode_array(np.arange(300) % 7, "int32")
    points["positions"] = encode_array(np.arange(300) + 50, "int32")
    body = """
      const { readPoints, nearest, latentsOf } = await load("points.mjs");
      const { vectorsAsText, labelsAsText } = await load("files.mjs");
      const { createState } = await load("state.mjs");
      const { buildModel } = await load("model.mjs");
      const points = readPoints(given.points);
      const model = buildModel(given.levels.model);
      const state = createState(model);
      const start = structuredClone(state.z);
      state.move("z1", start.z1.map((value) => value + 1));
      const offset = model.prior(0, state.z);
      const apart = state.z.z1.map((value, i) => (value - offset.mean[i]) / offset.scale[i]);
      state.move("z2", [1.5, -0.5, 0.3]);
      const after = model.prior(0, state.z);
      const still = state.z.z1.map((value, i) => (value - after.mean[i]) / after.scale[i]);
      return {
        near: nearest(points, "z", given.z, 8), first: latentsOf(points, 5).z, apart, still, top: state.z.z3,
        vectors: vectorsAsText(points, "z"), labels: labelsAsText(points, (label) => "class\\t" + label),
      };
    """
    z = [0.3, -0.2, 0.1]
    found = javascript.run(body, {"points": points, "z": z, "levels": built("bottom up")}, tmp_path)
    distances = np.linalg.norm(means.astype(np.float64) - z, axis=1)
    assert [each["index"] for each in found["near"]] == np.argsort(distances)[:8].tolist()
    np.testing.assert_allclose([each["distance"] for each in found["near"]], np.sort(distances)[:8], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(found["first"], np.float16), means[5])
    # Moving a level moves the levels below it, which keep their distance from the prior's mean.
    np.testing.assert_allclose(found["still"], found["apart"], rtol=1e-4, atol=1e-4)
    assert found["top"] == [0, 0]
    table = np.loadtxt(io.StringIO(found["vectors"]), delimiter="\t")
    np.testing.assert_allclose(table, means, rtol=1e-5, atol=1e-6)
    lines = found["labels"].splitlines()
    assert lines[0] == "index\tlabel"
    assert lines[9] == "58\tclass 1"
    assert len(lines) == 301


def test_latents_are_those_of_the_library():
    model = aevb.mlp_vae((12,), latent_dim=3, hidden_dim=5)
    params = jax.tree.map(lambda w: 50 * w, model.init(jax.random.key(0)))
    xs = np.random.RandomState(0).uniform(size=(700, 12)).astype(np.float32)
    means = posterior_means(params, xs, model)["z"]
    np.testing.assert_allclose(means, posterior.encode(params, xs, model).mean, rtol=1e-5, atol=1e-6)
    plane = plane_of(means)
    values, vectors = np.linalg.eigh(np.cov(means.astype(np.float64).T, bias=True))
    np.testing.assert_allclose(plane.explained, values[::-1] / values.sum(), rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(plane.components * vectors.T[::-1], axis=1)), 1, rtol=1e-6)
    np.testing.assert_allclose(plane.variances, means.astype(np.float64).var(axis=0))


def test_thumbnails_are_the_images():
    images = np.random.RandomState(0).uniform(size=(7, 5, 4, 3))
    made = sprite(images)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["url"].partition(",")[2])))) / 255
    for index, image in enumerate(images):
        row, column = divmod(index, made["columns"])
        found = sheet[5 * row : 5 * row + 5, 4 * column : 4 * column + 4]
        np.testing.assert_allclose(found, image, atol=0.5 / (NUM_SHADES - 1) + 0.5 / 255)


def test_the_file_holds_everything_and_nothing_breaks_out(tmp_path):
    hostile = "</script><script>alert(1)</script> {{payload}} \\1"
    text = page.page(hostile, {"names": [hostile]})
    assert "<script>alert" not in text
    assert text.count("</script>") == 2
    assert "{{" not in text.replace("{{payload}}", "")
    embedded = re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    assert json.loads(embedded[1]) == {"names": [hostile]}
    assert not re.search(r"https?://|@import|url\(|src=\"", text)  # nothing is fetched from elsewhere
    (tmp_path / "bundle.mjs").write_text(page.bundle())
    subprocess.run([javascript.node(), "--check", str(tmp_path / "bundle.mjs")], check=True)
    assert {path.name for path in javascript.WEB.glob("*.mjs")} == set(
        re.findall(r"^// (\S+\.mjs)$", page.bundle(), re.M)
    )


def test_a_page_without_its_source_or_with_a_module_that_cannot_be_put_into_it(tmp_path):
    with pytest.raises(RunError, match=r"style.css is missing: run this from a checkout"):
        page.page("", {}, tmp_path)
    (tmp_path / "main.mjs").write_text('import "./other.mjs";\n')
    with pytest.raises(ValueError, match="cannot be bundled into one file"):
        page.bundle(tmp_path)


@pytest.mark.parametrize("size_of_image", [100, 500, 20_000, 10**7])
def test_as_many_images_as_fit(size_of_image):
    size_with = lambda count: 2_000_000 + count * size_of_image
    count = payload.fitted(size_with, 10_000, 2_000_000)
    assert count in (200, 10_000) or 0.9 * payload.MOST_BYTES < size_with(count) <= payload.MOST_BYTES
    assert count == 10_000 or size_with(count + max(count // 10, 1)) > payload.MOST_BYTES


def test_the_weights_of_mnist_leave_room_for_images():
    """The network is 784-500-20-500-784. The slow tests check the whole file."""
    model, arguments = aevb.mlp_vae((784,), latent_dim=20), ModelConfig("mlp", {"latent_dim": 20}).arguments
    draw = lambda leaf: np.random.RandomState(0).normal(scale=0.1, size=leaf.shape).astype(np.float32)
    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))
    xs = np.zeros((4, 784), np.float32)
    fixed = payload.of_model("mlp", arguments, model, params, xs, (28, 28, 1), jax.random.key(0))
    assert fixed["weights"] == "float16"
    assert len(page.page("", fixed)) < 2_500_000 < payload.MOST_BYTES < 4_000_000


REFUSED = {
    "deep_markov": ("deep_markov", {}, "of the family 'deep_markov' cannot be explored; supported are mlp, "),
    "semi_supervised": ("semi_supervised", {}, "of the family 'semi_supervised' cannot be explored"),
    "flow": ("mlp", {"posterior": "flow"}, 'posterior="flow" cannot be explored: the mean of its posterior has no'),
    "likelihood": ("mlp", {"likelihood": "mine"}, "likelihood='mine' cannot be explored; supported are bernoulli, "),
    "array": ("conditional", {"condition_shape": [3]}, "if its condition is a label, not an array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_the_page_cannot_show(name):
    family, arguments, message = REFUSED[name]
    with pytest.raises(RunError, match=re.escape(message)):
        networks.check_family(family, ModelConfig(family, arguments).arguments)


@pytest.mark.parametrize("shape", [(5,), (8, 8, 2), (8, 8, 4)])
def test_data_that_are_no_images(shape):
    from experiments.studies.explore import _check_images

    with pytest.raises(ValueError, match=r"the page shows images \[H, W\] or \[H, W, C\] with one or three channels"):
        _check_images(Dataset("mine", "test", np.zeros((9, *shape), np.float32), None, 1, "none"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, data_dir):
    """A wake-sleep run on scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("explore") / "run"
    flags = ("--algorithm=wake_sleep", "--latent_dim=3", "--num_epochs=1", "--nodraw_pictures")
    done = experiment("digits", *flags, f"--workdir={folder}", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    return folder


def test_one_command_makes_the_file_of_a_wake_sleep_run(run_folder, data_dir, tmp_path):
    output = tmp_path / "digits.html"
    done = experiment("explore", f"--run={run_folder}", f"--output={output}", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    assert f"written: {output}" in done.stdout
    text = output.read_text()
    embedded = re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.DOTALL)
    assert embedded is not None
    told = json.loads(embedded[1])
    assert told["points"]["count"] == told["about"]["numTest"] > 100
    positions = np.frombuffer(base64.b64decode(told["points"]["positions"]["data"]), "<i4")
    assert sorted(positions) == list(range(told["about"]["numTest"]))
    assert javascript.run(CHECK, {"digits": told}, tmp_path)["digits"][0]
    again = experiment("explore", f"--run={run_folder}", f"--output={output}", f"--data_dir={data_dir}")
    assert_one_line_error(again, "exists already: choose another --output, or remove it")
    assert output.read_text() == text
    many = experiment("explore", f"--run={run_folder}", "--num_images=100000", f"--data_dir={data_dir}")
    assert_one_line_error(many, "--num_images=100000: the page needs at least 4 of the")


def test_what_the_command_refuses(tmp_path):
    config = Config(model=ModelConfig("deep_markov", {"data_shape": [5, 3], "latent_dim": 2}))
    (tmp_path / "config.json").write_text(json.dumps(to_json(config)))
    assert_one_line_error(experiment("explore", f"--run={tmp_path}"), "'deep_markov' cannot be explored")
    assert_one_line_error(experiment("explore", f"--run={tmp_path}/nothing"), "is not a run folder")
    assert_one_line_error(experiment("explore"), "--run must name a run folder")
