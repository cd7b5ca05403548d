"""A cache of prepared arrays as plain `.npy` files beside TFDS's records, so that loading needs no decoding or TFDS."""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aevb.data.identity import is_current, made_of
from aevb.data.source import Source

_MANIFEST = "manifest.json"


def cache_dir(source: Source, data_dir: Path) -> Path:
    """Return the cache folder of this version of `source`."""
    return data_dir / "aevb_arrays" / f"{source.name}-{source.version}"


def read_cache(
    source: Source, data_dir: Path, split: str, source_dir: Path | None = None
) -> dict[str, np.ndarray] | None:
    """Return the arrays of one stored split by name.

    Returns:
      The arrays, or `None` if there is no cache, it is damaged, or it was made from other originals.

    Raises:
      DatasetError: the originals in `source_dir` differ from those that the source declares.
    """
    folder = cache_dir(source, data_dir)
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        made, checksums = {key: manifest["made_of"][key] for key in ("definition", "files")}, manifest["checksums"]
    except Exception:
        # On damaged input, the JSON parser and the lookups can raise almost any error. All mean the same here.
        return None
    now = made_of(source, source_dir)
    if not is_current(source, made, now, source_dir):
        return None
    if source_dir is not None and now != made:  # the same files with another time or in another folder
        _write_manifest(folder, {"made_of": now, "checksums": checksums})
    try:
        return {name: _read_array(folder / f"{split}-{name}.npy", checksums) for name in source.declared}
    except Exception:
        # On damaged input, NumPy's parser can raise almost any error. All mean the same here.
        return None


def write_cache(source: Source, data_dir: Path, splits: Mapping[str, Any], made: dict[str, Any] | None = None) -> None:
    """Write every stored split, then move the folder into place atomically.

    A cache that cannot be written is left out.

    Args:
      source: the data set.
      data_dir: the folder of prepared data.
      splits: the result of `Source.read`.
      made: the result of `made_of` before the originals were read; by default it is computed now.
    """
    folder = cache_dir(source, data_dir)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError:
        return
    try:
        checksums = {}
        for split, arrays in splits.items():
            for name, array in source.by_name(arrays).items():
                np.save(partial / f"{split}-{name}.npy", array, allow_pickle=False)
                checksums[f"{split}-{name}.npy"] = _checksum(array)
        manifest = {"made_of": made_of(source, None) if made is None else made, "checksums": checksums}
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError:
        pass  # the disk is full, or another process was first; TFDS's records exist in any case
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest atomically, if it can be written."""
    try:
        handle, partial = tempfile.mkstemp(prefix=f"{_MANIFEST}.", dir=folder)
    except OSError:
        return
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(manifest, file, indent=2)
        os.replace(partial, folder / _MANIFEST)
    except OSError:
        Path(partial).unlink(missing_ok=True)


def _read_array(path: Path, checksums: dict[str, int]) -> np.ndarray:
    # A memory map refuses a header that declares more than the file holds before anything is allocated, reads neither
    # pickles nor archives, and lets a stream read from the file without loading all of it.
    array = np.lib.format.open_memmap(path, mode="r")
    if checksums[path.name] != _checksum(array):
        raise ValueError(f"{path} has changed since it was written")
    return array


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(repr(array.shape).encode()))
