"""Checks and preparation of the arguments of `fit`."""

import functools
import warnings
from typing import Any

import jax
import numpy as np

from aevb import sharding
from aevb.algorithms.auto_encoding import auto_encoding
from aevb.algorithms.base import MakeAlgorithm, TrainState
from aevb.arguments import check_integers, check_not_donated, describe
from aevb.data.binarization import Binarization, binarize_once
from aevb.data.rows import as_arrays, num_rows
from aevb.data.stream import Stream
from aevb.model import Model, shapes
from aevb.objectives import Estimator


def data_and_model(data: Any, model: Any, function: str) -> tuple[Any, Model]:
    """Return data and model in this order. Warn if they were passed in the order of earlier versions."""
    if isinstance(data, Model) and not isinstance(model, Model):
        warnings.warn(
            f"{function}(model, data) is deprecated: the data come first, {function}(data, model)",
            DeprecationWarning,
            stacklevel=3,
        )
        return model, data
    return data, model


def make_algorithm(algorithm: MakeAlgorithm | None, estimator: Estimator | None) -> MakeAlgorithm:
    """Return the function that makes the algorithm, by default AEVB with the given estimator."""
    if algorithm is None:
        return functools.partial(auto_encoding, estimator=estimator)
    if estimator is not None:
        raise ValueError(
            "an algorithm has its own estimator: set it with algorithm=functools.partial(aevb.auto_encoding, "
            "estimator=...); evaluation= sets that of the reported bound"
        )
    if not callable(algorithm):
        example = "pass aevb.algorithms.wake_sleep, for example, with options set by functools.partial"
        raise TypeError(f"algorithm must be a function that returns one, got {describe(algorithm)}: {example}")
    return algorithm


def prepare(data: Any, binarization: Binarization) -> Any:
    """Return data on the device, after `binarize_once`; return a stream unchanged."""
    if isinstance(data, Stream):
        data.check(binarization)
        return data
    return binarize_once(jax.tree.map(sharding.place_rows, as_arrays(data)), binarization)


def check_state(state: Any, initial: TrainState) -> None:
    """Check a state to resume from against the shapes of the initial state."""
    if not isinstance(state, TrainState):
        hint = ": pass its .state" if hasattr(state, "state") else ""
        raise TypeError(f"state must be an aevb.TrainState, got {describe(state)}{hint}")
    check_not_donated(state, "state")
    for name in ("params", "optimizer_state", "key", "step", "carry"):
        found, expected = getattr(state, name), getattr(initial, name)
        if jax.tree.structure(found) != jax.tree.structure(expected) or shapes(found) != shapes(expected):
            raise ValueError(
                f"state is of another model, optimizer or algorithm: the structure or shapes of its {name} differ"
            )


def check_sizes(data: Any, batch_size: int, **others: Any) -> None:
    """Check the sizes of the data and the minibatches, and that other splits match the data or are `None`."""
    check_integers(batch_size=batch_size)
    size = num_rows(data)
    if size == 0:
        raise ValueError("there is nothing to train on: the data are empty")
    if not 1 <= batch_size <= size:
        raise ValueError(f"batch_size must be between 1 and the size of the data set, {size}, got {batch_size}")
    if batch_size % (parts := sharding.axis_size(sharding.BATCH)):
        raise ValueError(
            f"batch_size must be divisible by {parts}, the number of devices per minibatch, got {batch_size}"
        )
    for name, split in others.items():
        if split is None:
            continue
        if num_rows(split, name) == 0:
            raise ValueError(f"{name} is empty: leave it out instead")
        if not isinstance(data, Stream) and not isinstance(split, Stream):
            found, expected = (jax.tree.map(lambda leaf: np.shape(leaf)[1:], of) for of in (split, data))
            if found != expected:
                raise ValueError(f"datapoints of {name} have shape {found}, but those of data have shape {expected}")
