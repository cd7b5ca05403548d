"""Pages of the site that are files in the repository's root, with links that work in both places."""

import re
from typing import Any

from flag_tables import ROOT

PAGES = {"results": "RESULTS.md", "reliability": "RELIABILITY.md", "changelog": "CHANGELOG.md"}
_LINK = re.compile(r"\]\((?:(?P<file>[A-Z]+\.md)|docs/)")


def _link(match: re.Match[str]) -> str:
    names = {file: f"{page}.md" for page, file in PAGES.items()} | {"README.md": "index.md"}
    return "](" + (names[match["file"]] if match["file"] else "")


def _read(app: Any, page: str, source: list[str]) -> None:
    if page in PAGES:
        app.env.note_dependency(str(ROOT / PAGES[page]), docname=page)
        source[0] = _LINK.sub(_link, (ROOT / PAGES[page]).read_text())


def setup(app: Any) -> dict[str, Any]:
    """Connect the replacement of sources."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
