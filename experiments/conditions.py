"""What data are modelled given, which families of models that and they go with, and what those take of them."""

import math
from collections.abc import Sequence
from typing import Any

from aevb.data import Dataset
from aevb.models.families import FAMILIES, takes_images, takes_labels, takes_sequences

DATA_SHAPE, NUM_CLASSES = "data_shape", "num_classes"
"""The arguments of a family that the data decide; the second, of a family of models given a label."""

_FIRST_FAMILIES = {"none": "mlp", "label": "conditional"}


def decided_by_data(family: str) -> set[str]:
    """Return the arguments of a family that are no settings."""
    return {DATA_SHAPE, NUM_CLASSES, "condition_shape"} if takes_labels(family) else {DATA_SHAPE}


def arguments(family: str, shape: Sequence[int], num_classes: int | None) -> dict[str, Any]:
    """Return the values of those arguments for data of a shape and number of classes."""
    return {DATA_SHAPE: list(shape)} | ({NUM_CLASSES: num_classes} if takes_labels(family) else {})


def shape_for(family: str, train: Dataset) -> list[int]:
    """Return the shape of a datapoint as a family takes it: `[T, D]`, `[H, W]`, `[H, W, C]` or `[D]`.

    Raises:
      ValueError: sequences for a family of images, or the other way round.
    """
    if train.is_sequences and not takes_sequences(family):
        known = ", ".join(name for name in FAMILIES.names() if takes_sequences(name))
        raise ValueError(f"{train.name} holds sequences, which need a model of them ({known}), not --model={family}")
    if takes_sequences(family) and not train.is_sequences:
        raise ValueError(f"--model={family} is of sequences [T, D] with lengths, which {train.name} does not hold")
    is_whole = takes_images(family) or takes_sequences(family)
    return list(train.image_shape) if is_whole else [math.prod(train.image_shape)]


def any_shape(family: str) -> list[int]:
    """Return the shape of some datapoint, to check the other arguments of a family by; empty of images."""
    return [] if takes_images(family) else [1, 1] if takes_sequences(family) else [1]


def family_for(condition: str, family: str, former: str) -> str:
    """Return the family under another condition than the `former`: where it was that one's first, this one's first."""
    goes_on = condition == former or family != _FIRST_FAMILIES.get(former)
    return family if goes_on else _FIRST_FAMILIES.get(condition, family)


def check(condition: str, family: str) -> None:
    """Raise `ValueError` where the family takes labels and there are none, or the other way round."""
    if takes_labels(family) == (condition == "label"):
        return
    if condition == "label":
        known = ", ".join(name for name in FAMILIES.names() if takes_labels(name))
        raise ValueError(f"--condition=label needs a model given a label ({known}), which --model={family} is not")
    raise ValueError(f"--model={family} is of data given their labels: add --condition=label")
