"""Lost or unreadable files are named, and no file of the user is removed."""

import json
import math
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from numpyro.distributions import Normal

import aevb
from aevb import checkpoints as on_disk
from aevb.checkpoints import Checkpoints, RunError, RunWarning
from aevb.training.divergence import DivergedError
from experiments.runs.folder import RunFolder
from experiments.runs.run import Options, Run, train
from tests.processes import assert_same_run, run, start, wait_for
from tests.runs import tiny_config, tiny_splits, train_into
from tests.test_reliability import MODEL, flip, largest, restored_step, save, state_at

COMMAND = (
    sys.executable, "-m", "experiments.digits",
    "--latent_dim=2", "--hidden_dim=20", "--eval_every=2", "--nodraw_pictures", "--learning_rate=0.05",
)  # fmt: skip


@pytest.fixture
def finished(tmp_path):
    """A finished run of four epochs, its configuration and its data; 11 steps per epoch."""
    with jax.enable_x64(True):
        splits = tiny_splits()
        config = tiny_config(splits, num_epochs=4)
        train_into(tmp_path / "run", config, splits)
        yield tmp_path / "run", config, splits


def test_the_last_checkpoint_of_a_finished_run_is_missed(finished):
    folder, _, _ = finished
    aevb.load_run(folder)  # in which case nothing is reported
    shutil.rmtree(folder / "checkpoints" / "44")
    with pytest.warns(RunWarning, match=r"checkpoint 44, the last of .*run, is missing; available: \[0, 11, 22, 33\]"):
        aevb.load_run(folder)


def test_a_run_that_goes_on_names_what_is_missing(finished):
    folder, config, splits = finished
    (folder / "summary.json").unlink()
    go_on = Options(keep_all_checkpoints=True, draw_pictures=False)
    for step in (33, 44):
        shutil.rmtree(folder / "checkpoints" / str(step))
    with pytest.warns(RunWarning, match=r"checkpoint 33 or a later one is missing in .*: the run resumes from 22"):
        history = train(Run(config, folder, "run"), splits, go_on).history
    assert [row.epoch for row in history] == [0, 1, 2, 3, 4]
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints")
    before = (folder / "metrics.csv").read_bytes()
    with pytest.raises(RunError, match=r"has no checkpoint, but metrics.csv has rows up to step 44: restore the"):
        train(Run(config, folder, "run"), splits, go_on)
    assert (folder / "metrics.csv").read_bytes() == before


def test_a_row_without_its_checkpoint_is_what_a_kill_leaves(finished):
    folder, config, splits = finished
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "44")
    train(Run(config, folder, "run"), splits, Options(draw_pictures=False))  # and warnings are errors


@pytest.mark.parametrize("contents", ["[]", "{}", "3", "{"])
def test_a_summary_that_does_not_say_how_far_the_run_is_is_written_again(finished, contents):
    folder, config, splits = finished
    before = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(contents)
    train(Run(config, folder, "run"), splits, Options(draw_pictures=False))
    assert json.loads((folder / "summary.json").read_text())["test_elbo"] == before["test_elbo"]


def test_a_summary_without_its_entries(finished):
    folder, config, splits = finished
    (folder / "summary.json").write_text('{"num_epochs": 4, "num_train_samples": 880}')
    with pytest.raises(RunError, match=r"summary\.json is damaged: it has no train_elbo"):
        train(Run(config, folder, "run"), splits, Options(draw_pictures=False))


def test_what_cannot_be_read_is_set_aside(tmp_path):
    save(tmp_path / "checkpoints", 10, 20, 30)
    flip(largest(tmp_path / "checkpoints" / "30"))
    there = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints" / "30").rglob("*") if path.is_file()}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.warns(RunWarning, match="checkpoint 20 is used instead"):
        checkpoints.restore_latest(state_at(0))
    checkpoints.save(state_at(30), 0.0, 1.0)
    checkpoints.close()
    aside = tmp_path / on_disk.SET_ASIDE_FOLDER / "30"
    assert {path.name: path.read_bytes() for path in aside.rglob("*") if path.is_file()} == there
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20", "30"]


def test_a_save_that_fails_removes_nothing_of_the_users(tmp_path, monkeypatch):
    save(tmp_path, 10)
    for name in ("20.bak", "20.copy", "20 (1)"):
        shutil.copytree(tmp_path / "10", tmp_path / name)
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(on_disk, "write_manifest", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(RunError, match="cannot save checkpoint 20"):
        checkpoints.save(state_at(20), 0.0, 1.0)
    checkpoints.close()
    assert {"10", "20.bak", "20.copy", "20 (1)"} <= {path.name for path in tmp_path.iterdir()}


def test_arrays_that_orbax_does_not_put_together_are_not_a_checkpoint(tmp_path, monkeypatch):
    """One EIO while it lists its writers' folders, and Orbax calls a checkpoint saved that nobody can read."""
    save(tmp_path, 10)
    checkpoints, of_orbax = Checkpoints(tmp_path), type(epath.Path(tmp_path))
    listed = of_orbax.glob
    with monkeypatch.context() as patch:
        patch.setattr(of_orbax, "glob", lambda path, name: iter(()) if "process" in name else listed(path, name))
        with pytest.raises(RunError, match=r"^cannot save checkpoint 20 in .*Input/output error: .*20/default is inc"):
            checkpoints.save(state_at(20), 0.0, 1.0)
        with pytest.raises(OSError, match="Input/output error"):
            aevb.save(tmp_path / "model", MODEL, MODEL.init(jax.random.key(0)))
    assert {path.name for path in tmp_path.iterdir()} == {"10"}
    checkpoints.save(state_at(20), 0.0, 20.0)
    checkpoints.close()
    assert restored_step(tmp_path) == 20


@pytest.mark.parametrize("split", ["test", "valid"])
@pytest.mark.parametrize("bound", [math.nan, -math.inf])
def test_a_bound_that_is_not_finite_is_a_divergence_of_any_split(split, bound):
    """The likelihood is 0, or NaN, at one datapoint outside of the training data."""
    xs = np.full((40, 3), 0.25, np.float32)
    others = xs.copy()
    others[7] = 0.75

    class Broken(Normal):
        def log_prob(self, value):
            return jnp.where(jnp.asarray(value) > 0.5, bound, super().log_prob(value))

    plain = aevb.mlp_vae(data_shape=(3,), latent_dim=2, hidden_dim=4)
    model = aevb.Model(
        plain.init,
        plain.encode,
        lambda params, z: Broken(plain.decode(params, z).mean).to_event(1),
        plain.prior,
    )
    found = {f"{split}_data": others}
    with pytest.raises(DivergedError, match=f"the bound of the {split} data became .* because of 1 datapoints: 7"):
        aevb.fit(xs, model, key=jax.random.key(0), num_epochs=1, batch_size=20, **found)


def test_a_summary_has_no_infinities():
    from experiments.runs.summary import _in_json

    found = _in_json({"one": -math.inf, "two": {"three": math.nan, "four": 1.0}})
    assert json.dumps(found, allow_nan=False) == '{"one": null, "two": {"three": null, "four": 1.0}}'


def test_a_folder_that_is_removed_under_a_run(tmp_path):
    """Its state is saved next to it, and the run resumes there to the same end."""
    whole = tmp_path / "whole"
    assert run([*COMMAND, "--num_epochs=60", f"--workdir={whole}"]).returncode == 0
    process = start([*COMMAND, "--num_epochs=60", f"--workdir={tmp_path / 'run'}"])
    wait_for(tmp_path / "run" / "checkpoints" / "28", process)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2, errors
    rescued = tmp_path / "run.rescued"
    assert errors.splitlines()[-1] == (
        f"error: {tmp_path / 'run'} was removed during training: the run is saved in {rescued}; continue it with "
        f"--workdir={rescued} --resume"
    )
    done = run([*COMMAND, "--num_epochs=60", f"--workdir={rescued}", "--resume"])
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, rescued)


def test_a_work_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("x" * 300, "file/inside"):
        done = run([*COMMAND, "--num_epochs=1", f"--workdir={tmp_path / name}"])
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["file"]
    assert RunFolder(tmp_path / "new", tiny_config(tiny_splits())).read_divergence() == ""
