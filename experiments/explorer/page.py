"""One HTML file of a template, a style sheet, JavaScript modules and what they show."""

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
    """Return the file: nothing in it is fetched from elsewhere.

    Args:
      title: of the page.
      payload: what `web/main.mjs` reads, as JSON.
      web: the folder of the page's source.

    Raises:
      RunError: the source is not there.
    """
    parts = {
        "title": html.escape(title),
        "style": _read(web, "style.css"),
        "script": bundle(web),
        # "<" would let a name in the data end the element, or begin another.
        "payload": json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read(web, "page.html"))


def bundle(web: Path = WEB) -> str:
    """Return all modules that `main.mjs` needs as one, each after those that it imports.

    A module imports by `import { a, b } from "./other.mjs";`, one statement on lines of its own, and exports where it
    declares. Names of the top level are shared, and the browser refuses one that is declared twice.
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
        raise ValueError(f"{web / name} has {left[0]!r}, which cannot be put into one file")
    done[name] = f"// {name}\n{body}"


def _read(web: Path, name: str) -> str:
    try:
        return (web / name).read_text()
    except OSError:
        raise RunError(f"{web / name} is missing: run this from a checkout or from the source distribution") from None
