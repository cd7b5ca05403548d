"""Classification errors of models given labels."""

from typing import Any

import jax
import numpy as np

import aevb
from aevb.data import Dataset, Splits
from aevb.data.binarization import binarize_once
from aevb.model import Params
from aevb.models.families import takes_images
from experiments.configs import Config
from experiments.reports.progress import counting

NUM_SAMPLES = 10
"""Draws of z per image and class. A single draw adds two points of error on MNIST by its noise alone (RESULTS.md)."""

_CHUNK_SIZE = 500


def errors(config: Config, params: Params, splits: Splits, stream: bool, name: str) -> dict[str, Any]:
    """Return the shares of images misclassified by Bayes' rule on the bounds, nothing for a model without labels.

    The prior of classes is their frequency among the training images. These errors choose nothing.

    Args:
      config: of the run.
      params: of its model.
      splits: the test images are classified and, if there are any, the validation images.
      stream: whether to read the images while they are classified.
      name: of the run, for messages.
    """
    if config.data.condition != "label":
        return {}
    found = {}
    for split_name in ("valid", "test"):
        if (split := getattr(splits, split_name)) is not None:
            found[f"{split_name}_error"] = _error(config, params, splits.train, split, stream, name)
    return found | {"error_samples": NUM_SAMPLES}


def _error(config: Config, params: Params, train: Dataset, split: Dataset, stream: bool, name: str) -> float:
    flat, binarization = not takes_images(config.model.name), config.objective.binarization
    num_classes = config.model.arguments["num_classes"]
    # One more image per class, so that a class without training images is not impossible.
    counts = 1 + np.bincount(train.classes(), minlength=num_classes)
    found = aevb.classify(
        params,
        jax.random.key(config.training.seed),
        split.stream(flat) if stream else binarize_once(split.datapoints(flat), binarization),
        config.build_model(),
        num_classes,
        log_prior=np.log(counts / counts.sum()),
        estimator=aevb.Estimator(NUM_SAMPLES, config.objective.kl),
        binarization=binarization,
        chunk_size=_CHUNK_SIZE,
        on_chunk=counting(f"{name}, {split.split} images classified", len(split.images), ""),
    )
    return float(np.mean(found.labels != split.classes()))
