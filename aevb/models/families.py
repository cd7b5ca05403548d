"""Model families by name: the functions that build models, and a record in each model of how it was built."""

import dataclasses
import functools
import inspect
import json
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from aevb.arguments import check_counts, describe
from aevb.likelihoods import LIKELIHOODS
from aevb.model import Model, Recipe, check_model
from aevb.registry import Registry

Builder = TypeVar("Builder", bound=Callable[..., Model])

FAMILIES: Registry[Callable[..., Model]] = Registry(
    "model family",
    {
        "mlp": "aevb.models.mlp:mlp_vae",
        "convolutional": "aevb.models.convolutional:convolutional_vae",
        "conditional": "aevb.models.conditional:conditional_vae",
        "hierarchical": "aevb.models.hierarchical:hierarchical_vae",
        "hierarchical_convolutional": "aevb.models.hierarchical_convolutional:hierarchical_convolutional_vae",
        "supervised": "aevb.models.supervised:supervised_vae",
        "semi_supervised": "aevb.models.semi_supervised:semi_supervised_vae",
        "deep_markov": "aevb.models.deep_markov:deep_markov_vae",
        "conditional_deep_markov": "aevb.models.conditional_deep_markov:conditional_deep_markov_vae",
        "linear_gaussian": "aevb.models.linear_gaussian:linear_gaussian_state_space",
    },
)


_TAKES_IMAGES, _TAKES_LABELS, _TAKES_SEQUENCES = "takes_images", "takes_labels", "takes_sequences"


def build(name: str, /, **arguments: Any) -> Model:
    """Build a model of a registered family: `build("mlp", data_shape=(784,), latent_dim=20)`.

    Equal arguments give the same model, so that compiled programs are reused.

    Raises:
      ValueError: no family of that name is registered, or the family raises it.
      TypeError: the family has no such argument, or the family raises it.
    """
    return FAMILIES.get(name)(**arguments)


def register(
    name: str, images: bool = False, labels: bool = False, sequences: bool = False
) -> Callable[[Builder], Builder]:
    """Register a model family with `@aevb.models.register("mine")` on a function that returns a model.

    In the experiments, a family with `images=True` receives images `[H, W]` or `[H, W, C]`; other families receive
    flattened images `[D]`. A family with `labels=True` has models given a label: it is built with the additional
    argument `num_classes`, and its datapoints are `aevb.Given(image, label)`. A family with `sequences=True` receives
    sequences `[T, D]`, NaN after the end of each, instead of images.

    The models can be saved, pickled and named in a run folder. Therefore the arguments must be JSON types: numbers,
    strings, booleans, `None`, and lists and dicts of them. Tuples are passed to the function as lists, and NumPy
    integers as Python integers.

    Raises:
      ValueError: the name is built in, or is not an identifier.
      TypeError: the registered object is not a function, or has arguments without a name.
    """
    FAMILIES.check_name(name)

    def decorate(builder: Builder) -> Builder:
        if not callable(builder):
            raise TypeError(f"model family must be a function that returns an aevb.Model, got {describe(builder)}")
        return FAMILIES.register(name, family(name, images, labels, sequences)(builder))

    return decorate


def takes_images(name: str) -> bool:
    """Return whether a family receives images without flattening.

    Raises:
      ValueError: no family of that name is registered.
    """
    return getattr(FAMILIES.get(name), _TAKES_IMAGES, False)


def takes_labels(name: str) -> bool:
    """Return whether the models of a family are given a label.

    Raises:
      ValueError: no family of that name is registered.
    """
    return getattr(FAMILIES.get(name), _TAKES_LABELS, False)


def takes_sequences(name: str) -> bool:
    """Return whether the models of a family are for sequences `[T, D]`.

    Raises:
      ValueError: no family of that name is registered.
    """
    return getattr(FAMILIES.get(name), _TAKES_SEQUENCES, False)


def family(
    name: str, images: bool = False, labels: bool = False, sequences: bool = False
) -> Callable[[Builder], Builder]:
    """Return a decorator for a function that builds models, which records their family and arguments."""

    def decorate(builder: Builder) -> Builder:
        models: dict[str, tuple[int, Model]] = {}
        signature = inspect.signature(builder)
        for each in signature.parameters.values():
            if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
                raise TypeError(
                    f"the model family {name!r} is built with keyword arguments, but {each.name} cannot be one"
                )

        @functools.wraps(builder)
        def with_recipe(*args: Any, **kwargs: Any) -> Model:
            arguments = _as_json(name, _all_arguments(name, signature, args, kwargs))
            version, found = models.get(arguments, (None, None))
            if found is None or version != LIKELIHOODS.version:
                model = builder(**json.loads(arguments))  # in the same way as when it is rebuilt later
                check_model(model)
                if found is None or model != found:
                    found = dataclasses.replace(model, recipe=Recipe(_rebuild, name, arguments))
                models[arguments] = LIKELIHOODS.version, found
            return found

        setattr(with_recipe, _TAKES_IMAGES, images)
        setattr(with_recipe, _TAKES_LABELS, labels)
        setattr(with_recipe, _TAKES_SEQUENCES, sequences)
        return with_recipe  # type: ignore[return-value]

    return decorate


def recipe_of(model: Model) -> tuple[str, dict[str, Any]]:
    """Return the family of a model and the arguments with which it was built.

    Raises:
      ValueError: the model was not built by name.
    """
    if model.recipe is None:
        raise ValueError(
            "the model was not built by name, so that it is unknown how to build it again: put the code that builds it "
            'into a function, register it with @aevb.models.register("name"), and call that function'
        )
    return model.recipe.family, json.loads(model.recipe.arguments)


def length_of(model: Model) -> int:
    """Return T of a model of sequences `[T, D]`.

    Raises:
      ValueError: the model was not built by name, or is not for sequences.
    """
    name, arguments = recipe_of(model)
    shape = arguments.get("data_shape")
    if not isinstance(shape, list) or len(shape) != 2:
        raise ValueError(f"a model of the family {name!r} with data_shape {shape} is not a model of sequences [T, D]")
    return int(shape[0])


def of_length(model: Model, length: int) -> Model:
    """Return the model for sequences of another length, with the same parameters: `of_length(model, 200)`.

    Raises:
      ValueError: the model was not built by name or is not for sequences, its parameters depend on the length, or
        `length` is not positive.
      TypeError: `length` is not an integer.
    """
    check_counts(1, length=length)
    length_of(model)
    name, arguments = recipe_of(model)
    _, *data_dims = arguments["data_shape"]
    other = build(name, **(arguments | {"data_shape": [length, *data_dims]}))
    found, expected = (jax.eval_shape(each.init, jax.random.key(0)) for each in (other, model))
    if found != expected:
        raise ValueError(f"the parameters of the model family {name!r} depend on the length of its sequences")
    return other


def _rebuild(name: str, arguments: str) -> Model:
    return build(name, **json.loads(arguments))


def _all_arguments(name: str, signature: inspect.Signature, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a family by name, defaults included."""
    unknown = [key for key in kwargs if key not in signature.parameters]
    rest = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
    if unknown and not rest:
        known = ", ".join(signature.parameters)
        raise TypeError(f"the model family {name!r} has no argument {unknown[0]!r}; its arguments are {known}")
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"the model family {name!r}: {error}") from None
    bound.apply_defaults()
    others = bound.arguments.pop(rest[0]) if rest else {}
    return bound.arguments | others


def _as_json(name: str, arguments: dict[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real):
            return float(value)
        try:
            dtype = np.dtype(value)
        except TypeError:
            dtype = np.dtype(object)
        if dtype.hasobject:
            raise TypeError(describe(value))
        return dtype.name

    for argument, value in arguments.items():
        try:
            json.dumps(value, default=plain)
        except TypeError as error:
            raise TypeError(
                f"{argument} of the model family {name!r} must be a JSON type, such as numbers, strings, and lists or "
                f"dicts of them, got {error}"
            ) from None
    return json.dumps(arguments, default=plain, sort_keys=True)
