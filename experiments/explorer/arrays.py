"""Encode arrays and images as text."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from aevb.checkpoints import RunError

NUM_SHADES = 32
"""Shades per channel of a thumbnail: a quarter fewer bytes than with 256 shades, and hardly a visible difference."""


def encode_array(array: Any, dtype: str) -> dict[str, Any]:
    """Return an array as `{"dtype", "shape", "data"}`, little-endian base64.

    Args:
      array: Numbers.
      dtype: "float16", "float32", "uint8" or "int32", the types that `web/arrays.mjs` reads.

    Raises:
      RunError: If a value is not finite in that dtype.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(array).astype(np.dtype(dtype).newbyteorder("<"))
    if not np.all(np.isfinite(values)):
        raise RunError(f"an array of shape {list(values.shape)} has values that are not finite as {dtype}")
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": list(values.shape), "data": data}


def sprite(images: np.ndarray) -> dict[str, Any]:
    """Return images `[N, H, W, C]`, one or three channels in [0, 1], as tiles of one PNG in a data URL."""
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    shades = np.round(np.clip(images, 0, 1) * (NUM_SHADES - 1)) * (255 / (NUM_SHADES - 1))
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = np.round(shades)
    sheet = sheet.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return {"url": f"data:image/png;base64,{data}", "columns": columns, "width": width, "height": height}
