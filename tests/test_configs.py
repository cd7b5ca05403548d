"""One configuration: its fields, its flags, its file."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import aevb
from aevb.models.families import FAMILIES
from experiments import config_files, configs, defaults
from experiments.configs import Config
from tests.conftest import ROOT
from tests.processes import assert_one_line_error, experiment, metrics, without_seconds

EXPERIMENTS = ROOT / "experiments"


@pytest.mark.parametrize("dataset", ["mnist", "frey_face", "digits", "images"])
def test_a_file_holds_all_of_a_configuration(dataset):
    config = defaults.of(dataset, latent_dim=7, hidden_dim=[20, 10], eval_every="log", epsilon=1e-4)
    contents = json.loads(json.dumps(config_files.to_json(config)))
    found = config_files.from_json(contents)
    assert found == config
    assert hash(found) == hash(config)
    assert config_files.differences(found, config) == []


def test_what_a_file_does_not_say_is_at_its_default():
    assert config_files.from_json({"format_version": 3}) == Config()
    assert config_files.from_json({"optimizer": {"name": "adam"}}).optimizer.batch_size == 100


def test_every_difference_but_the_length_is_found():
    config = defaults.of("digits")
    for field in configs.fields_of(config):
        other = configs.replace(config, {field.path: "another"})
        ignored = field.setting.is_length or field.path[-1] == "path"
        assert bool(config_files.differences(config, other)) != ignored, field.flag


def test_own_data_are_the_same_wherever_they_are():
    config = configs.replace(defaults.of("images"), {("own_data", "fingerprint"): "c0ffee"})
    moved = configs.replace(config, {("own_data", "path"): "/elsewhere", ("data", "name"): "elsewhere"})
    assert config_files.differences(config, moved) == []
    changed = configs.replace(moved, {("own_data", "fingerprint"): "bad"})
    assert "fingerprint is c0ffee there, bad here" in config_files.differences(config, changed)


def test_settings_are_frozen_and_named_once():
    flags = [field.flag for field in configs.fields_of(Config())]
    assert len(set(flags)) == len(flags)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.seed = 1  # type: ignore[misc]
    assert all(field.setting.help for field in configs.fields_of(Config()))


def test_a_configuration_has_one_shape():
    """It is never treated as a dictionary, whose keys would repeat the names of its fields."""
    for path in EXPERIMENTS.rglob("*.py"):
        assert not re.search(r'(config|training|settings|model)\["', path.read_text()), path


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": math.inf}, "learning_rate must be positive and finite, got inf"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_epochs": -1}, "num_epochs must be at least 0, got -1"),
        ({"optimizer": "lion"}, "optimizer must be one of adagrad, adam, rmsprop, sgd, got lion"),
        ({"algorithm": "em"}, "algorithm must be one of aevb, wake_sleep, monte_carlo_em, full_vb, got em"),
        ({"colour": "blue"}, "colour must be one of rgb, grey, got blue"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"posterior": "student"}, "posterior must be one of"),
    ],
)
def test_a_value_out_of_its_range_is_one_line(values, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        configs.check(defaults.of("mnist", **values))


def test_another_family_keeps_what_it_takes_too(monkeypatch):
    monkeypatch.setattr(FAMILIES, "_added", {})

    @aevb.models.register("linear", images=True)
    def linear(data_shape: list[int], latent_dim: int, slope: float = 2.0) -> aevb.Model:
        """Return a model.

        Args:
          data_shape: of an image.
          latent_dim: size of z,
            as always.
          slope: of the lines.
        """
        return aevb.mlp_vae(data_shape, latent_dim)

    config = configs.change(defaults.of("digits", latent_dim=7), model="linear", slope=3.0)
    assert config.model.arguments == {"latent_dim": 7, "slope": 3.0}
    helps = {field.flag: field.setting.help for field in configs.fields_of(config)}
    assert (helps["latent_dim"], helps["slope"]) == ("Size of z, as always.", "Of the lines.")
    with pytest.raises(ValueError, match="no setting 'hidden_dim' for the model linear"):
        configs.change(config, hidden_dim=[3])
    images = aevb.data.Dataset("digits", "train", np.zeros((9, 4, 5), np.uint8), None, 1, "none")
    assert configs.with_data(config, images).model.arguments["data_shape"] == [4, 5]
    assert configs.with_data(defaults.of("digits"), images).model.arguments["data_shape"] == [20]


def test_sizes_of_levels_are_a_familys_own_where_they_have_another_form():
    """One number is no default for a model of levels, nor are levels for a model without any."""
    for dataset in ("mnist", "digits"):
        config = defaults.of(dataset, model="hierarchical")
        assert config.model.arguments["latent_dim"] == [100, 50]
        assert configs.change(config, model="mlp").model.arguments["latent_dim"] is None
        again = config_files.from_json(json.loads(json.dumps(config_files.to_json(config))))
        assert again == config
    assert defaults.of("mnist", model="hierarchical").model.arguments["hidden_dim"] == 200
    assert defaults.of("digits", model="hierarchical").model.arguments["hidden_dim"] == [200]


SEVERAL = """
import sys
from absl import flags
from experiments import defaults
from experiments.config_flags import ConfigFlags
settings = ConfigFlags(defaults.of("digits"), {"latent_dim": (2, 10)})
flags.FLAGS(sys.argv[:1] + ["--model=hierarchical", *[each for each in sys.argv[1:] if "--" in each]])
found = settings.crossed([each for each in sys.argv[1:] if "--" not in each])
print([(config.model.arguments["latent_dim"], config.model.arguments["hidden_dim"]) for config in found])
"""


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "[([100, 50], [200])]"),
        (["--latent_dim=4-3"], "[([4, 3], [200])]"),
        (["--latent_dim=4-3,5-4-3"], "[([4, 3], [200]), ([5, 4, 3], [200])]"),
        (["latent_dim=4-3,9-2", "hidden_dim=5,6-7"],
         "[([4, 3], 5), ([4, 3], [6, 7]), ([9, 2], 5), ([9, 2], [6, 7])]"),
    ],
)  # fmt: skip
def test_lists_are_crossed_by_their_hyphens(arguments, found):
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == found, done.stderr


def test_folders_are_named_as_they_always_were(data_dir, tmp_path):
    """Names consist of the settings that differ from defaults, so that commands of earlier versions find their runs."""
    arguments = ["--hidden_dim=8,8", "--weight_init=glorot", "--optimizer=sgd", "--epsilon=1e-4", "--nomap_prior"]
    arguments += ["--binarization=stochastic", "--batch_size=20", "--num_epochs=0", "--latent_dim=2", "--kl=sampled"]
    program = [sys.executable, "-m", "experiments.digits", f"--data_dir={data_dir}", *arguments]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    refused = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, env=here, check=False)
    assert_one_line_error(refused, "epsilon is for adaptive optimizers, not sgd")
    program = [word.replace("sgd", "rmsprop") for word in program]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, env=here, check=False)
    assert done.returncode == 0, done.stderr
    name = (
        "hidden_dim-8-8,weight_init-glorot,optimizer-rmsprop,epsilon-1e-4,batch_size-20,kl-sampled,map_prior-False,"
        "binarization-stochastic,seed-0"
    )
    assert (tmp_path / "runs" / "digits" / name / "latent_2" / "summary.json").exists()


def test_a_flagfile_is_a_configuration_file(data_dir, tmp_path):
    """It trains on exactly its number of samples, and a finished run has nothing to do."""
    (tmp_path / "small.flags").write_text(
        "# a small run\n--latent_dim=2\n--hidden_dim=8\n--num_train_samples=2000\n--nodraw_pictures\n"
    )
    arguments = (f"--flagfile={tmp_path / 'small.flags'}", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    done = experiment("digits", *arguments)
    assert done.returncode == 0, done.stderr
    assert [int(row["num_train_samples"]) for row in metrics(tmp_path / "run")] == [0, 2000]
    assert not (tmp_path / "run" / "figures").exists()
    again = experiment("digits", *arguments, "--resume")
    assert again.returncode == 0
    assert f"nothing to do: {tmp_path / 'run'} holds a finished run" in again.stdout
    longer = experiment("digits", *arguments, "--num_train_samples=4000", "--resume")
    assert longer.returncode == 0, longer.stderr
    whole = experiment("digits", *arguments, "--num_train_samples=4000", f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    ends = [without_seconds(metrics(tmp_path / name))[-1] for name in ("run", "whole")]
    assert ends[0] == ends[1]
    both = experiment("digits", *arguments, "--num_epochs=3", "--resume")
    assert_one_line_error(both, "--num_epochs and --num_train_samples both set how long to train")


def test_files_of_the_experiments_are_short():
    for path in EXPERIMENTS.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 350, path


def test_binaries_are_not_imported_for_their_data():
    for path in EXPERIMENTS.rglob("*.py"):
        names = re.findall(r"from experiments import (.+)", path.read_text())
        assert not set(", ".join(names).split(", ")) & {"mnist", "frey_face", "digits", "images"}, path
