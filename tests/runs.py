"""Run folders of tiny images in double precision, trained in this process by the functions of the binaries."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

import aevb
from aevb.data import Dataset
from aevb.training import Evaluation
from experiments import configs
from experiments.configs import Config
from experiments.runs.run import Options, Run, train
from experiments.runs.splits import Splits
from tests.processes import metrics, without_seconds


def tiny_splits() -> Splits:
    """Return training and test data: 230 and 90 images of 3 x 4 random pixels, of three classes in turn."""
    images, labels = np.random.RandomState(0).randint(0, 256, (320, 3, 4)).astype(np.uint8), np.arange(320) % 3
    parts = {"train": slice(230), "test": slice(230, None)}
    train, test = (Dataset("digits", name, images[part], labels[part], 255, "none") for name, part in parts.items())
    return Splits(train, None, test)


def tiny_config(splits: Splits, **values: Any) -> Config:
    """Return the configuration of two epochs of AEVB by Adagrad, in minibatches of 20, changed by `values`."""
    settings = {"latent_dim": 3, "hidden_dim": [8], "param_dtype": "float64", "batch_size": 20, "num_epochs": 2}
    settings |= {"dataset": "digits", "split_rule": "none"}
    return configs.with_data(configs.change(Config(), **settings | values), splits.train)


def train_into(folder: Path, config: Config, splits: Splits, **options: Any) -> list[Evaluation]:
    """Train into a new folder, without pictures, and return the history."""
    quiet = Options(resume=False, keep_all_checkpoints=True, draw_pictures=False, **options)
    return train(Run(config, folder, folder.name), splits, quiet).history


def end_of(folder: Path) -> tuple[list[dict[str, str]], list[bytes]]:
    """Return the metrics of a run folder without seconds, and the bits of its final parameters."""
    _, params = aevb.load_run(folder)
    return without_seconds(metrics(folder)), [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]
