"""Run folders of every format: they load, are resumed, or are refused in one line."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import optax
import pytest

import aevb
from aevb.checkpoints import Checkpoints, RunError
from aevb.saved import FORMAT_VERSION
from experiments import config_files, configs, defaults
from experiments.runs.folder import RunFolder
from tests.test_saved_models import DATA_DIM, KEY, SMALL, assert_same, small

pytestmark = pytest.mark.usefixtures("barely_optimized")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return a run folder without its configuration, and its parameters."""
    folder = tmp_path_factory.mktemp("run")
    state = aevb.init_train_state(KEY, small()[0], optax.sgd(0.1))
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(state, -3.0, 1.0)
    checkpoints.close()
    return folder, state.params


ARGUMENTS = SMALL | {"data_shape": [DATA_DIM]}
TRAINING = {"algorithm": "aevb", "num_epochs": 3, "seed": 0}
FORMATS = {
    1: {"format_version": 1, "model": ARGUMENTS, "training": TRAINING},
    2: {"format_version": 2, "model": {"name": "mlp", "arguments": ARGUMENTS}, "training": TRAINING},
    3: {
        "format_version": 3,
        "model": {"name": "mlp", "arguments": ARGUMENTS},
        "algorithm": "aevb",
        "training": {"num_epochs": 3, "seed": 0},
    },
}


def test_every_format_of_run_folders_is_tested():
    assert max(FORMATS) == FORMAT_VERSION


@pytest.mark.parametrize("version", FORMATS)
def test_run_folders_of_every_format_load(trained, version):
    folder, params = trained
    (folder / "config.json").write_text(json.dumps(FORMATS[version]))
    model, found = aevb.load_run(folder)
    assert model is small()[0]
    assert_same(found, params)


@pytest.mark.parametrize("version", [1, 2])
def test_a_run_folder_of_an_older_format_is_the_same_run(trained, version):
    """It can be resumed, because nothing differs from what would be written today."""
    folder, _ = trained
    everything = {
        "dataset": "frey_face",
        "split_rule": "random 1768/197 by seed 0",
        "num_valid_images": 100,
        "training": OLDER_TRAINING,
    }
    (folder / "config.json").write_text(json.dumps(FORMATS[version] | everything))
    config = config_files.read(folder)
    network = {"latent_dim": 2, "hidden_dim": ARGUMENTS["hidden_dim"], "data_shape": ARGUMENTS["data_shape"]}
    today = defaults.of("frey_face", squash_mean=False, likelihood="bernoulli", weight_init="normal_0.01")
    today = configs.change(today, optimizer="adam", learning_rate=1e-3, epsilon=1e-4, batch_size=20, num_samples=2)
    today = configs.change(today, kl="sampled", map_prior=False, seed=3, num_epochs=7, eval_every="log")
    today = configs.change(today, binarization="stochastic", num_valid_images=100)
    today = dataclasses.replace(today, model=configs.ModelConfig("mlp", ARGUMENTS | network))
    assert config_files.differences(config, today) == []
    assert config.training.num_epochs == 7
    RunFolder(folder, today).check(resume=True)
    with pytest.raises(RunError, match=r"another configuration .*latent_dim is 2 there, 3 here"):
        RunFolder(folder, configs.change(today, latent_dim=3)).check(resume=True)


OLDER_TRAINING = {
    "algorithm": "aevb",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "epsilon": 1e-4,
    "batch_size": 20,
    "num_samples": 2,
    "num_epochs": 7,
    "kl": "sampled",
    "gradient": "pathwise",
    "map_prior": False,
    "binarization": "stochastic",
    "eval_every": "log",
    "seed": 3,
}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            FORMATS[2] | {"format_version": FORMAT_VERSION + 1},
            f"in format {FORMAT_VERSION + 1}, but this version reads",
        ),
        (FORMATS[1] | {"model": FORMATS[2]["model"]}, "describes no model: the model family 'mlp' has no argument"),
        (FORMATS[2] | {"model": ARGUMENTS}, "describes no model: it has no 'name'"),
        (FORMATS[1] | {"model": ARGUMENTS | {"latent_dim": 3}}, "holds parameters of another model: params"),
    ],
)
def test_a_run_folder_of_something_else_is_refused(trained, config, words):
    folder, _ = trained
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError) as caught:
        aevb.load_run(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
