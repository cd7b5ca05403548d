"""Definitions of a datapoint and a model.

The paper's three ingredients (section 2.1) are the likelihood p(x|z), the prior p(z) and the recognition model q(z|x).
Everything else in this library is a function of a `Model` and of the parameters that its `init` returns.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from aevb.arguments import check_key, check_not_donated, describe, describe_shapes

Params: TypeAlias = Any
"""A pytree of arrays. By convention `params["encoder"]` is phi and `params["decoder"]` is theta."""

Datapoint: TypeAlias = Any
"""A pytree of arrays, or a `Given` of two. In a data set, the leading axis of every leaf has length N."""

Latents: TypeAlias = Any
"""A pytree of arrays: `[J]` for one level, `[T, J]` for a path, a dict by level for a `Chain`."""


class Given(NamedTuple):
    """A datapoint that is modelled given a condition. Its bounds are bounds on log p(value | condition).

    `encode`, `decode` and `prior` of its model take the condition last: `encode(params, value, condition)`,
    `decode(params, z, condition)`, `prior(params, condition)`. Labels are integers. Binarization and checks of the
    support apply to the value only.

    Attributes:
      value: the modelled part, a pytree of arrays.
      condition: the part that it is modelled given, a pytree of arrays.
    """

    value: Datapoint
    condition: Datapoint


class Recipe(NamedTuple):
    """A recipe to build a model again, in this process or another.

    Attributes:
      build: `(family, arguments) -> Model`.
      family: the registered name of the model family.
      arguments: the arguments of the family, as JSON.
    """

    build: Callable[[str, str], "Model"]
    family: str
    arguments: str


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Model:
    """Four pure functions of one datapoint; callers `vmap` them over minibatches.

    A model is hashable and has no array leaves, so it passes through `jax.jit`, `jax.vmap` and `jax.grad` as a static
    argument without being marked as one. Two models are equal, and share compiled programs, if their four functions
    are equal.

    Attributes:
      init: `key -> params`, the initial parameters.
      encode: `(params, x) -> q(z|x)`, a distribution over one z. It receives all of `params`, so sharing weights with
        the decoder or learning a prior is not a special case.
      decode: `(params, z) -> p(x|z)`, a distribution whose event shape is the shape of one datapoint.
      prior: `params -> p(z)`, a distribution with the same event shape as q(z|x).
      recipe: the recipe to build the model again; `None` if it was not built by name. A model with a recipe can be
        pickled and saved.
    """

    init: Callable[[jax.Array], Params]
    encode: Callable[..., Distribution]
    decode: Callable[..., Distribution]
    prior: Callable[..., Distribution]
    recipe: Recipe | None = dataclasses.field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple:
        if self.recipe is None:
            return Model, (self.init, self.encode, self.decode, self.prior)
        return self.recipe.build, (self.recipe.family, self.recipe.arguments)


def bind(model: Model, x: Datapoint) -> tuple[Model, Datapoint]:
    """Return the model at the condition of `x`, and the part of `x` that is modelled.

    Every public entry point calls this first, so the code below it does not deal with conditions.

    Raises:
      TypeError: `model` is not a `Model`, or only one of `model` and `x` has a condition.
    """
    check_model(model)
    conditions = (x.condition,) if isinstance(x, Given) else ()
    _check_takes(model, conditions)
    if not conditions:
        return model, x
    bound = Model(
        model.init,
        lambda params, value: model.encode(params, value, *conditions),
        lambda params, z: model.decode(params, z, *conditions),
        lambda params: model.prior(params, *conditions),
    )
    return bound, x.value


def posterior_of(model: Model, params: Params, x: Datapoint) -> Distribution:
    """Return q(z|x), checked to be one distribution over one z."""
    return _checked("encode", model.encode(params, x))


def likelihood_of(model: Model, params: Params, z: Latents) -> Distribution:
    """Return p(x|z), checked to be one distribution over one datapoint."""
    return _checked("decode", model.decode(params, z))


def prior_of(model: Model, params: Params) -> Distribution:
    """Return p(z), checked to be one distribution over one z."""
    return _checked("prior", model.prior(params))


def latent_template(model: Model, params: Params) -> Latents:
    """Return the shapes and dtypes of one z, as the prior declares them, by tracing alone."""
    return jax.eval_shape(lambda params: prior_of(model, params).sample(jax.random.key(0)), params)


def latent_shape(model: Model, params: Params) -> Any:
    """Return the shape of one z, or a pytree of shapes, as the prior declares it, by tracing alone."""
    return shapes(latent_template(model, params))


def data_shape(model: Model, params: Params) -> Any:
    """Return the shape of one x, or a pytree of shapes, as the decoder declares it, by tracing alone."""

    def look(params: Params) -> Any:
        z = prior_of(model, params).sample(jax.random.key(0))
        return likelihood_of(model, params, z).event_shape

    return _traced(look, params)


def shapes(tree: Any) -> Any:
    """Return the shape of every leaf, in the structure of `tree`."""
    return jax.tree.map(lambda leaf: tuple(leaf.shape) if hasattr(leaf, "shape") else jnp.shape(leaf), tree)


def row_template(data: Datapoint, leading: tuple[int, ...] = ()) -> Datapoint:
    """Return the shapes and dtypes that JAX gives datapoints of a data set, with `leading` axes before each.

    Its 32-bit mode has no int64 and no float64: JAX 0.12 warns where a template asks for them.
    """
    dtype = lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leading, *leaf.shape[1:]), dtype(leaf)), data)


def check_model(model: Any) -> None:
    """Raise `TypeError` unless `model` is a `Model`."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be an aevb.Model, got {describe(model)}")


def check_arguments(params: Params, key: jax.Array, x: Datapoint, model: Model) -> None:
    """Check, at trace time, the arguments that every function of one datapoint takes.

    Raises:
      TypeError: `model` is not a `Model`, or `key` is not one typed key.
      ValueError: `x` does not have the shape that the decoder declares, or `params` are not the model's.
    """
    value = bind(model, x)[1]
    if isinstance(params, jax.Array) and jnp.issubdtype(params.dtype, jax.dtypes.prng_key):
        raise TypeError(f"params must be parameters, got a key, and key is {describe(key)}: params come before key")
    check_key(key)
    check_not_donated(params, "params")
    found, expected = shapes(value), _declared_shape(model, params, x)
    if found != expected:
        batch = jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], value) == expected
        hint = "; this function takes one datapoint: jax.vmap it over a batch" if batch else _hint(found)
        raise ValueError(f"x has {describe_shapes(found)}, {_expected(expected)}{hint}")


def check_rows(params: Params, data: Datapoint, model: Model, name: str = "data") -> None:
    """Check that the datapoints of a data set have the shape that the model declares.

    Raises:
      TypeError: as for `check_arguments`.
      ValueError: as for `check_arguments`.
    """
    row = row_template(data)
    found, expected = shapes(bind(model, row)[1]), _declared_shape(model, params, row)
    if found != expected:
        is_one = shapes(bind(model, data)[1]) == expected
        hint = "; a single datapoint needs a leading axis, x[None]" if is_one else _hint(found)
        raise ValueError(f"datapoints of {name} have {describe_shapes(found)}, {_expected(expected)}{hint}")


def check_decoder(params: Params, model: Model) -> None:
    """Check the arguments of functions that take no datapoint. `model` is without a condition."""
    check_not_donated(params, "params")
    _declared_shape(model, params)


def check_params(model: Model, params: Params) -> None:
    """Raise `ValueError` unless `params` have the structure and shapes that the model's `init` returns."""
    reason = _other_params(model, params)
    if reason is not None:
        raise ValueError(reason)


def check_latents(posterior: Distribution, prior: Distribution) -> None:
    """Raise `ValueError` unless q(z|x) and p(z) are distributions over the same space."""
    reason = _other_latents(posterior.event_shape, prior.event_shape)
    if reason is not None:
        raise ValueError(reason)


def _declared_shape(model: Model, params: Params, x: Datapoint = None) -> Any:
    """Return `data_shape` at the condition of `x`.

    If the model's own functions fail, raise an error that explains the failure better, if one is known.
    """
    try:
        return _traced(lambda params, x: data_shape(bind(model, x)[0], params), params, x)
    except Exception:
        reason = _reason(model, params, x)
        if reason is None:
            raise
    raise ValueError(reason)


def _reason(model: Model, params: Params, x: Datapoint) -> str | None:
    """Return why functions of a model may have failed: parameters of another model, or latents of different shapes."""

    def latents(params: Params, x: Datapoint) -> tuple[Any, Any]:
        bound, value = bind(model, x)
        return posterior_of(bound, params, value).event_shape, prior_of(bound, params).event_shape

    try:
        reason = _other_params(model, params)
        return reason or (None if x is None else _other_latents(*_traced(latents, params, x)))
    except Exception:  # the original error is as informative
        return None


def _other_params(model: Model, params: Params) -> str | None:
    what = "params are not the parameters of this model"
    expected = jax.eval_shape(model.init, jax.random.key(0))
    if jax.tree.structure(params) != jax.tree.structure(expected):
        place = next((place for place in ("state.params", "params") if hasattr(params, place.split(".")[0])), None)
        hint = "" if place is None else f": pass the .{place} of the {type(params).__name__}"
        return f"{what}: their structure differs from that of init{hint}"
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(expected), strict=True):
        if jnp.shape(one) != other.shape:
            where = f"params{jax.tree_util.keystr(path)}"
            return f"{what}: {where} has shape {jnp.shape(one)}, but the model's has shape {other.shape}"
    return None


def _other_latents(found: Any, expected: Any) -> str | None:
    if found == expected:
        return None
    shown = describe_shapes(found), describe_shapes(expected)
    return f"encode returns a distribution over z of {shown[0]}, but prior returns one of {shown[1]}"


def _traced(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `function`, which need not be arrays, by tracing alone."""
    found = []
    jax.eval_shape(lambda *arguments: found.append(function(*arguments)), *arguments)
    return found[0]


def _expected(shape: Any) -> str:
    return f"the model's datapoints have {describe_shapes(shape)}"


def _hint(found: Any) -> str:
    return "; numpy.asarray makes one array of a list" if isinstance(found, list) else ""


def _checked(function: str, distribution: Any) -> Distribution:
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"{function} must return one numpyro distribution, got {describe(distribution)}: return, for example, "
            f"dist.Normal(mean, scale).to_event(1)"
        )
    if distribution.batch_shape:
        raise ValueError(
            f"{function} must return one distribution without batch axes, but its batch shape is "
            f"{distribution.batch_shape}: end it with .to_event({len(distribution.batch_shape)})"
        )
    return distribution


def _check_takes(model: Model, conditions: tuple) -> None:
    """Raise `TypeError` unless the model's functions take a condition if, and only if, the datapoint has one."""
    signatures = {"prior": "params", "encode": "params, x", "decode": "params, z"}
    wrong = [name for name in signatures if not _takes(model, name, signatures[name], len(conditions))]
    if not wrong:
        return
    name, arguments = wrong[0], signatures[wrong[0]]
    if not _takes(model, name, arguments, 1 - len(conditions)):
        raise TypeError(f"{name} of a model must be {name}({arguments}) or {name}({arguments}, condition)")
    if others := " and ".join(each for each in signatures if each not in wrong):
        takes = "no condition" if conditions else "a condition"
        raise TypeError(f"{name} of the model takes {takes}, unlike {others}: all three must take one, or none")
    if conditions:
        raise TypeError("the datapoint is a Given, but the model takes no condition: pass its value alone")
    raise TypeError("the model takes a condition: pass aevb.Given(value, condition) as the datapoint")


def _takes(model: Model, name: str, arguments: str, num_conditions: int) -> bool:
    """Return whether a function of the model takes its arguments and `num_conditions` conditions by position."""
    try:
        inspect.signature(getattr(model, name)).bind(*arguments.split(", "), *[None] * num_conditions)
    except TypeError:
        return False
    except ValueError:  # a function without a signature
        return True
    return True
