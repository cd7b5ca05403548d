"""Conditions of models, the families that fit a condition and a data set, and the arguments that the data decide."""

import math
from collections.abc import Sequence
from typing import Any

from aevb.data import Dataset
from aevb.models.families import FAMILIES, takes_images, takes_labels, takes_sequences

DATA_SHAPE, NUM_CLASSES = "data_shape", "num_classes"
"""The arguments of a family that the data decide; only families of models given a label have the second."""

_FIRST_FAMILIES = {"none": "mlp", "label": "conditional"}


def decided_by_data(family: str) -> set[str]:
    """Return the arguments of a family that the data decide, which are not settings."""
    return {DATA_SHAPE, NUM_CLASSES, "condition_shape"} if takes_labels(family) else {DATA_SHAPE}


def arguments(family: str, shape: Sequence[int], num_classes: int | None) -> dict[str, Any]:
    """Return the arguments that data of this shape and number of classes decide."""
    return {DATA_SHAPE: list(shape)} | ({NUM_CLASSES: num_classes} if takes_labels(family) else {})


def shape_for(family: str, train: Dataset) -> list[int]:
    """Return the shape of a datapoint as a family takes it: `[T, D]`, `[H, W]`, `[H, W, C]` or `[D]`.

    Raises:
      ValueError: the data are sequences and the family is not for sequences, or vice versa.
    """
    if train.is_sequences and not takes_sequences(family):
        known = ", ".join(name for name in FAMILIES.names() if takes_sequences(name))
        raise ValueError(f"{train.name} holds sequences, which need a model of them ({known}), not --model={family}")
    if takes_sequences(family) and not train.is_sequences:
        raise ValueError(f"--model={family} needs sequences [T, D] with lengths, which {train.name} does not hold")
    is_whole = takes_images(family) or takes_sequences(family)
    return list(train.image_shape) if is_whole else [math.prod(train.image_shape)]


def any_shape(family: str) -> list[int]:
    """Return an example datapoint shape for checking a family's other arguments; empty for families of images."""
    return [] if takes_images(family) else [1, 1] if takes_sequences(family) else [1]


def family_for(condition: str, family: str, former: str) -> str:
    """Return the family under `condition`; the default of the `former` condition is replaced by the new default."""
    goes_on = condition == former or family != _FIRST_FAMILIES.get(former)
    return family if goes_on else _FIRST_FAMILIES.get(condition, family)


def check(condition: str, family: str) -> None:
    """Raise `ValueError` if the family takes labels and the condition is not the label, or vice versa."""
    if takes_labels(family) == (condition == "label"):
        return
    if condition == "label":
        known = ", ".join(name for name in FAMILIES.names() if takes_labels(name))
        raise ValueError(f"--condition=label needs a model given a label ({known}), not --model={family}")
    raise ValueError(f"--model={family} models data given their labels: add --condition=label")
