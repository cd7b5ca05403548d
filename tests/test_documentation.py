"""The code of README.md and of the documentation's pages runs. Notebooks run when the site is built."""

import re
import sys
from pathlib import Path
from unittest import mock

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
# Packages that appear on a page but are not installed for tests.
SHOWN = ("mlflow", "wandb")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the Python blocks of a page, each with its heading."""
    found, heading = [], ""
    pattern = r"^#+ (?P<heading>[^\n]*)$|^(?P<fence>`{3,})(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)$"
    for match in re.finditer(pattern, page.read_text(), re.MULTILINE | re.DOTALL):
        heading = match["heading"] or heading
        if match["language"] == "python":
            found.append((heading, match["code"]))
    return found


# `make docs-test` runs all of them.
CASES = [
    pytest.param(
        page.name,
        code,
        marks=[] if page.name == "README.md" else pytest.mark.slow,
        id=f"{page.relative_to(ROOT)}:{heading}".replace("`", ""),
    )
    for page in PAGES
    for heading, code in blocks(page)
]


@pytest.mark.parametrize(("page", "code"), CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_runs(page, code, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in SHOWN:
        if name in code:
            monkeypatch.setitem(sys.modules, name, mock.MagicMock())
    exec(compile(code, page, "exec"), {"__name__": "page"})


def test_pages_have_code():
    assert len(CASES) > 40


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170
