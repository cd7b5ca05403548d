"""Records of how data were prepared, to detect that the originals or the definition changed since."""

import os
from pathlib import Path
from typing import Any

from aevb.data.originals import verify_originals
from aevb.data.source import DatasetError, Source


def made_of(source: Source, source_dir: Path | None) -> dict[str, Any]:
    """Describe the definition and the original files of a source, as JSON types.

    The files are those that the source declares, or all files in `source_dir` if it declares none, each with its size
    and modification time. Without a `source_dir` the entry is `None`.

    Raises:
      DatasetError: `source_dir` is not a folder.
    """
    definition = {
        "originals": {original.name: original.sha256 for original in source.originals},
        "features": {name: [list(each.shape), each.dtype.name] for name, each in source.declared.items()},
        "sizes": dict(source.sizes),
    }
    return {"definition": definition, "files": None if source_dir is None else _files(source, source_dir)}


def is_current(source: Source, made: dict[str, Any] | None, now: dict[str, Any], source_dir: Path | None) -> bool:
    """Return whether prepared data may be used.

    If the sizes and times of the original files are unchanged, they may. Otherwise declared originals are verified by
    their checksums, and data from undeclared files must be prepared again.

    Args:
      source: the data set.
      made: the result of `made_of` when the data were prepared; `None` if an earlier version prepared them.
      now: the result of `made_of` now.
      source_dir: the folder of originals; `None` if there are no files to compare with.

    Raises:
      DatasetError: declared originals in `source_dir` are missing or have other checksums.
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
    """Return the size in bytes and the modification time in nanoseconds, or an empty list for a missing file."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
