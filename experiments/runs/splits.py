"""The splits that a configuration trains on, from a named data set or from own data."""

import dataclasses

from aevb import data as datasets
from aevb.data import Splits
from experiments.configs import Config
from experiments.defaults import OWN_DATA, OWN_SEQUENCES

__all__ = ["Splits", "load_splits"]


def load_splits(config: Config, data_dir: str | None, source_dir: str | None = None) -> Splits:
    """Load training, validation and test data; test data are never used to choose anything.

    Args:
      config: the configuration, which names the data and the numbers of images.
      data_dir: the folder for prepared data.
      source_dir: a folder with the original files, or with a subfolder of them named after this data set.

    Raises:
      DatasetError: the data cannot be loaded, or cannot be modelled as they are.
      ValueError: there are too few images, or early stopping has no validation images.
    """
    data = config.data
    is_own = data.name in OWN_DATA or config.own_data.path is not None
    train, valid, test = _own(config, data_dir) if is_own else _named(config, data_dir, source_dir)
    if data.num_valid_images:
        if valid is not None:
            raise ValueError(f"{train.name} has a validation split of its own: leave --num_valid_images out")
        train, valid = train.split_off(data.num_valid_images)
    if config.training.patience and valid is None:
        raise ValueError("--patience needs validation images: hold some out with --num_valid_images")
    return Splits(train.subset(data.num_train_images) if data.num_train_images else train, valid, test)


def _named(config: Config, data_dir: str | None, source_dir: str | None) -> Splits:
    return datasets.load_splits(config.data.name, data_dir, source_dir, config.data.split_rule)


def _own(config: Config, data_dir: str | None) -> Splits:
    options = dataclasses.asdict(config.own_data)
    path, _ = options.pop("path"), options.pop("fingerprint")
    if path is None:
        kinds = "a .npy or .npz file, a folder of PNG or JPEG files, tfds:NAME or hf:NAME"
        if config.data.name == OWN_SEQUENCES:
            kinds = "a .npz file with values [N, T, D] and lengths [N]"
        raise ValueError(f"--data must name what to train on: {kinds}")
    splits = datasets.load_own(path, data_dir=data_dir if path.startswith("tfds:") else None, **options)
    if config.own_data.fingerprint not in (None, splits.train.fingerprint):
        raise ValueError(f"{path} has changed since this run was trained on it")
    return splits
