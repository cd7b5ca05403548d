"""The data of the page: the model, reference results of JAX, and the images with their latents."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from aevb.data.rows import num_rows
from aevb.model import Given, Model, Params
from experiments.explorer import networks
from experiments.explorer.arrays import encode_array, sprite
from experiments.explorer.latents import plane_of, posterior_means
from experiments.explorer.references import Reference, in_single_precision, references, rounding_is_harmless

MOST_BYTES = 3_900_000
"""Limit on the size of the file, met by the number of images."""

FEWEST_IMAGES = 200


def of_model(
    family: str,
    arguments: Mapping[str, Any],
    model: Model,
    params: Params,
    xs: Any,
    image: tuple[int, int, int],
    key: jax.Array,
) -> dict[str, Any]:
    """Return the networks of a model and the references that the page checks them with.

    Weights are float16, or float32 if rounding would change pixels visibly.

    Args:
      family: The family of the model.
      arguments: The arguments of the model.
      model: The model built from them.
      params: The parameters of the model.
      xs: Datapoints, the first of which become references.
      image: The shape `(H, W, C)` of a datapoint.
      key: A typed key for draws from the prior.
    """
    model = in_single_precision(model)
    found = references(params, key, xs, model)
    dtype = "float16" if rounding_is_harmless(params, found, model) else "float32"
    described = networks.describe(family, arguments, params, image, lambda weights: encode_array(weights, dtype))
    return {"weights": dtype, "model": described, "checks": [_encoded(each) for each in found]}


def of_points(
    params: Params, xs: Any, model: Model, labels: np.ndarray | None, image: tuple[int, int, int]
) -> dict[str, Any]:
    """Return images, their posterior means by level, and their classes.

    Args:
      params: The parameters of `model`.
      xs: Datapoints, leaves `[N, ...]`.
      model: The model.
      labels: Their classes, `[N]`, or `None`.
      image: The shape `(H, W, C)` of a datapoint.
    """
    levels = {}
    for name, means in posterior_means(params, xs, model).items():
        plane = plane_of(means)
        levels[name] = {
            "means": encode_array(means, "float16"),
            "components": encode_array(plane.components, "float32"),
            "explained": plane.explained.tolist(),
            "variances": plane.variances.tolist(),
        }
    values = np.asarray(xs.value if isinstance(xs, Given) else xs)
    return {
        "count": num_rows(xs),
        "labels": None if labels is None else encode_array(labels, "int32"),
        "levels": levels,
        "sprite": sprite(values.reshape(len(values), *image)),
    }


def fitted(size_with: Callable[[int], int], available: int, size_without: int) -> int:
    """Return the number of images that fit into `MOST_BYTES`, at least `FEWEST_IMAGES` and at most `available`.

    Args:
      size_with: Returns the size in bytes of the file with a given number of images.
      available: The number of available images.
      size_without: The size in bytes of the file without images.
    """
    count = available
    while count > FEWEST_IMAGES and (size := size_with(count)) > MOST_BYTES:
        share = max(MOST_BYTES - size_without, 0) / (size - size_without)
        count = max(FEWEST_IMAGES, min(int(0.98 * share * count), count - 1))
    return count


def _encoded(reference: Reference) -> dict[str, Any]:
    half = lambda values: encode_array(values, "float16")
    by_level = lambda levels: {name: encode_array(values, "float32") for name, values in levels.items()}
    return {
        "image": None if reference.image is None else half(reference.image),
        "condition": reference.condition,
        "z": by_level(reference.z),
        "scale": None if reference.scale is None else by_level(reference.scale),
        "prior": by_level(reference.prior),
        "mean": half(reference.mean),
        "deviation": half(reference.deviation),
    }
