"""Run folders of tiny images in double precision, trained in this process by what the binaries call."""

from typing import Any

import numpy as np
from experiments.run import make_config

from aevb.data import Dataset


def tiny_splits() -> tuple[Dataset, Dataset]:
    """Return training and test data: 230 and 90 images of 3 x 4 random pixels."""
    images = np.random.RandomState(0).randint(0, 256, (320, 3, 4)).astype(np.uint8)
    parts = {"train": images[:230], "test": images[230:]}
    train, test = (Dataset("digits", name, pixels, None, 255, "none") for name, pixels in parts.items())
    return train, test


def tiny_config(
    train: Dataset, latent_dim: int = 3, learning_rate: float = 0.02, likelihood: str = "bernoulli"
) -> dict[str, Any]:
    """Return the configuration of two epochs of AEVB by Adagrad, in minibatches of 20."""
    model = {
        "latent_dim": latent_dim,
        "hidden_dim": [8],
        "likelihood": likelihood,
        "posterior": "gaussian",
        "param_dtype": "float64",
    }
    training = {
        "algorithm": "aevb",
        "optimizer": "adagrad",
        "learning_rate": learning_rate,
        "schedule": "constant",
        "epsilon": None,
        "batch_size": 20,
        "num_samples": 1,
        "num_epochs": 2,
        "kl": "analytic",
        "gradient": "pathwise",
        "map_prior": True,
        "binarization": "grey",
        "eval_every": 1,
        "seed": 0,
    }
    return make_config(train, model, training)
