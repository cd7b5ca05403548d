"""Values that a likelihood gives no probability to, named before they become a number that looks like a result."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution, constraints

from aevb import sharding
from aevb.distributions.levels import ONE_LEVEL, supports
from aevb.model import Datapoint, Model, Params, bind, check_arguments, likelihood_of, prior_of


def check_support(likelihood: Distribution, x: Datapoint) -> None:
    """Raise `ValueError` if `x`, one datapoint whose numbers are known, lies outside the likelihood's support.

    Numbers that are traced are not known; `check_data` looks at those of a whole data set.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x)):
        return
    for name, support, value in supports(likelihood, x):
        with jax.ensure_compile_time_eval():
            inside = _inside(support, value)
        if not isinstance(inside, Tracer) and not bool(inside):
            raise ValueError(_complaint("x", name, support, value))


def check_data(params: Params, data: Datapoint, model: Model, name: str = "data") -> None:
    """Raise `ValueError` if a datapoint of `data` `[N, ...]` lies outside the support of its likelihood."""
    if all(jax.tree.leaves(_all_inside(params, data, model))):
        return
    found = []

    def look(x: Datapoint) -> None:
        bound, value = bind(model, x)
        z = prior_of(bound, params).sample(jax.random.key(0))
        found.extend((level, support) for level, support, _ in supports(likelihood_of(bound, params, z), value))

    jax.eval_shape(look, jax.tree.map(lambda leaf: leaf[0], data))
    inside = _all_inside(params, data, model)
    values = bind(model, data)[1]
    for (level, support), is_inside in zip(found, inside, strict=True):
        if not is_inside:
            raise ValueError(_complaint(name, level, support, values[level] if level != ONE_LEVEL else values))


@functools.partial(jax.jit, static_argnames="model")
def _all_inside(params: Params, data: Datapoint, model: Model) -> list[jax.Array]:
    """Return for each level whether all of `data` lie in its support. Networks are computed only if that needs them."""

    def one(x: Datapoint) -> list[jax.Array]:
        check_arguments(params, jax.random.key(0), x, model)
        bound, value = bind(model, x)
        z = prior_of(bound, params).sample(jax.random.key(0))
        likelihood = likelihood_of(bound, params, z)
        return [_inside(support, value) for _, support, value in supports(likelihood, value)]

    return sharding.gather([jnp.all(each) for each in jax.vmap(one)(data)])


def _inside(support: Any, value: Any) -> jax.Array:
    if support is None or constraints.is_dependent(support):
        return jnp.bool_(True)
    return jnp.all(support(jnp.asarray(value)))


def _complaint(name: str, level: str, support: Any, value: Any) -> str:
    name = name if level == ONE_LEVEL else f"{level!r} of {name}"
    low, high, missing = (np.asarray(jax.device_get(each)) for each in _extremes(value))
    if missing and not low < high:
        low = high
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if missing:
        return f"{name} has NaN, which counts as not observed only under aevb.Observed(likelihood)"
    words = next((words for known, words in _SUPPORTS if known is support), str(support))
    text = f"{name} ranges from {low:g} to {high:g}, outside of the likelihood's support, {words}"
    if support is constraints.unit_interval and high > 1:
        text += f": scale it first, x / {255 if 1 < high <= 255 and high == np.round(high) else f'{high:g}'}"
    return text


_SUPPORTS: list[tuple[Any, str]] = [
    (constraints.unit_interval, "[0, 1]"),
    (constraints.boolean, "0 or 1"),
    (constraints.real, "the finite numbers"),
    (constraints.positive, "the positive numbers"),
]


@jax.jit
def _extremes(value: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return jnp.nanmin(value), jnp.nanmax(value), jnp.any(jnp.isnan(value))
