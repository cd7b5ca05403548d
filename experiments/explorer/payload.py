"""What the page is told: the model, references of JAX, and where images lie."""

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
"""Of the file, as far as the number of images decides."""

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
    """Return the networks and the references that they are checked by.

    Weights are float16, and float32 where pixels would be seen to differ.

    Args:
      family: of the model.
      arguments: of the model.
      model: built of them.
      params: its parameters.
      xs: datapoints, of which the first become references.
      image: `(H, W, C)` of one datapoint.
      key: a typed key, for draws of the prior.
    """
    model = in_single_precision(model)
    found = references(params, key, xs, model)
    dtype = "float16" if rounding_is_harmless(params, found, model) else "float32"
    described = networks.describe(family, arguments, params, image, lambda weights: encode_array(weights, dtype))
    return {"weights": dtype, "model": described, "checks": [_encoded(each) for each in found]}


def of_points(
    params: Params, xs: Any, model: Model, labels: np.ndarray | None, image: tuple[int, int, int]
) -> dict[str, Any]:
    """Return images, where they lie by level, and their classes.

    Args:
      params: parameters of `model`.
      xs: datapoints, leaves `[N, ...]`.
      model: the four functions.
      labels: their classes, `[N]`, or `None`.
      image: `(H, W, C)` of one datapoint.
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
    """Return how many images a file of `MOST_BYTES` has room for: at least `FEWEST_IMAGES`, at most `available`.

    Args:
      size_with: the bytes of the file with so many images.
      available: how many there are.
      size_without: the bytes of the file with none.
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
