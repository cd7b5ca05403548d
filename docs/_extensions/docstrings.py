"""Convert docstrings from Markdown with Google sections to reStructuredText.

Sphinx reads reStructuredText, where `name` is not code and |z| is a substitution. Code spans become references if they
name something public, and literals otherwise. Indented paragraphs become literal blocks.
"""

import re
import types
from typing import Any

import aevb

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Note|Example):$")
_CODE = re.compile(r"(?<![`:])`([^`\n]+)`(?!`)")


def _target(code: str) -> str | None:
    """Return the public name that a code span refers to, or `None`."""
    name = code.removeprefix("aevb.").removesuffix("()")
    first, *rest = name.split(".")
    is_whole_path = code.startswith("aevb.")
    if first not in aevb.__all__ or (rest and not is_whole_path):
        return None
    found = aevb
    for part in (first, *rest):
        if not hasattr(found, part):
            return None
        found = getattr(found, part)
    # `data` alone is an argument; `aevb.data` is a module.
    return None if isinstance(found, types.ModuleType) and not is_whole_path else f"aevb.{name}"


def _code_span(match: re.Match[str]) -> str:
    code = match.group(1)
    target = _target(code)
    return f":py:obj:`{code} <{target}>`" if target else f"``{code}``"


def _escaped(line: str) -> str:
    """Escape what reStructuredText would read as markup, outside of code spans."""
    parts = re.split(r"(`[^`\n]+`)", line)
    plain = [re.sub(r"([*|])", r"\\\1", re.sub(r"(\w)_(?=\W|$)", r"\1\\_", part)) for part in parts[::2]]
    for index, part in enumerate(plain):
        parts[2 * index] = part
    line = _CODE.sub(_code_span, "".join(parts))
    return re.sub(r"^(\s*(?:\w+: )?[A-Z])\.(?=\s|$)", r"\1\\.", line)  # "num_samples: L." does not start a list


def rewrite(lines: list[str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText."""
    text = "\n".join(lines)
    text = re.sub(r"`([^`]+)`", lambda match: "`" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "`", text)
    written: list[str] = []
    in_section = in_block = False
    previous = ""
    for line in text.split("\n"):
        if _SECTION.match(line):
            in_section, in_block = True, False
        is_indented = line.startswith("    ") and not in_section
        if is_indented and not in_block and not previous.strip() and written:
            written += [".. code-block:: text", ""]
            in_block = True
        elif line.strip() and not is_indented:
            in_block = False
        written.append(line if in_block or _SECTION.match(line) else _escaped(line))
        previous = line
    return written


def _process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = rewrite(lines)
    if what in ("attribute", "data", "property") and lines:
        # Napoleon takes the text before a colon in an attribute's first line for its type.
        lines[:] = [".. the text of an attribute", "", *lines] if ":" in lines[0] else lines


def setup(app: Any) -> dict[str, Any]:
    """Connect the conversion before napoleon, whose priority is 500."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True}
