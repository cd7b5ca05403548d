"""Check that every command shown on a page exists and has the flags shown.

Run it as `python -m docs.checks.commands`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# Flags from absl that every command has.
COMMON = {"help", "helpfull", "flagfile"}


def shown(text: str) -> list[tuple[str, list[str]]]:
    """Return the commands in a text, each with the names of its flags."""
    joined = text.replace("\\\n", " ")
    found = []
    for match in re.finditer(r"python -m experiments\.([\w.]*\w)([^\n`#|]*)", joined):
        found.append((match[1], re.findall(r"--(\w+)", match[2])))
    return found


def known_flags() -> dict[str, set[str]]:
    """Return the names of the flags of every command."""
    extensions = ROOT / "docs" / "_extensions"
    sys.path.insert(0, str(extensions))
    from flag_tables import commands

    command = [sys.executable, str(extensions / "read_flags.py"), *commands()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    read = json.loads(done.stdout.splitlines()[-1])
    return {name: {flag[0] for flag in each["flags"]} for name, each in read.items()}


def main() -> int:
    """Print commands and flags that do not exist, and return an exit status."""
    known, problems, count = known_flags(), [], 0
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        if page.name in ("CHANGELOG.md", "changelog.md") or "_build" in page.parts:
            continue  # changelogs name commands of the past
        for name, flags in shown(page.read_text()):
            count += 1
            if name not in known:
                problems.append(f"{page.relative_to(ROOT)}: there is no experiments.{name}")
                continue
            for flag in flags:
                if not {flag, flag.removeprefix("no")} & (known[name] | COMMON):
                    problems.append(f"{page.relative_to(ROOT)}: experiments.{name} has no --{flag}")
    for problem in problems:
        print(f"error: {problem}")
    print(f"commands: {count} shown, {len(problems)} names that do not exist")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
