"""Read and write images as .npy and .npz files and as folders of PNG files. Writing is atomic."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aevb.data.own.arrays import read_npy, read_npz
from aevb.data.own.contents import Options
from aevb.data.own.pictures import read_pictures, require_pillow
from aevb.data.source import DatasetError

_ARRAY = "images"


def read(source: Path) -> np.ndarray:
    """Return the images of a file or folder, `[N, ...]`.

    Raises:
      DatasetError: it holds no images that can be read.
    """
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix.lower() == ".png")
        if not files:
            raise DatasetError(f"{source} holds no PNG files")
        return read_pictures(((str(path), path) for path in files), len(files), Options()).images
    if source.suffix.lower() == ".npz":
        arrays = read_npz(source)
        name = _ARRAY if _ARRAY in arrays else next(iter(arrays))
        if len(arrays) > 1 and name != _ARRAY:
            raise DatasetError(f"{source} holds several arrays, {', '.join(arrays)}: call the one of images {_ARRAY!r}")
        return arrays[name]
    if source.suffix.lower() == ".npy":
        return np.asarray(read_npy(source))
    if not source.exists():
        raise DatasetError(f"{source} does not exist")
    raise DatasetError(f"{source} is no .npy or .npz file and no folder of PNG files")


def check_target(target: Path, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless images of this shape can be written to `target`."""
    if target.suffix.lower() in (".npy", ".npz"):
        return
    if target.suffix:
        raise ValueError(f"{target} must end in .npy or .npz, or be a folder to come, without an ending")
    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"images of shape {shape} are no pictures: write a .npy file")
    require_pillow()


def write(target: Path, images: np.ndarray) -> None:
    """Write images to a .npy or .npz file, or as PNG files 0.png, 1.png, ... with as many digits as needed."""
    if target.suffix.lower() == ".npy":
        _write_file(target, lambda file: np.save(file, images))
    elif target.suffix.lower() == ".npz":
        _write_file(target, lambda file: np.savez_compressed(file, images=images))
    else:
        _write_pictures(target, images)


def write_bytes(target: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    _write_file(target, lambda file: file.write(data))


def _write_file(target: Path, write_into: Callable[[Any], Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("wb") as file:
            write_into(file)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _write_pictures(target: Path, images: np.ndarray) -> None:
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    digits = len(str(len(images) - 1))
    try:
        (scratch / target.name).mkdir()
        for number, image in enumerate(images):
            picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
            picture.save(scratch / target.name / f"{number:0{digits}}.png")
        os.replace(scratch / target.name, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
