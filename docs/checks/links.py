"""Follow every internal link of the built site, starting at its index, and report broken ones.

    python -m docs.checks.links docs/_build/html

Links to pages, anchors, images, style sheets and scripts are checked. Every page must be reachable, and no page may
load files from another site.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

# Pages made by the theme, to which no page needs to link.
_UNLINKED = {"search.html", "genindex.html", "py-modindex.html", "404.html"}
_ADDRESS = {"a": "href", "img": "src", "link": "href", "script": "src", "source": "src"}


class Page(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, path: Path):
        """Read a file."""
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the address and the anchors of a tag."""
        given = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        address = given.get(_ADDRESS.get(tag, ""))
        if address is not None and not (tag == "link" and given.get("rel") in ("canonical", "index", "search")):
            self.links.append((tag, address))


def broken(site: Path) -> tuple[list[str], int]:
    """Return the problems with the links of a site, one line each, and the number of links followed."""
    site = site.resolve()
    pages: dict[Path, Page] = {}
    waiting, problems, count = [site / "index.html"], [], 0

    def page(path: Path) -> Page:
        if path not in pages:
            pages[path] = Page(path)
            waiting.append(path)
        return pages[path]

    while waiting:
        path = waiting.pop()
        for tag, link in page(path).links:
            address, anchor = urldefrag(link)
            parts = urlsplit(address)
            is_outside = tag == "a" and parts.scheme in ("http", "https", "mailto")
            if parts.scheme == "data" or is_outside:
                continue
            where = f"{path.relative_to(site)} -> {link}"
            if parts.scheme or parts.netloc:
                problems.append(f"{where}: the page loads a file from another site")
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or site not in target.parents:
                problems.append(f"{where}: there is no such file")
            elif target.suffix == ".html" and unquote(anchor) not in page(target).anchors:
                problems.append(f"{where}: there is no such anchor")
    unreached = {path for path in site.rglob("*.html") if "_static" not in path.parts} - set(pages)
    problems += [f"{path.relative_to(site)}: no page leads here" for path in unreached if path.name not in _UNLINKED]
    return problems, count


def main(site: Path) -> int:
    """Print broken links and return an exit status."""
    problems, count = broken(site)
    for problem in problems:
        print(f"error: {problem}")
    print(f"links: {count} internal links followed, {len(problems)} broken")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
