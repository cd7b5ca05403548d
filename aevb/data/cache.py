"""Prepared arrays kept as plain `.npy` files beside TFDS's records, so that loading takes no decoding and no TFDS."""

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
    """The folder of this version of `source`."""
    return data_dir / "aevb_arrays" / f"{source.name}-{source.version}"


def read_cache(
    source: Source, data_dir: Path, split: str, source_dir: Path | None = None
) -> dict[str, np.ndarray] | None:
    """Return the arrays of one stored split by their names.

    Returns:
      `None` where there is none, its bytes are not those that were written, or it was made of other originals.

    Raises:
      DatasetError: `source_dir` holds other originals than the source declares.
    """
    folder = cache_dir(source, data_dir)
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        made, checksums = {key: manifest["made_of"][key] for key in ("definition", "files")}, manifest["checksums"]
    except Exception:
        # JSON's parser and what follows raise nearly anything on damaged input, and all of it means the same here.
        return None
    now = made_of(source, source_dir)
    if not is_current(source, made, now, source_dir):
        return None
    if source_dir is not None and now != made:  # the same files, of another time or in another folder
        _write_manifest(folder, {"made_of": now, "checksums": checksums})
    try:
        return {name: _read_array(folder / f"{split}-{name}.npy", checksums) for name in source.declared}
    except Exception:
        # NumPy's parser raises nearly anything on damaged input, and all of it means the same here.
        return None


def write_cache(source: Source, data_dir: Path, splits: Mapping[str, Any], made: dict[str, Any] | None = None) -> None:
    """Write every stored split, of what `made` describes, then move the folder into place at once.

    A cache that cannot be written is none.

    Args:
      source: whose data.
      data_dir: where prepared data live.
      splits: what `Source.read` returns.
      made: what `made_of` said before they were read; by default what it says now.
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
        pass  # a full disk, or another process was first: the records are there all the same
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest at once, where it can be written."""
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
    # Mapped: a header that declares more than the file holds is refused before anything is allocated, this reader takes
    # neither pickles nor archives, and what streams from it need not hold it.
    array = np.lib.format.open_memmap(path, mode="r")
    if checksums[path.name] != _checksum(array):
        raise ValueError(f"{path} has changed since it was written")
    return array


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(repr(array.shape).encode()))
