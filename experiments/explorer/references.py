"""Reference results of JAX for a few latents and images, which the page compares its own results with."""

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
"""Largest pixel error of weights rounded to float16: a fifth of the page's tolerance, because its sums round too."""


class Reference(NamedTuple):
    """The results for one datapoint or one draw from the prior, as NumPy arrays, levels by name.

    Attributes:
      image: The datapoint, `[D]`, or `None` for a draw.
      condition: A class, or `None`.
      z: The means of q(z|x), or the draw, by level.
      scale: The scales of q(z|x) by level, or `None` for a draw.
      prior: The mean and scale of the prior of each level given the levels above at z, `[2, J]`.
      mean: The mean of p(x|z), `[D]`.
      deviation: The standard deviation of p(x|z), `[D]`.
    """

    image: Any
    condition: int | None
    z: dict[str, Any]
    scale: Any
    prior: dict[str, Any]
    mean: Any
    deviation: Any


def in_single_precision(model: Model) -> Model:
    """Return the model with products computed in the precision of its parameters, as on the page."""
    name, arguments = models.recipe_of(model)
    return models.build(name, **(arguments | {"compute_dtype": None}))


def references(params: Params, key: jax.Array, xs: Any, model: Model) -> list[Reference]:
    """Return references for the first datapoints of `xs` and for draws from the prior.

    Inputs are first rounded to float16, the precision in which the page receives them.
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
    """Return whether float16 weights decode the references to nearly the same pixels."""
    with np.errstate(over="ignore"):
        rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16).astype(leaf.dtype), params)
    errors = []
    for each in found:
        condition = None if each.condition is None else np.int32(each.condition)
        other = _reference(rounded, each.z, model, condition)
        errors += [np.abs(other.mean - each.mean).max(), np.abs(other.deviation - each.deviation).max()]
    return bool(np.max(errors) <= _MOST_PIXEL_ERROR)  # False for NaN


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
    """Return the mean and scale of the prior by level, `[2, J]`, and the mean and standard deviation of p(x|z)."""
    bound = _at(model, condition)
    prior = prior_of(bound, params)
    levels = prior.at(z) if isinstance(prior, Chain) else {ONE_LEVEL: prior}
    likelihood = likelihood_of(bound, params, z if isinstance(prior, Chain) else z[ONE_LEVEL])
    moments = {name: jnp.stack([level.mean, jnp.sqrt(level.variance)]) for name, level in levels.items()}
    return moments, likelihood.mean, jnp.sqrt(likelihood.variance)


def _at(model: Model, condition: Any) -> Model:
    """Return the model bound to a condition, if it takes one."""
    return bind(model, None if condition is None else Given(None, condition))[0]


def _rounded(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(np.float16).astype(values.dtype)
