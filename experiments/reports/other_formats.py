"""Sizes of images in common formats, to compare with."""

import bz2
import gzip
import io
import lzma
import math
from typing import Any

import numpy as np


def sizes(images: np.ndarray, num_values: int) -> dict[str, float]:
    """Return the bytes that gzip, bz2, lzma, PNG and WebP need, each at its best settings.

    The first three compress all images as one stream of bytes; where pixels have two values, also as bits, and the
    smaller counts. PNG and WebP write one file per image, and one file of all images side by side. WebP is left out
    where Pillow cannot write it.

    Args:
      images: `[N, ...]` uint8. PNG and WebP need `[N, H, W]`, `[N, H, W, 3]`, or `[N, D]` of square images.
      num_values: of a pixel, 2 or 256.
    """
    streams = [images.tobytes()] + ([np.packbits(images > 0).tobytes()] if num_values == 2 else [])
    found: dict[str, float] = {
        "gzip": min(len(gzip.compress(each, 9)) for each in streams),
        "bz2": min(len(bz2.compress(each, 9)) for each in streams),
        "lzma": min(len(lzma.compress(each, preset=9 | lzma.PRESET_EXTREME)) for each in streams),
    }
    pictures = _as_pictures(images, num_values)
    if pictures is not None:
        together = _sheet(pictures)
        for name, options in _picture_formats().items():
            found[f"{name}, one per image"] = sum(_size(each, name, num_values, options) for each in pictures)
            found[f"{name}, all in one"] = _size(together, name, num_values, options)
    return found


def _picture_formats() -> dict[str, dict[str, Any]]:
    from PIL import features

    formats: dict[str, dict[str, Any]] = {"PNG": {"optimize": True}}
    if features.check("webp"):
        formats["WebP"] = {"lossless": True, "quality": 100, "method": 4, "exact": True}
    return formats


def _as_pictures(images: np.ndarray, num_values: int) -> np.ndarray | None:
    """Return `[N, H, W]` or `[N, H, W, 3]` with white as 255, `None` where arrays are not pictures."""
    if images.ndim == 2 and (side := math.isqrt(images.shape[1])) ** 2 == images.shape[1]:
        images = images.reshape(-1, side, side)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 and (images.ndim != 4 or images.shape[-1] != 3):
        return None
    return np.where(images > 0, 255, 0).astype(np.uint8) if num_values == 2 else images


def _sheet(pictures: np.ndarray) -> np.ndarray:
    """Return one nearly square picture of all pictures."""
    columns = math.isqrt(len(pictures) - 1) + 1
    rows = -(-len(pictures) // columns)
    filled = np.zeros((rows * columns, *pictures.shape[1:]), np.uint8)
    filled[: len(pictures)] = pictures
    shape: Any = filled.shape
    height, width, channels = shape[1], shape[2], shape[3:]
    by_row = filled.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    return by_row.reshape(rows * height, columns * width, *channels)


def _size(picture: np.ndarray, name: str, num_values: int, options: dict[str, Any]) -> int:
    from PIL import Image

    image, file = Image.fromarray(picture), io.BytesIO()
    if num_values == 2 and name == "PNG":
        image = image.convert("1", dither=Image.Dither.NONE)
    image.save(file, name, **options)
    return len(file.getvalue())
