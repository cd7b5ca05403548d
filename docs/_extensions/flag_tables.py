"""The directive `flags`, which shows a command's docstring and the definitions of its flags."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

_HERE = Path(__file__).parent
ROOT = _HERE.parent.parent
# Commands that are packages, besides the files of experiments/ that end in `if __name__ == "__main__"`.
_PACKAGES = ["benchmark", "benchmark.sequences"]


def commands() -> list[str]:
    """Return the names of all commands, `python -m experiments.NAME`."""
    files = sorted((ROOT / "experiments").glob("*.py"))
    return [path.stem for path in files if '__name__ == "__main__"' in path.read_text()] + _PACKAGES


def path_of(command: str) -> Path:
    """Return the file of a command."""
    path = ROOT / "experiments" / command.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def _read(app: Any) -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(_HERE / "read_flags.py"), *commands()]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the flags of the commands could not be read:\n{done.stderr}")
    app.env.aevb_flags = json.loads(done.stdout.splitlines()[-1])


def _inline(text: str) -> list[nodes.Node]:
    """Return text whose code spans and flags are literals: in text, two hyphens would become a dash."""
    marked = re.sub(r"`[^`]+`|(?<![\w-])--[a-z]\w*(?:=\w+)?", lambda found: f"`{found[0].strip('`')}`", text)
    parts = re.split(r"`([^`]+)`", marked)
    return [nodes.literal("", part) if index % 2 else nodes.Text(part) for index, part in enumerate(parts) if part]


class Flags(SphinxDirective):
    """The directive `{flags} mnist`; with `:beside: mnist`, only flags that differ from those of `mnist`."""

    required_arguments = 1
    option_spec: ClassVar = {"beside": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return the command's text and the definitions of its flags."""
        command = self.arguments[0]
        known = self.env.aevb_flags[command]
        self.env.note_dependency(str(path_of(command)))
        theirs = (
            {flag[0]: flag for flag in self.env.aevb_flags[self.options["beside"]]["flags"]} if self.options else {}
        )
        first, *rest = re.split(r"\n\s*\n", known["about"])
        found: list[nodes.Node] = [nodes.paragraph("", "", *_inline(" ".join(first.split())))]
        for part in rest:
            if part.startswith("    "):
                code = re.sub(r"^    ", "", part, flags=re.MULTILINE)
                found.append(nodes.literal_block(code, code, language="console"))
            else:
                found.append(nodes.paragraph("", "", *_inline(" ".join(part.split()))))
        flags = [flag for flag in known["flags"] if flag != theirs.get(flag[0])]
        if theirs:
            name = self.options["beside"]
            missing = sorted(set(theirs) - {flag[0] for flag in known["flags"]})
            beside = f"It has the flags of `experiments.{name}`"
            beside += ", without " + ", ".join(f"`--{each}`" for each in missing) if missing else ""
            beside += "; these flags are additional or differ:" if flags else ", with the same defaults."
            found.append(nodes.paragraph("", "", *_inline(beside)))
        items = [self._item(command, *flag) for flag in sorted(flags)]
        return [*found, nodes.definition_list("", *items, classes=["flags"])] if items else found

    def _item(self, command: str, name: str, default: str, choices: list[str], about: str) -> nodes.Node:
        shown = f"--{name}={default}" if default else f"--{name}"
        target = f"{command}-{name}".replace("_", "-").replace(".", "-")
        term = nodes.term("", "", nodes.literal("", shown), ids=[target])
        about = re.sub(r"^<[^>]*>: ", "", about)  # absl's list of choices, which is shown below
        lines = [nodes.paragraph("", "", *_inline(about))]
        if choices:
            lines.append(
                nodes.paragraph("", "", *_inline("One of " + ", ".join(f"`{each}`" for each in choices) + "."))
            )
        return nodes.definition_list_item("", term, nodes.definition("", *lines))


def setup(app: Any) -> dict[str, Any]:
    """Read the flags once, before any page is read."""
    app.connect("builder-inited", _read)
    app.add_directive("flags", Flags)
    return {"parallel_read_safe": True}
