"""Prepared arrays kept as plain `.npy` files beside TFDS's records, so that loading takes no decoding and no TFDS."""

import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from aevb.data.source import Arrays, Source

_MANIFEST = "manifest.json"


def cache_dir(source: Source, data_dir: Path) -> Path:
    """The folder of this version of `source`."""
    return data_dir / "aevb_arrays" / f"{source.name}-{source.version}"


def read_cache(source: Source, data_dir: Path, split: str) -> Arrays | None:
    """One stored split, or `None` where there is none or its bytes are not those that were written."""
    folder = cache_dir(source, data_dir)
    try:
        checksums = json.loads((folder / _MANIFEST).read_text())
        images = _read_array(folder / f"{split}-images.npy", checksums)
        labels = _read_array(folder / f"{split}-labels.npy", checksums) if source.num_classes else None
    except Exception:
        # NumPy's and JSON's parsers raise nearly anything on damaged input, and all of it means the same here.
        return None
    return Arrays(images, labels)


def write_cache(source: Source, data_dir: Path, splits: dict[str, Arrays]) -> None:
    """Writes every stored split, then moves the folder into place at once. A cache that cannot be written is none."""
    folder = cache_dir(source, data_dir)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError:
        return
    try:
        checksums = {}
        for split, arrays in splits.items():
            for kind, array in arrays._asdict().items():
                if array is not None:
                    np.save(partial / f"{split}-{kind}.npy", array, allow_pickle=False)
                    checksums[f"{split}-{kind}.npy"] = _checksum(array)
        (partial / _MANIFEST).write_text(json.dumps(checksums, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError:
        pass  # a full disk, or another process was first: the records are there all the same
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_array(path: Path, checksums: dict[str, int]) -> np.ndarray:
    # Mapped: a header that declares more than the file holds is refused before anything is allocated, this reader takes
    # neither pickles nor archives, and what streams from it need not hold it.
    array = np.lib.format.open_memmap(path, mode="r")
    if checksums[path.name] != _checksum(array):
        raise ValueError(f"{path} has changed since it was written")
    return array


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(repr(array.shape).encode()))
