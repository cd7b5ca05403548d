"""Things that are found by their name: models, likelihoods, algorithms, data sets."""

import importlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of names, whose own entries are imported when they are asked for and to which anyone adds theirs."""

    def __init__(self, kind: str, built_in: Mapping[str, str]):
        """Name what the table is of, and where its own entries are, `{"name": "module:attribute"}`."""
        self._kind, self._built_in = kind, dict(built_in)
        self._added: dict[str, T] = {}
        self.version = 0
        """How often an entry was added: what is made from entries is made anew when it has changed."""

    def names(self) -> tuple[str, ...]:
        """Return every name, the built-in ones first."""
        return (*self._built_in, *self._added)

    def get(self, name: str) -> T:
        """Return the entry of that name.

        Raises:
          ValueError: there is none.
        """
        if name in self._added:
            return self._added[name]
        if name not in self._built_in:
            raise ValueError(
                f"{self._kind} must be one of {', '.join(self.names())}, got {name!r}: one of your own must be "
                f"registered first, by importing the module that does it"
            )
        module, attribute = self._built_in[name].split(":")
        return getattr(importlib.import_module(module), attribute)

    def register(self, name: str, entry: Any = None) -> Any:
        """Add an entry, or replace one that was added: `register("name", entry)`, or `@register("name")`.

        Raises:
          ValueError: the name is built in, or no identifier.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"the name of a {self._kind} must be an identifier, got {name!r}")
        if name in self._built_in:
            raise ValueError(f"there is a {self._kind} named {name!r} already")
        if entry is None:
            return lambda entry: self.register(name, entry)
        self._added[name] = entry
        self.version += 1
        return entry
