"""Checksums of checkpoints, stored next to Orbax's files with the bound and training time, and of JSON files."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from aevb.durable import write_whole

MANIFEST_FILE = "sha256.json"
CHECKSUM = "sha256"
"""The entry of a JSON file with the checksum of the other entries. It is written with them, in the same file, so that
an interruption cannot separate them."""


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under `folder` except the manifest, by its path in the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_FILE]
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(NamedTuple):
    """The manifest of a checkpoint, stored next to Orbax's files.

    Attributes:
      valid_bound: the validation bound in nats; `None` if there is none.
      seconds: the training time so far.
      sha256: the checksum of each file, by its path in the checkpoint.
      is_older: whether an older version wrote it, which chose the best checkpoint by the test bound.
    """

    valid_bound: float | None
    seconds: float
    sha256: dict[str, str]
    is_older: bool = False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a checkpoint.

    Raises:
      OSError: the file cannot be written.
    """
    contents = {name: value for name, value in manifest._asdict().items() if name != "is_older"}
    write_whole(folder / MANIFEST_FILE, json.dumps(contents, indent=2).encode())


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a checkpoint; `None` if it has none.

    Raises:
      OSError, ValueError: the manifest is damaged.
    """
    try:
        found = json.loads((folder / MANIFEST_FILE).read_text())
        is_older = "test_elbo" in found
        bound = None if is_older else found["valid_bound"]
        checksums = {str(name): str(checksum) for name, checksum in found["sha256"].items()}
        return Manifest(None if bound is None else float(bound), float(found["seconds"]), checksums, is_older)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST_FILE} is damaged: {type(error).__name__}: {error}") from None


def sealed(contents: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a JSON file with their checksum added."""
    return {**contents, CHECKSUM: _sha256_of(contents)}


def unsealed(found: Any) -> dict[str, Any]:
    """Return the contents of a JSON file without their checksum. Files of older versions have none.

    Raises:
      ValueError: the file holds no object, or its contents have changed since it was written.
    """
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    contents = {name: value for name, value in found.items() if name != CHECKSUM}
    if CHECKSUM in found and found[CHECKSUM] != _sha256_of(contents):
        raise ValueError(
            f"it has changed since it was written: its {CHECKSUM} does not match (delete that entry to read the file "
            "anyway)"
        )
    return contents


def _sha256_of(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
