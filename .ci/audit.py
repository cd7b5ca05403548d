"""Looks up every locked version, for every Python, among the known vulnerabilities: `make audit`.

Fails where one is found. Where the source cannot be reached, or does not know a single one of the packages, as a mirror
without that part does, it says so in one line and is done: an audit that did not happen is never reported as passed.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_UNREACHABLE = re.compile(
    r"^(requests\.exceptions|urllib3\.exceptions|pip_audit\.\S*(ServiceError|ConnectionError))", re.M
)


def locked(lock_files: Sequence[str]) -> list[list[str]]:
    """All `name==version` of the lock files, in lists that have each name once, which is what pip-audit takes.

    It would look at no more than the versions for the Python that runs it, if it saw what they are for.
    """
    versions: dict[str, set[str]] = defaultdict(set)
    for path in lock_files:
        for name, version in re.findall(r"^([\w.\[\]-]+)==([^\s;\\]+)", Path(path).read_text(), re.M):
            versions[name].add(version)
    pins = [[f"{name}=={version}" for version in sorted(found)] for name, found in sorted(versions.items())]
    return [[of_name[k] for of_name in pins if k < len(of_name)] for k in range(max(map(len, pins)))]


def audit(pins: Sequence[str]) -> list[dict[str, Any]]:
    """What pip-audit reports of each of `pins`.

    Raises:
      ConnectionError: the source could not be asked.
      RuntimeError: pip-audit failed otherwise.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins) + "\n")
        file.flush()
        flags = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
        command = [sys.executable, "-m", "pip_audit", *flags, "--requirement", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except ValueError:
        if _UNREACHABLE.search(done.stderr):
            raise ConnectionError from None
        raise RuntimeError(f"pip-audit failed with status {done.returncode}:\n{done.stderr}") from None


def verdict(dependencies: Sequence[dict[str, Any]]) -> tuple[list[str], int]:
    """Lines to print and the exit status."""
    looked_up = [found for found in dependencies if "skip_reason" not in found]
    if not looked_up:
        return [f"audit: NOT DONE, the source knows none of the {len(dependencies)} locked versions"], 0
    lines = []
    for found in looked_up:
        for vulnerability in found["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            lines.append(f"audit: {found['name']} {found['version']}: {vulnerability['id']}, mended in {fixed}")
    count = f"{len(looked_up)} of {len(dependencies)} locked versions looked up"
    return [*lines, f"audit: {count}, {len(lines)} known vulnerabilities"], int(bool(lines))


def main(lock_files: Sequence[str]) -> int:
    """Prints what was found in the lock files; returns the exit status."""
    try:
        lines, status = verdict([found for pins in locked(lock_files) for found in audit(pins)])
    except ConnectionError:
        lines, status = ["audit: NOT DONE, the source of known vulnerabilities cannot be reached"], 0
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
