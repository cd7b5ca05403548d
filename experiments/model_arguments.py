"""The arguments of model families as settings: their types, defaults, help texts and spelling."""

import functools
import inspect
import types
import typing
from typing import Any

from aevb.models.families import FAMILIES
from experiments import conditions


def family_arguments(name: str) -> dict[str, tuple[Any, Any]]:
    """Return the types and defaults of a model family's arguments, except those that the data decide."""
    builder: Any = FAMILIES.get(name)
    decided = conditions.decided_by_data(name)
    kinds = typing.get_type_hints(inspect.unwrap(builder))
    return {
        each.name: (kinds.get(each.name, str), None if each.default is each.empty else _as_in_json(each.default))
        for each in inspect.signature(builder).parameters.values()
        if each.name not in decided and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }


def _as_in_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def takes(kind: Any, value: Any) -> bool:
    """Return whether a setting of this type takes lists, if `value` is a list, or single values otherwise."""
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    are_lists = [typing.get_origin(option) not in (None, typing.Literal) for option in options]
    return any(are_lists) if isinstance(value, list | tuple) else not all(are_lists)


def joined(value: Any) -> str:
    """Return a value as it is written in folder names and flags: a list is joined by hyphens."""
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@functools.cache
def argument_helps(name: str) -> dict[str, str]:
    """Return the help texts of a family's arguments, from its docstring."""
    text = inspect.getdoc(FAMILIES.get(name)) or ""
    _, _, rest = text.partition("Args:\n")
    helps: dict[str, str] = {}
    last = ""
    for line in rest.split("\n\n")[0].splitlines():
        argument, colon, words = line.strip().partition(": ")
        if line.startswith("  ") and not line.startswith("   ") and colon and argument.isidentifier():
            last, helps[argument] = argument, words
        elif last:
            helps[last] += " " + line.strip()
    return {argument: words[:1].upper() + words[1:] for argument, words in helps.items()}


def one_spelling(value: Any) -> Any:
    """Return the element of a list of one: families take both spellings, which should compare equal."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
