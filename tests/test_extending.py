"""A new family, likelihood, algorithm or data set takes one new file and one registration, outside of the package."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb.algorithms import ALGORITHMS
from aevb.data import SOURCES, Source
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.models import FAMILIES
from tests.conftest import ROOT
from tests.newcomers import Mistake, assert_answered, wrong
from tests.processes import assert_one_line_error, run

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SIZE, DATA_DIM = 40, 6
XS = 0.1 * np.random.RandomState(0).randn(SIZE, DATA_DIM).astype(np.float32)

MY_FAMILY = '''
"""Probabilistic PCA with a noise variance for each value."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import aevb


@aevb.models.register("factor_analysis")
def factor_analysis(data_dim, latent_dim=2):
    def init(key):
        weights = 0.1 * jax.random.normal(key, (data_dim, latent_dim))
        return {
            "encoder": {"weights": weights.T, "log_scale": jnp.zeros(latent_dim)},
            "decoder": {"weights": weights, "log_scale": jnp.zeros(data_dim)},
        }

    def encode(params, x):
        phi = params["encoder"]
        return dist.Normal(phi["weights"] @ x, jnp.exp(phi["log_scale"])).to_event(1)

    def decode(params, z):
        theta = params["decoder"]
        return dist.Normal(theta["weights"] @ z, jnp.exp(theta["log_scale"])).to_event(1)

    def prior(params):
        return dist.Normal(jnp.zeros(latent_dim), 1.0).to_event(1)

    return aevb.Model(init, encode, decode, prior)
'''

MY_LIKELIHOOD = """
import jax.numpy as jnp
import numpyro.distributions as dist

import aevb
from aevb.likelihoods import Likelihood

aevb.likelihoods.register("laplace", Likelihood(2, lambda mean, log_scale: dist.Laplace(mean, jnp.exp(log_scale))))
"""

MY_ALGORITHM = '''
"""Descent along the sign of each derivative."""

import jax
import jax.numpy as jnp
import optax

import aevb


@aevb.algorithms.register("sign_descent")
def sign_descent(model, optimizer, dataset_size, map_prior):
    loss = aevb.make_loss(model, dataset_size, map_prior=map_prior)

    def init(key, x=None):
        return aevb.init_train_state(key, model, optimizer)

    def step(state, xs, indices):
        key, loss_key = jax.random.split(state.key)
        value, gradient = jax.value_and_grad(loss)(state.params, loss_key, xs)
        updates, optimizer_state = optimizer.update(jax.tree.map(jnp.sign, gradient), state.optimizer_state)
        params = optax.apply_updates(state.params, updates)
        return aevb.TrainState(params, optimizer_state, key, state.step + 1), value

    return aevb.Algorithm(init, step)
'''

MY_DATA = '''
"""Pictures of one bright row or column."""

import numpy as np

import aevb
from aevb.data.source import Arrays, Source, random_split


def read(folder):
    images, labels = np.zeros((250, 4, 4), np.uint8), np.arange(250) % 8
    for image, label in zip(images, labels):
        image[(label,) if label < 4 else (slice(None), label - 4)] = 200
    return {"full": Arrays(images, labels.astype(np.int64))}


rules = {"random": random_split(250, 200, 0)}
aevb.data.register(Source("stripes", "1.0.0", (), (4, 4), 200, 8, {"full": 250}, read, rules))
'''

MY_EXPERIMENT = """
import my_algorithm
import my_data
import my_likelihood

from experiments import defaults, launch

CONFIG = defaults.of(
    "stripes", latent_dim=3, hidden_dim=[8], likelihood="laplace", weight_init="glorot",
    optimizer="sgd", learning_rate=1e-2, num_epochs=4, eval_every=2,
)

if __name__ == "__main__":
    launch.main(CONFIG)
"""

BUILT_IN_FAMILIES = (
    *("mlp", "convolutional", "conditional"),
    *("hierarchical", "hierarchical_convolutional", "supervised", "semi_supervised"),
    *("deep_markov", "conditional_deep_markov", "linear_gaussian"),
)
BUILT_IN_DATA = (
    "mnist",
    "frey_face",
    "digits",
    "bimodal",
    "diabetes",
    "jsb_chorales",
    "basic_motions",
    "japanese_vowels",
    "co2",
)
BUILT_IN_LIKELIHOODS = (
    *("bernoulli", "gaussian", "squashed_gaussian", "gaussian_fixed_scale"),
    *("discretized_logistic", "spiked_logistic", "beta_binomial", "categorical"),
)
REGISTRIES = (FAMILIES, LIKELIHOODS, ALGORITHMS, SOURCES)
Write = Callable[[str, str], ModuleType]


@pytest.fixture(autouse=True)
def only_what_is_built_in(monkeypatch) -> None:
    """Hide registrations of other tests, and remove those of this test after it."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_added", {})


@pytest.fixture
def write(tmp_path, monkeypatch) -> Write:
    """Write a user's module and import it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return write


def run_with(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Python with the modules of a folder in addition to the project's."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return run([sys.executable, *arguments], PYTHONPATH=path, JAX_DISABLE_MOST_OPTIMIZATIONS="1")


def trained(model: aevb.Model, **settings: Any) -> aevb.FitResult:
    """Train for a few epochs and require that the bound rises."""
    settings = {"optimizer": optax.adam(1e-2), "num_epochs": 4, "eval_every": 4, "batch_size": 10} | settings
    result = aevb.fit(XS, model, key=KEY, **settings)
    first, last = result.history
    assert last.train_elbo > first.train_elbo
    return result


IN_A_NEW_PROCESS = """
import importlib, json, sys
import aevb
from aevb.checkpoints import RunError
from tests.test_extending import KEY, XS

bounds = []
for name in ("my_family", "my_likelihood"):
    folder = f"{sys.argv[1]}/{name}.saved"
    try:
        aevb.load(folder)
    except RunError as error:
        print(error, file=sys.stderr)
    importlib.import_module(name)
    model, params = aevb.load(folder)
    bounds.append(aevb.evaluate(params, KEY, XS, model).elbo)
print(json.dumps(bounds))
"""


def test_a_new_family_and_a_new_likelihood(write, tmp_path):
    """They are built by name, evaluated, trained and saved. Another process that imports their modules loads them."""
    family, _ = write("my_family", MY_FAMILY), write("my_likelihood", MY_LIKELIHOOD)
    assert FAMILIES.names() == (*BUILT_IN_FAMILIES, "factor_analysis")
    assert LIKELIHOODS.names() == (*BUILT_IN_LIKELIHOODS, "laplace")
    models = {
        "my_family": aevb.models.build("factor_analysis", data_dim=DATA_DIM),
        "my_likelihood": aevb.mlp_vae((DATA_DIM,), 2, 8, likelihood="laplace"),
    }
    assert models["my_family"] is family.factor_analysis(np.int64(DATA_DIM), 2)
    bounds = []
    for name, model in models.items():
        params = trained(model).state.params
        assert np.isfinite(aevb.elbo(params, KEY, XS[0], model))
        aevb.save(tmp_path / f"{name}.saved", model, params)
        assert aevb.load(tmp_path / f"{name}.saved")[0] is model
        bounds.append(aevb.evaluate(params, KEY, XS, model).elbo)
    done = run_with(tmp_path, "-c", IN_A_NEW_PROCESS, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(bounds, rel=1e-5)
    unknown_family, unknown_likelihood = done.stderr.splitlines()
    hint = "register one of your own first"
    assert (
        f"model family must be one of {', '.join(BUILT_IN_FAMILIES)}, got 'factor_analysis': {hint}" in unknown_family
    )
    names = ", ".join(BUILT_IN_LIKELIHOODS)
    assert f"likelihood must be one of {names}, got 'laplace': {hint}" in unknown_likelihood


def test_a_likelihood_that_is_registered_again_makes_a_new_model(write):
    write("my_likelihood", MY_LIKELIHOOD)
    before = aevb.mlp_vae((3, 2), 2, 4, likelihood="laplace")
    likelihood: Any = jax.eval_shape(before.decode, jax.eval_shape(before.init, KEY), np.zeros(2, np.float32))
    assert isinstance(likelihood.base_dist, dist.Laplace)
    assert likelihood.event_shape == (3, 2)
    aevb.likelihoods.register("laplace", Likelihood(1, dist.Laplace))
    assert aevb.mlp_vae((3, 2), 2, 4, likelihood="laplace") != before


def test_a_new_algorithm(write):
    write("my_algorithm", MY_ALGORITHM)
    assert ALGORITHMS.names()[-1] == "sign_descent"
    model, rate = aevb.mlp_vae((DATA_DIM,), 2, 8, likelihood="gaussian"), 1e-3
    make, optimizer = ALGORITHMS.get("sign_descent"), optax.sgd(rate)
    trained(model, algorithm=make, optimizer=optimizer)
    algorithm = make(model, optimizer, SIZE, True)
    before = jax.jit(algorithm.init)(KEY)
    after, _ = jax.jit(algorithm.step)(before, XS, np.arange(SIZE))
    for one, other in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True):
        np.testing.assert_allclose(np.abs(other - one), rate, rtol=1e-2)


def test_a_new_data_set(write, tmp_path):
    write("my_data", MY_DATA)
    assert aevb.data.names() == (*BUILT_IN_DATA, "stripes")
    train, test = (aevb.data.load("stripes", split, tmp_path / "data") for split in ("train", "test"))
    assert (train.images.shape, test.images.shape) == ((200, 4, 4), (50, 4, 4))
    assert aevb.data.split_rule_of("stripes", train.split_rule) == "random"
    assert train.labels is not None
    assert set(train.labels) == set(range(8))
    bright = train.images[train.labels == 2] == 200
    assert np.all(bright[:, 2])
    assert bright.sum() == 4 * len(bright)
    assert set(np.unique(train.pixels())) == {0, 1}
    again = aevb.data.load("stripes", "train", tmp_path / "data")
    np.testing.assert_array_equal(again.images, train.images)


def test_an_experiment_of_ones_own(write, tmp_path):
    """The binaries take registrations made before they start, by a file that imports them and passes its defaults."""
    write("my_algorithm", MY_ALGORITHM)
    write("my_data", MY_DATA)
    write("my_likelihood", MY_LIKELIHOOD)
    aevb.data.load("stripes", "train", tmp_path / "data")
    (tmp_path / "my_experiment.py").write_text(MY_EXPERIMENT)
    command = (str(tmp_path / "my_experiment.py"), f"--data_dir={tmp_path / 'data'}")
    workdir = tmp_path / "run"
    done = run_with(tmp_path, *command, "--algorithm=sign_descent", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    model, params = aevb.load_run(workdir)
    assert model == aevb.mlp_vae((16,), 3, 8, likelihood="laplace", weight_init="glorot")
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["dataset"] == "stripes"
    test = aevb.data.load("stripes", "test", tmp_path / "data").pixels()
    assert aevb.evaluate(params, KEY, test, model).elbo == pytest.approx(summary["test_elbo"], abs=0.5)
    wrong = run_with(tmp_path, *command, "--algorithm=sign_ascent")
    assert_one_line_error(wrong, "<aevb|wake_sleep|monte_carlo_em|full_vb|sign_descent>")


# Invalid registrations, and names that are not registered


def source(name: Any) -> Source:
    return Source(name, "1.0.0", (), (4, 4), 1, 0, {}, lambda folder: {}, {})


GAUSSIAN = Likelihood(2, dist.Normal)
REGISTER: dict[str, Callable[[Any], Any]] = {
    "model family": lambda name: aevb.models.register(name)(lambda: None),
    "likelihood": lambda name: aevb.likelihoods.register(name, GAUSSIAN),
    "algorithm": lambda name: aevb.algorithms.register(name, aevb.auto_encoding),
    "data set": lambda name: aevb.data.register(source(name)),
}
BUILT_IN = {"model family": "mlp", "likelihood": "gaussian", "algorithm": "aevb", "data set": "mnist"}

MISTAKES: dict[str, Mistake] = {
    **{
        f"{name!r} as the name of a {kind}": wrong(
            lambda register=register, name=name: register(name),
            ValueError,
            f"the name of a registered {kind} must be an identifier, got {name!r}",
        )
        for name in ("my own", "", 3)
        for kind, register in REGISTER.items()
    },
    **{
        f"a built-in {kind}": wrong(
            lambda kind=kind, name=name: REGISTER[kind](name),
            ValueError,
            f"{kind} {name!r} is built in: choose another name",
        )
        for kind, name in BUILT_IN.items()
    },
    "an unknown family": wrong(
        lambda: aevb.models.build("unet"),
        ValueError,
        f"model family must be one of {', '.join(BUILT_IN_FAMILIES)}, got 'unet'",
    ),
    "an unknown likelihood": wrong(
        lambda: aevb.mlp_vae((4,), 2, likelihood="cauchy"),
        ValueError,
        f"likelihood must be one of {', '.join(BUILT_IN_LIKELIHOODS)}, got 'cauchy'",
    ),
    "an unknown algorithm": wrong(
        lambda: ALGORITHMS.get("vi"),
        ValueError,
        "algorithm must be one of aevb, wake_sleep, monte_carlo_em, full_vb, got 'vi'",
    ),
    "an unknown data set": wrong(
        lambda: aevb.data.load("cifar"),
        ValueError,
        f"unknown data set 'cifar': choose from {', '.join(BUILT_IN_DATA)}, or add one with aevb.data.register",
    ),
    "a family that is no function": wrong(
        lambda: aevb.models.register("mine")(3),
        TypeError,
        "model family must be a function that returns an aevb.Model, got 3",
    ),
    "a likelihood that is a distribution": wrong(
        lambda: aevb.likelihoods.register("mine", dist.Laplace),
        TypeError,
        "likelihood must be an aevb.likelihoods.Likelihood, got the class Laplace: pass, for example, Likelihood(1,",
    ),
    "an algorithm that is no function": wrong(
        lambda: aevb.algorithms.register("mine", 3),
        TypeError,
        "algorithm must be a function (model, optimizer, dataset_size, map_prior) -> Algorithm, got 3",
    ),
    "a data set that is an array": wrong(
        lambda: aevb.data.register(XS),
        TypeError,
        "a data set must be an aevb.data.Source, got an array of shape (40, 6)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_in_one_line(name):
    assert_answered(MISTAKES[name])
    assert all(not registry._added for registry in REGISTRIES)
