"""Checks for values outside the support of a likelihood, which would otherwise give numbers that look like results."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import constraints

from aevb import sharding
from aevb.arguments import check_not_donated, describe
from aevb.distributions.intensities import intensities
from aevb.distributions.levels import ONE_LEVEL, LevelSupport, of_level, supports
from aevb.distributions.observed import without_gaps
from aevb.model import (
    Datapoint,
    Given,
    Model,
    Params,
    bind,
    check_arguments,
    check_rows,
    likelihood_of,
    posterior_of,
    prior_of,
    row_template,
)


def check_value(params: Params, x: Datapoint, model: Model) -> None:
    """Raise `ValueError` if `x`, one datapoint, lies outside the likelihood's support.

    Traced values are not checked; `check_data` checks a whole data set.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(x)):
        return
    value = bind(model, x)[1]
    for support in _supports(params, x, model):
        if not _is_traced(support.constraint):
            with jax.ensure_compile_time_eval():
                is_inside = bool(_all_inside(support, of_level(value, support.level)))
            if not is_inside:
                raise ValueError(_complaint("x", support, value))


def check_data(
    params: Params, data: Datapoint, model: Model, name: str = "data", targets: Callable[[Any], Any] | None = None
) -> bool:
    """Check a whole data set against a model, before anything else is compiled.

    Args:
      params: parameters of the model, or only their shapes; in that case supports that depend on parameters are not
        checked.
      data: leaves `[N, ...]`.
      model: the four functions.
      name: the name of the data in messages.
      targets: a function from `data` to the targets that the model sees, if they are binarized first.

    Returns:
      Whether everything was checked.

    Raises:
      ValueError: a datapoint does not have the shape of the model's datapoints or lies outside the support of its
        likelihood, the model refuses a condition, or a training step reused the buffers of `params`.
      TypeError: as for `check_arguments`.
    """
    check_not_donated(params, "params")
    check_rows(params, data, model, name)
    if isinstance(data, Given):
        _check_conditions(params, data, model, name)
    has_numbers = not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))
    row = row_template(data)
    check = _check(model, _Shapes.of(params), _Shapes.of(row), targets)
    inside = [*check.inside(bind(model, data)[1])]
    if check.depending and has_numbers:
        inside += zip(check.depending, _depending_inside(params, data, model, targets), strict=True)
    for support, is_inside in inside:
        if not is_inside:
            raise ValueError(_complaint(name, support, bind(model, data)[1]))
    return has_numbers or not check.depending


def _check_conditions(params: Params, data: Given, model: Model, name: str) -> None:
    """Call the model with the lowest and the highest integer of each array of the conditions as concrete values.

    A compiled program cannot refuse an invalid label, but the model can here. Nothing else is computed.
    """
    value = row_template(data.value)
    for condition in jax.device_get(_extreme_conditions(data.condition)):

        def look(params: Params, value: Any, condition: Any = condition) -> None:
            with jax.ensure_compile_time_eval():
                bound, x = bind(model, Given(value, condition))
                posterior_of(bound, params, x)
                prior_of(bound, params)

        try:
            jax.eval_shape(look, params, value)
        except jax.errors.ConcretizationTypeError:  # the model needs other concrete values too, and fails where used
            return
        except ValueError as error:
            raise ValueError(f"a condition of {name} is refused: {error}") from None


@jax.jit
def _extreme_conditions(conditions: Any) -> list[Any]:
    """Return the rows of conditions `[N, ...]` that have the lowest and the highest value of each integer array."""
    found = []
    for leaf in jax.tree.leaves(conditions):
        if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.size:
            by_row = leaf.reshape(len(leaf), -1)
            chosen = jnp.argmin(by_row.min(axis=1)), jnp.argmax(by_row.max(axis=1))
            found += [jax.tree.map(lambda each, row=row: each[row], conditions) for row in chosen]
    return sharding.gather(found)


class _Shapes(NamedTuple):
    """The shapes and dtypes of a pytree of arrays, hashable as a cache key."""

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], Any], ...]

    @classmethod
    def of(cls, tree: Any) -> "_Shapes":
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple((np.shape(leaf), jax.dtypes.result_type(leaf)) for leaf in leaves))

    def tree(self) -> Any:
        return jax.tree.unflatten(self.structure, [jax.ShapeDtypeStruct(*leaf) for leaf in self.leaves])


class _Check(NamedTuple):
    """The check of data of one shape.

    Attributes:
      inside: `values [N, ...] -> [(support, whether all are inside)]` for supports that do not depend on parameters.
      depending: the supports that depend on parameters.
    """

    inside: Callable[[Any], Any]
    depending: list[LevelSupport]


@functools.lru_cache(maxsize=64)
def _check(model: Model, params: _Shapes, x: _Shapes, targets: Callable[[Any], Any] | None) -> _Check:
    """Trace the model once for data of one shape. Nothing is computed, and the compiled check contains no network."""
    jax.eval_shape(lambda params, x: check_arguments(params, jax.random.key(0), x, model), params.tree(), x.tree())
    found = _supports(params.tree(), x.tree(), model)
    depending = [support for support in found if _is_traced(support.constraint)]
    fixed = [support for support in found if not _is_traced(support.constraint)]

    @jax.jit
    def inside(value: Any) -> list[jax.Array]:
        value = targets(value) if targets else value
        return sharding.gather([_all_inside(support, of_level(value, support.level)) for support in fixed])

    return _Check(lambda value: zip(fixed, inside(value), strict=True), depending)


@functools.partial(jax.jit, static_argnames=("model", "targets"))
def _depending_inside(
    params: Params, data: Datapoint, model: Model, targets: Callable[[Any], Any] | None
) -> list[jax.Array]:
    """Return whether all of `data` lie inside each of the supports that depend on parameters."""
    data = targets(data) if targets else data

    def one(x: Datapoint) -> list[jax.Array]:
        value = bind(model, x)[1]
        found = (support for support in _traced_supports(params, x, model) if _is_traced(support.constraint))
        return [_all_inside(support, of_level(value, support.level)) for support in found]

    return sharding.gather([jnp.all(each) for each in jax.vmap(one)(data)])


def _supports(params: Params, x: Datapoint, model: Model) -> list[LevelSupport]:
    """Return the support of each level of p(x|z) by tracing. Supports that depend on parameters hold only tracers."""
    found = []
    jax.eval_shape(lambda params, x: found.extend(_traced_supports(params, x, model)), params, x)
    return found


def _traced_supports(params: Params, x: Datapoint, model: Model) -> list[LevelSupport]:
    model, value = bind(model, x)
    z = prior_of(model, params).sample(jax.random.key(0))
    return supports(likelihood_of(model, params, z), value)


def _is_traced(constraint: Any) -> bool:
    """Return whether the bounds of a constraint are tracers."""
    parts = vars(constraint).values() if constraint is not None else ()
    leaves = jax.tree.leaves([*parts], is_leaf=_is_constraint)
    return any(_is_traced(leaf) if _is_constraint(leaf) else isinstance(leaf, Tracer) for leaf in leaves)


def _is_constraint(value: Any) -> bool:
    return isinstance(value, constraints.Constraint)


def _all_inside(support: LevelSupport, value: Any) -> jax.Array:
    constraint = support.constraint
    if constraint is None or constraints.is_dependent(constraint):
        return jnp.bool_(True)
    value = jnp.asarray(value)
    return jnp.all(constraint(without_gaps(value, constraint) if support.may_be_missing else value))


def _complaint(name: str, support: LevelSupport, value: Any) -> str:
    name = name if support.level == ONE_LEVEL else f"{support.level!r} of {name}"
    low, high, missing = (np.asarray(jax.device_get(each)) for each in _extremes(of_level(value, support.level)))
    if missing and not support.may_be_missing:
        return f"{name} has NaN, which counts as not observed only under aevb.Observed(likelihood)"
    constraint = support.constraint
    while hasattr(constraint, "base_constraint"):
        constraint = constraint.base_constraint
    bounds = "an interval that depends on the parameters" if _is_traced(constraint) else describe(str(constraint))
    words = next((words for known, words in _SUPPORTS if known is constraint), bounds)
    text = f"{name} ranges from {low:g} to {high:g}, outside of the likelihood's support, {words}"
    if constraint in (constraints.unit_interval, constraints.boolean, intensities) and high > 1:
        text += ": scale it first, x / 255 for pixels of 0 to 255"
    elif constraint is constraints.boolean and low >= 0:
        text += ': draw pixels with binarization="stochastic", or use aevb.likelihoods.GreyBernoulli for grey pixels'
    elif constraint is intensities and low >= 0:
        text += ": round it, np.round(255 * x) / 255"
    return text


_SUPPORTS: list[tuple[Any, str]] = [
    (constraints.unit_interval, "[0, 1]"),
    (constraints.boolean, "0 or 1"),
    (constraints.real, "the finite numbers"),
    (constraints.positive, "the positive numbers"),
    (intensities, "the 256 values k / 255"),
]


@jax.jit
def _extremes(value: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    values = sharding.gather((jnp.nanmin(value), jnp.nanmax(value), jnp.any(jnp.isnan(value))))
    return values[0], values[1], values[2]
