"""Assemble one HTML file from a template, a style sheet, JavaScript modules and their data."""

import html
import json
import re
from pathlib import Path
from typing import Any

from aevb.checkpoints import RunError

WEB = Path(__file__).resolve().parents[2] / "web"
_ENTRY = "main.mjs"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+\.mjs)";\n', re.MULTILINE)


def page(title: str, payload: dict[str, Any], web: Path = WEB) -> str:
    """Return the text of the HTML file, which fetches nothing from elsewhere.

    Args:
      title: The title of the page.
      payload: The data that `web/main.mjs` reads as JSON.
      web: The folder of the page's source.

    Raises:
      RunError: If the source is missing.
    """
    parts = {
        "title": html.escape(title),
        "style": _read(web, "style.css"),
        "script": bundle(web),
        # An unescaped "<" would let a name in the data close the element or open another.
        "payload": json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read(web, "page.html"))


def bundle(web: Path = WEB) -> str:
    """Return all modules that `main.mjs` needs as one script, each after the modules that it imports.

    Modules must import by `import { a, b } from "./other.mjs";`, one statement on its own lines, and export at the
    declaration. They share one top-level scope: the browser rejects a name that is declared twice.
    """
    done: dict[str, str] = {}
    _add(_ENTRY, web, done)
    return "\n".join(done.values())


def _add(name: str, web: Path, done: dict[str, str]) -> None:
    if name in done:
        return
    source = _read(web, name)
    for imported in _IMPORT.findall(source):
        _add(imported, web, done)
    body = re.sub(r"^export (?=(async |const |function |class |let ))", "", _IMPORT.sub("", source), flags=re.MULTILINE)
    if left := re.search(r"^(import|export)\b.*$|</script", body, re.MULTILINE):
        raise ValueError(f"{web / name} contains {left[0]!r}, which cannot be bundled into one file")
    done[name] = f"// {name}\n{body}"


def _read(web: Path, name: str) -> str:
    try:
        return (web / name).read_text()
    except OSError:
        raise RunError(f"{web / name} is missing: run this from a checkout or from the source distribution") from None
