"""Trained models on disk: saved models and run folders load unchanged, and damage is reported in one line."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import pytest

import aevb
from aevb import models
from aevb.checkpoints import Checkpoints, RunError
from aevb.models.mlp import Posterior
from tests.newcomers import LINEAR
from tests.processes import run

pytestmark = pytest.mark.usefixtures("barely_optimized")

KEY = jax.random.key(0)
SIZE, DATA_DIM = 8, 6
XS = np.random.RandomState(0).rand(SIZE, DATA_DIM).astype(np.float32)
SMALL = {"data_shape": (DATA_DIM,), "latent_dim": 2, "hidden_dim": 4}
POSTERIORS = get_args(Posterior)
SAMPLED = aevb.Estimator(kl="sampled")
LONGEST_MESSAGE = 300  # without the path


def small(**arguments: Any) -> tuple[aevb.Model, Any]:
    """Return a model and its parameters, all different numbers."""
    model, rng = models.build("mlp", **(SMALL | arguments)), np.random.RandomState(1)
    shapes = jax.eval_shape(model.init, KEY)
    return model, jax.tree.map(lambda leaf: 0.3 * rng.randn(*leaf.shape).astype(leaf.dtype), shapes)


def bound(model: aevb.Model, params: Any) -> float:
    return aevb.evaluate(params, KEY, XS, model, SAMPLED).elbo


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


# Saved models


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of saved models, one per posterior."""
    folder = tmp_path_factory.mktemp("saved")
    for posterior in POSTERIORS:
        aevb.save(folder / "new" / posterior, *small(posterior=posterior))
    return folder / "new"


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_saved_and_loaded(saved, posterior):
    model, params = aevb.load(saved / posterior)
    expected_model, expected_params = small(posterior=posterior)
    assert model is expected_model
    assert_same(params, expected_params)
    assert bound(model, params) == bound(expected_model, expected_params)


@pytest.mark.parametrize("name", ["run[1]", "a*b", r"runs\one"])
def test_no_parameters_are_lost_to_a_path(tmp_path, name):
    """Orbax interprets paths as patterns and would report nothing."""
    model = aevb.mlp_vae((4,), 2, 3)
    with pytest.raises(RunError, match="choose a path without any of"):
        aevb.save(tmp_path / name, model, model.init(jax.random.key(0)))
    with pytest.raises(RunError, match="choose a path without any of"):
        Checkpoints(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_parameters_keep_their_precision(x64, tmp_path):
    model, params = small(param_dtype="float64")
    aevb.save(tmp_path / "saved", model, params)
    assert_same(aevb.load(str(tmp_path / "saved"))[1], params)


def test_saved_is_what_was_there_to_be_read(saved):
    """Whoever may read a new folder may read the model, and no temporary files are left."""
    expected = saved / "expected"
    expected.mkdir()
    assert (saved / "flow").stat().st_mode == expected.stat().st_mode
    expected.rmdir()
    assert sorted(path.name for path in saved.iterdir()) == sorted(POSTERIORS)


IN_A_NEW_PROCESS = """
import json, pickle, sys
from pathlib import Path
import aevb
from tests.test_saved_models import KEY, SAMPLED, XS

with open(sys.argv[1], "rb") as file:
    pickled = pickle.load(file)
bounds = {}
for path in map(Path, sys.argv[2:]):
    model, params = aevb.load(path)
    assert pickled[path.name] is model
    bounds[path.name] = aevb.evaluate(params, KEY, XS, model, SAMPLED).elbo
print(json.dumps(bounds))
"""


def test_loaded_in_a_new_process(saved, tmp_path):
    with (tmp_path / "models").open("wb") as file:
        pickle.dump({posterior: small(posterior=posterior)[0] for posterior in POSTERIORS}, file)
    paths = [str(saved / posterior) for posterior in POSTERIORS]
    done = run([sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path / "models"), *paths])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for posterior in POSTERIORS:
        assert found[posterior] == pytest.approx(bound(*small(posterior=posterior)), rel=1e-6)


# Models that cannot be loaded


def described(**changes: Any) -> Callable[[Path], None]:
    """Change entries of model.json; `None` removes one."""

    def change(folder: Path) -> None:
        contents = json.loads((folder / "model.json").read_text()) | changes
        contents = {name: value for name, value in contents.items() if value is not None}
        (folder / "model.json").write_text(json.dumps(contents))

    return change


def of_arguments(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        model = json.loads((folder / "model.json").read_text())["model"]
        described(model={"name": model["name"], "arguments": model["arguments"] | changes})(folder)

    return change


def written(contents: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / "model.json").write_bytes(contents)


def cut(folder: Path) -> None:
    text = (folder / "model.json").read_bytes()
    (folder / "model.json").write_bytes(text[: len(text) // 2])


def largest(folder: Path) -> Path:
    return max(
        (path for path in (folder / "params").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


def flip(folder: Path) -> None:
    contents = bytearray(largest(folder).read_bytes())
    contents[len(contents) // 2] ^= 1
    largest(folder).write_bytes(contents)


def nothing_promised(folder: Path) -> None:
    """Remove the parameters, and the checksums that would reveal it."""
    shutil.rmtree(folder / "params")
    described(sha256={})(folder)


def describing(**arguments: Any) -> Callable[[Path], None]:
    """Put the parameters of another model with the description."""

    def change(folder: Path) -> None:
        other = folder.with_name("other")
        aevb.save(other, *small(**arguments))
        shutil.rmtree(folder / "params")
        shutil.copytree(other / "params", folder / "params")
        described(sha256=json.loads((other / "model.json").read_text())["sha256"])(folder)

    return change


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "is not a saved model"),
    "an empty folder": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "is not a saved model"),
    "a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("")), "model.json cannot be read"),
    "parameters alone": (lambda folder: (folder / "model.json").unlink(), "is not a saved model"),
    "a folder for the description": (
        lambda folder: ((folder / "model.json").unlink(), (folder / "model.json").mkdir()),
        "model.json cannot be read",
    ),
    "half a description": (cut, "model.json cannot be read"),
    "an empty description": (written(b""), "model.json cannot be read"),
    "bytes": (written(b"\xff\xfe"), "model.json cannot be read"),
    "a list": (written(b"[]"), "model.json cannot be read"),
    "null": (written(b"null"), "model.json cannot be read"),
    "brackets": (written(b"[" * 100_000), "model.json cannot be read"),
    "no format": (described(format_version=None), "it has no 'format_version'"),
    "a newer format": (described(format_version=99), "was written in format 99, but this version reads format 1"),
    "no checksums": (described(sha256=None), "it has no 'sha256'"),
    "checksums that are none": (described(sha256=3), "model.json cannot be read"),
    "no model": (described(model=None), "describes no model: it has no 'model'"),
    "no arguments": (described(model={"name": "mlp"}), "describes no model: it has no 'arguments'"),
    "a list of arguments": (described(model={"name": "mlp", "arguments": [1]}), "describes no model"),
    "an unknown family": (
        described(model={"name": "unet", "arguments": {}}),
        "model family must be one of mlp",
    ),
    "an unknown argument": (of_arguments(latents=3), "the model family 'mlp' has no argument 'latents'"),
    "an argument out of range": (of_arguments(latent_dim=0), "latent_dim must be at least 1, got 0"),
    "an unknown dtype": (of_arguments(param_dtype="float33"), "describes no model"),
    "an argument of another size": (
        of_arguments(latent_dim=3),
        "another model: params['decoder']['Dense_0']['kernel'] has",
    ),
    "a byte": (flip, "is damaged: its files have changed since they were written"),
    "a file that is gone": (lambda folder: largest(folder).unlink(), "is damaged"),
    "no parameters": (lambda folder: shutil.rmtree(folder / "params"), "is damaged"),
    "no parameters and no checksums": (nothing_promised, "cannot be read"),
    "parameters of another size": (describing(hidden_dim=5), "holds parameters of another model: params"),
    "parameters of another structure": (describing(posterior="flow"), "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_said_in_one_line(saved, tmp_path, name):
    damage, words = BROKEN[name]
    folder = tmp_path / "saved"
    shutil.copytree(saved / "gaussian", folder)
    damage(folder)
    with pytest.raises(RunError) as caught:
        aevb.load(folder)
    message = str(caught.value).replace(str(folder), "")
    assert words in message
    assert "\n" not in message
    assert len(message) <= LONGEST_MESSAGE
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


# Models that cannot be saved


def contents(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("what", ["a saved model", "an empty folder", "a file", "a link to nothing"])
def test_saving_over_what_is_there_is_refused(saved, tmp_path, what):
    path = tmp_path / "folder" / "there"
    path.parent.mkdir()
    if what == "a saved model":
        shutil.copytree(saved / "flow", path)
    elif what == "an empty folder":
        path.mkdir()
    elif what == "a file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = contents(path.parent)
    with pytest.raises(FileExistsError, match="there already exists: save to a new folder"):
        aevb.save(path, *small())
    assert contents(path.parent) == before


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_save_that_fails_leaves_nothing(monkeypatch, tmp_path, error):
    def write(folder: Path, params: Any) -> None:
        folder.mkdir()
        (folder / "half").write_text("written")
        raise error("no space left")

    monkeypatch.setattr("aevb.saved.write_arrays", write)
    with pytest.raises(error, match="no space left"):
        aevb.save(tmp_path / "saved", *small())
    assert not list(tmp_path.iterdir())


def test_a_saved_model_is_on_the_disk_before_it_has_its_name(monkeypatch, tmp_path):
    events, sync, replace = [], os.fsync, os.replace

    def record(number: int) -> None:
        sync(number)
        events.append(os.readlink(f"/proc/self/fd/{number}"))

    def rename(source: Path, target: Path) -> None:
        replace(source, target)
        events.append("renamed")

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "replace", rename)
    path = tmp_path / "saved"
    aevb.save(path, *small())
    renamed = len(events) - events[::-1].index("renamed")
    synced = {Path(each).name for each in events[: renamed - 1]}
    assert {each.name for each in path.rglob("*")} | {path.name} <= synced
    assert str(tmp_path) in events[renamed:]


def test_what_can_not_be_saved_is_refused_before_anything_is_written(tmp_path):
    model, params = small()
    other = small(latent_dim=3)[1]
    for arguments, words in (
        ((LINEAR, LINEAR.init(KEY)), r"not built by name.*register it with @aevb\.models\.register\(\"name\"\)"),
        ((model, other), r"params are not the parameters of this model: params\['decoder'\]"),
        ((model, params["encoder"]), "their structure differs from that of init"),
    ):
        with pytest.raises(ValueError, match=words):
            aevb.save(tmp_path / "saved", *arguments)
    assert not list(tmp_path.iterdir())
