"""What JAX computes for a few latents and images, which the page compares itself with."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb import models
from aevb.data.rows import rows
from aevb.distributions import Chain
from aevb.model import Given, Model, Params, bind, likelihood_of, prior_of
from experiments.explorer.latents import ONE_LEVEL, encoded

NUM_IMAGES, NUM_PRIOR_DRAWS = 4, 4
_MOST_PIXEL_ERROR = 2e-3
"""Of weights rounded to float16; a fifth of what the page is allowed, whose sums are rounded too."""


class Reference(NamedTuple):
    """One datapoint or one draw of the prior, and what follows from it; leaves of NumPy, levels by name.

    Attributes:
      image: `[D]`, or `None` of a draw.
      condition: a class, or `None`.
      z: by level, the means of q(z|x), or the draw.
      scale: by level, the scales of q(z|x), or `None`.
      prior: by level, the mean and the scale of p(z) given the levels above at z, `[2, J]`.
      mean: `[D]`, the mean of p(x|z).
      deviation: `[D]`, its standard deviation.
    """

    image: Any
    condition: int | None
    z: dict[str, Any]
    scale: Any
    prior: dict[str, Any]
    mean: Any
    deviation: Any


def in_single_precision(model: Model) -> Model:
    """Return the model with products in its parameters' own precision, as the page has them."""
    name, arguments = models.recipe_of(model)
    return models.build(name, **(arguments | {"compute_dtype": None}))


def references(params: Params, key: jax.Array, xs: Any, model: Model) -> list[Reference]:
    """Return references for the first datapoints of `xs` and for draws of the prior.

    Inputs are rounded to float16, as the page is told them, before anything is computed of them.
    """
    xs = jax.device_get(xs)
    is_given = isinstance(xs, Given)
    found = []
    for index in range(NUM_IMAGES):
        x = rows(xs, index)
        condition = x.condition if is_given else None
        image = _rounded(x.value if is_given else x)
        z, scale = jax.device_get(_encoded(params, Given(image, condition) if is_given else image, model))
        found.append(_reference(params, z, model, condition)._replace(image=image.ravel(), scale=scale))
    condition = np.int32(0) if is_given else None
    for own_key in jax.random.split(key, NUM_PRIOR_DRAWS):
        found.append(_reference(params, jax.device_get(_drawn(params, own_key, model, condition)), model, condition))
    return found


def rounding_is_harmless(params: Params, found: list[Reference], model: Model) -> bool:
    """Tell whether weights of float16 decode the references to nearly the same pixels."""
    with np.errstate(over="ignore"):
        rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16).astype(leaf.dtype), params)
    errors = []
    for each in found:
        condition = None if each.condition is None else np.int32(each.condition)
        other = _reference(rounded, each.z, model, condition)
        errors += [np.abs(other.mean - each.mean).max(), np.abs(other.deviation - each.deviation).max()]
    return bool(np.max(errors) <= _MOST_PIXEL_ERROR)  # not so of NaN


def _reference(params: Params, z: dict[str, Any], model: Model, condition: Any) -> Reference:
    z = {name: _rounded(values) for name, values in z.items()}
    prior, mean, deviation = _decoded(params, z, model, condition)
    flat = lambda values: np.asarray(values, np.float32).ravel()
    label = None if condition is None else int(condition)
    return Reference(None, label, z, None, jax.device_get(prior), flat(mean), flat(deviation))


_encoded = jax.jit(encoded, static_argnames="model")


@functools.partial(jax.jit, static_argnames="model")
def _drawn(params: Params, key: jax.Array, model: Model, condition: Any) -> dict[str, Any]:
    z = prior_of(_at(model, condition), params).sample(key)
    return z if isinstance(z, dict) else {ONE_LEVEL: z}


@functools.partial(jax.jit, static_argnames="model")
def _decoded(
    params: Params, z: dict[str, Any], model: Model, condition: Any
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Return the mean and scale of p(z) by level, `[2, J]`, and the mean and standard deviation of p(x|z)."""
    bound = _at(model, condition)
    prior = prior_of(bound, params)
    levels = prior.at(z) if isinstance(prior, Chain) else {ONE_LEVEL: prior}
    likelihood = likelihood_of(bound, params, z if isinstance(prior, Chain) else z[ONE_LEVEL])
    moments = {name: jnp.stack([level.mean, jnp.sqrt(level.variance)]) for name, level in levels.items()}
    return moments, likelihood.mean, jnp.sqrt(likelihood.variance)


def _at(model: Model, condition: Any) -> Model:
    """Return the model at a condition, if it takes one."""
    return bind(model, None if condition is None else Given(None, condition))[0]


def _rounded(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(np.float16).astype(values.dtype)
