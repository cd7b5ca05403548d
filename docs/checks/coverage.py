"""Check that every public name has an entry in the built site, and every command a section with its flags.

    python -m docs.checks.coverage docs/_build/html

The public names are those in `aevb.__all__` and in the packages and modules below it.
"""

import importlib
import sys
import types
import zlib
from pathlib import Path
from typing import Any, TypeVar

import aevb

# Public modules that are not in `aevb.__all__`.
MORE_MODULES = ("classification", "distributions", "figures", "networks", "training", "training.padding",
                "training.population")  # fmt: skip


def entries(inventory: Path) -> set[str]:
    """Return the names of Python objects in an `objects.inv`, including canonical names."""
    contents = inventory.read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(contents).decode().splitlines()
    return {line.split()[0] for line in lines if line.split()[1].startswith("py:")}


def public_names() -> dict[str, Any]:
    """Return the public objects by the paths under which they are used."""
    names = {f"aevb.{name}": getattr(aevb, name) for name in aevb.__all__}
    modules = [value for value in names.values() if isinstance(value, types.ModuleType)]
    for module in (*modules, *(importlib.import_module(f"aevb.{name}") for name in MORE_MODULES)):
        listed = getattr(module, "__all__", None)
        defined = [name for name in vars(module) if not name.startswith("_")]
        for name in defined if listed is None else listed:
            value = getattr(module, name)
            if isinstance(value, TypeVar):
                continue
            if listed is not None or getattr(value, "__module__", None) == module.__name__:
                names[f"{module.__name__}.{name}"] = value
    return names


def undocumented(site: Path) -> tuple[list[str], int]:
    """Return the public names that are on no page, and the number of public names."""
    known = entries(site / "objects.inv")
    names = public_names()

    shown = {id(value) for path, value in names.items() if path in known}  # possibly under another public name
    return [path for path, value in names.items() if id(value) not in shown], len(names)


def commands_without_flags(site: Path) -> list[str]:
    """Return the commands whose flags no page lists."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "_extensions"))
    from flag_tables import commands

    pages = "".join(path.read_text() for path in (site / "experiments").rglob("*.html"))
    return [name for name in commands() if f"python -m experiments.{name}" not in pages]


def main(site: Path) -> int:
    """Print missing names and commands, and return an exit status."""
    missing, count = undocumented(site)
    for path in missing:
        print(f"error: the public name {path} is on no page of the API")
    commands = commands_without_flags(site)
    for name in commands:
        print(f"error: the flags of python -m experiments.{name} are on no page")
    print(f"coverage: {count - len(missing)} of {count} public names are on a page")
    return 1 if missing or commands else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
