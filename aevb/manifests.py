"""Checksums: beside Orbax's files of a checkpoint, with its bound and seconds, and within JSON files."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from aevb.durable import write_whole

MANIFEST_FILE = "sha256.json"
CHECKSUM = "sha256"
"""The entry of a JSON file that is the checksum of the others: it is written with them, so that no kill parts them."""


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under `folder` but the manifest, by its path there."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_FILE]
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(NamedTuple):
    """What stands beside Orbax's files of a checkpoint.

    Attributes:
      valid_bound: nats; `None` where there is none.
      seconds: of training so far.
      sha256: of each file, by its path in the checkpoint.
      is_older: whether a version wrote it that chose the best by the test bound.
    """

    valid_bound: float | None
    seconds: float
    sha256: dict[str, str]
    is_older: bool = False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write what stands beside a checkpoint.

    Raises:
      OSError: it cannot be written.
    """
    contents = {name: value for name, value in manifest._asdict().items() if name != "is_older"}
    write_whole(folder / MANIFEST_FILE, json.dumps(contents, indent=2).encode())


def read_manifest(folder: Path) -> Manifest | None:
    """Return what stands beside a checkpoint, `None` where nothing does.

    Raises:
      OSError, ValueError: it is damaged.
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
    """Return the contents of a JSON file and the checksum of them."""
    return {**contents, CHECKSUM: _sha256_of(contents)}


def unsealed(found: Any) -> dict[str, Any]:
    """Return the contents of a JSON file without their checksum; files of older versions have none.

    Raises:
      ValueError: the file holds no object, or something in it has changed since it was written.
    """
    if not isinstance(found, dict):
        raise ValueError("it holds no entries")
    contents = {name: value for name, value in found.items() if name != CHECKSUM}
    if CHECKSUM in found and found[CHECKSUM] != _sha256_of(contents):
        raise ValueError(
            f"it has changed since it was written, as its {CHECKSUM} says (without that entry it is read as it is)"
        )
    return contents


def _sha256_of(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
