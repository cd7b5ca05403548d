"""Tables of models, likelihoods, algorithms and data sets by name."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from aevb.arguments import describe

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of named entries. Built-in entries are imported on first use; users can register their own."""

    def __init__(self, kind: str, built_in: Mapping[str, str], check: Callable[[Any], None] | None = None):
        """Define a table.

        Args:
          kind: what the entries are called in messages.
          built_in: where the built-in entries are defined, `{"name": "module:attribute"}`.
          check: raises `TypeError` for an object that cannot be an entry.
        """
        self._kind, self._built_in, self._check = kind, dict(built_in), check
        self._added: dict[str, T] = {}
        self.version = 0
        """The number of entries added so far. Objects made from entries are remade when it has changed."""

    def names(self) -> tuple[str, ...]:
        """Return all names, the built-in ones first."""
        return (*self._built_in, *self._added)

    def get(self, name: str) -> T:
        """Return the entry with the given name.

        Raises:
          ValueError: there is no such entry.
        """
        is_name = isinstance(name, str)
        if is_name and name in self._added:
            return self._added[name]
        if not is_name or name not in self._built_in:
            raise ValueError(
                f"{self._kind} must be one of {', '.join(self.names())}, got {describe(name)}: register one of your "
                "own first"
            )
        module, attribute = self._built_in[name].split(":")
        return getattr(importlib.import_module(module), attribute)

    def register(self, name: str, entry: Any = None) -> Any:
        """Add an entry, or replace an added one: `register("name", entry)` or `@register("name")`.

        Raises:
          ValueError: the name is built in or not an identifier.
          TypeError: `entry` fails the check of this table.
        """
        self.check_name(name)
        if entry is None:
            return lambda entry: self.register(name, entry)
        if self._check is not None:
            self._check(entry)
        self._added[name] = entry
        self.version += 1
        return entry

    def check_name(self, name: Any) -> None:
        """Raise `ValueError` unless an entry can be added under `name`."""
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"the name of a registered {self._kind} must be an identifier, got {describe(name)}")
        if name in self._built_in:
            raise ValueError(f"{self._kind} {name!r} is built in: choose another name")
