"""Check every locked version, for every Python, for known vulnerabilities: `make audit`.

The audit fails if it finds one. If the vulnerability service cannot be reached, or knows none of the packages (as a
mirror without that service), it prints "NOT DONE" and exits: an audit that did not happen is never reported as passed.
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
    """Return every `name==version` of the lock files, in lists that contain each name once, as pip-audit requires.

    Environment markers are dropped, because pip-audit would otherwise skip versions for other Pythons.
    """
    versions: dict[str, set[str]] = defaultdict(set)
    for path in lock_files:
        for name, version in re.findall(r"^([\w.\[\]-]+)==([^\s;\\]+)", Path(path).read_text(), re.M):
            versions[name].add(version)
    pins = [[f"{name}=={version}" for version in sorted(found)] for name, found in sorted(versions.items())]
    return [[of_name[k] for of_name in pins if k < len(of_name)] for k in range(max(map(len, pins)))]


def audit(pins: Sequence[str]) -> list[dict[str, Any]]:
    """Return pip-audit's report on each of `pins`.

    Raises:
      ConnectionError: If the vulnerability service cannot be reached.
      RuntimeError: If pip-audit fails otherwise.
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
    """Return the lines to print and the exit status."""
    looked_up = [found for found in dependencies if "skip_reason" not in found]
    if not looked_up:
        return [f"audit: NOT DONE, the service knows none of the {len(dependencies)} locked versions"], 0
    lines = []
    for found in looked_up:
        for vulnerability in found["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            lines.append(f"audit: {found['name']} {found['version']}: {vulnerability['id']}, fixed in {fixed}")
    count = f"{len(looked_up)} of {len(dependencies)} locked versions checked"
    return [*lines, f"audit: {count}, {len(lines)} known vulnerabilities"], int(bool(lines))


def main(lock_files: Sequence[str]) -> int:
    """Audit the lock files, print the results and return the exit status."""
    try:
        lines, status = verdict([found for pins in locked(lock_files) for found in audit(pins)])
    except ConnectionError:
        lines, status = ["audit: NOT DONE, the vulnerability service cannot be reached"], 0
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
