"""What prepared data were made of, so that they are not used after their originals or their definition changed."""

import os
from pathlib import Path
from typing import Any

from aevb.data.originals import verify_originals
from aevb.data.source import DatasetError, Source


def made_of(source: Source, source_dir: Path | None) -> dict[str, Any]:
    """Describe what is prepared now, for JSON: the definition, and the size and time of the original files.

    The files are those that the source declares, or where it declares none all files in `source_dir`; `None` without a
    `source_dir`.

    Raises:
      DatasetError: `source_dir` is no folder.
    """
    definition = {
        "originals": {original.name: original.sha256 for original in source.originals},
        "features": {name: [list(each.shape), each.dtype.name] for name, each in source.declared.items()},
        "sizes": dict(source.sizes),
    }
    return {"definition": definition, "files": None if source_dir is None else _files(source, source_dir)}


def is_current(source: Source, made: dict[str, Any] | None, now: dict[str, Any], source_dir: Path | None) -> bool:
    """Tell whether what is prepared may be used.

    This is a matter of sizes and times where they are as they were. Where they are not, declared originals are
    verified by their checksums, and prepared anew is what comes of files that are not declared.

    Args:
      source: whose data.
      made: what `made_of` said when they were prepared; `None` where an earlier version prepared them.
      now: what `made_of` says now.
      source_dir: the folder of originals, or `None`: there is nothing to compare with then.

    Raises:
      DatasetError: declared originals in `source_dir` are missing or not what their checksums say.
    """
    if made is not None and made["definition"] != now["definition"]:
        return False
    if source_dir is None or (made is not None and made["files"] == now["files"]):
        return True
    if not source.originals:
        return False
    verify_originals(source, source_dir)
    return True


def _files(source: Source, folder: Path) -> dict[str, list[int]]:
    if not folder.is_dir():
        raise DatasetError(f"source_dir {folder} is not a folder")
    if source.originals:
        paths = [folder / original.name for original in source.originals]
    else:
        paths = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): _stat(path) for path in sorted(paths)}


def _stat(path: Path) -> list[int]:
    """Return the size in bytes and the time of the last change in nanoseconds; nothing of a file that is missing."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
