"""Pictures of a file or a data set as arrays of one shape. Conversions that would lose information are refused.

Pillow, which decodes the pictures, is imported late, because training on arrays does not need it.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aevb.data.own.contents import Colour, Options
from aevb.data.source import DatasetError, DatasetWarning

if TYPE_CHECKING:
    from PIL.Image import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH_AT = 24  # the offset of the bit depth in a PNG file
_SHOWN = 3  # the largest number of skipped pictures named in the warning


class Pictures(NamedTuple):
    """Images `[N, H, W]` or `[N, H, W, 3]` uint8, their indices among all pictures, and the number skipped."""

    images: np.ndarray
    kept: list[int]
    num_skipped: int


class UnreadableError(Exception):
    """A picture cannot be used. The message gives the reason."""


def require_pillow() -> None:
    """Raise `DatasetError` if Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise DatasetError('pictures need Pillow, which is not installed: pip install "pillow>=11"') from None


def read_pictures(pictures: Iterable[tuple[str, Any]], size: int, options: Options) -> Pictures:
    """Decode, convert, crop and resize pictures to arrays of the same shape.

    Args:
      pictures: pairs (name, picture). A picture is a path, the bytes of a file, an open Pillow image, or an array
        `[H, W]` or `[H, W, C]` uint8.
      size: the number of pictures.
      options: `image_size`, `colour` and `skip_unreadable`.

    Raises:
      DatasetError: a picture cannot be read and unreadable ones are not skipped, or two pictures differ in shape.
    """
    require_pillow()
    images: np.ndarray | None = None
    first, kept, skipped = "", [], []
    for index, (name, picture) in enumerate(pictures):
        try:
            found = to_array(picture, options.image_size, options.colour)
        except UnreadableError as error:
            skipped.append(f"{shown(name)} {error}")
            if not options.skip_unreadable:
                raise DatasetError(f"{skipped[0]}; skip_unreadable leaves such files out and counts them") from None
            continue
        if images is None:
            first, images = name, _room(size, found.shape)
        _check_alike(shown(first), images.shape[1:], shown(name), found.shape)
        images[len(kept)] = found
        kept.append(index)
    if images is None:
        reason = f"none of {len(skipped)} pictures can be read: {skipped[0]}" if skipped else "there are no pictures"
        raise DatasetError(reason)
    if skipped:
        more = ", ..." if len(skipped) > _SHOWN else ""
        named = "; ".join(skipped[:_SHOWN])
        message = f"{len(skipped)} of {size} files are skipped: {named}{more}"
        warnings.warn(message, DatasetWarning, stacklevel=2)
    return Pictures(images[: len(kept)], kept, len(skipped))


def to_array(picture: Any, image_size: int | None, colour: Colour | None) -> np.ndarray:
    """Return one picture as uint8, `[H, W]` if it is grey and `[H, W, 3]` if it is in colour.

    Raises:
      UnreadableError: the picture cannot be read, or its conversion needs a decision by the user.
    """
    from PIL import Image

    with _damage():
        if isinstance(picture, str | Path | bytes):
            contents = _contents(picture)
            with Image.open(io.BytesIO(contents), formats=("PNG", "JPEG")) as image:
                return _converted(image, image_size, colour)
        return _converted(_of_array(picture) if isinstance(picture, np.ndarray) else picture, image_size, colour)


def shown(name: str) -> str:
    """Return a file's name in printable form, for one-line messages."""
    return name if name.isprintable() else ascii(name)


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Convert Pillow's errors into `UnreadableError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("is damaged or not a PNG or JPEG file: convert it to one") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError(f"declares more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or _first_line(error)}") from None
    except MemoryError:
        raise UnreadableError("does not fit in memory") from None
    except Exception as error:
        # On damaged input, Pillow's parsers can raise almost any error. All mean the same here.
        raise UnreadableError(f"is damaged ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _contents(picture: str | Path | bytes) -> bytes:
    if not isinstance(picture, bytes) and Path(picture).exists() and not Path(picture).is_file():
        raise UnreadableError("is not a regular file")
    contents = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    if not contents:
        raise UnreadableError("is empty (0 bytes)")
    if contents.startswith(_PNG) and contents[_BIT_DEPTH_AT : _BIT_DEPTH_AT + 1] == b"\x10":
        # Pillow would silently reduce colour pictures to 8 bits.
        raise UnreadableError("has 16 bits per channel: convert it to 8")
    return contents


def _of_array(array: np.ndarray) -> "Image":
    from PIL import Image

    if array.dtype != np.uint8:
        raise UnreadableError(f"is {array.dtype}, not uint8")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


def _converted(image: "Image", image_size: int | None, colour: Colour | None) -> np.ndarray:
    from PIL import Image, ImageOps

    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise UnreadableError("is animated: save a single frame")
    image.load()
    image = _plain(ImageOps.exif_transpose(image))
    if colour is not None:
        image = image.convert("L" if colour == "grey" else "RGB")
    if image_size is not None:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        if side != image_size:
            image = image.resize((image_size, image_size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _plain(image: "Image") -> "Image":
    """Return an image of mode L or RGB with the same pixels."""
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("1", "L", "LA", "La")
        opaque = image.convert("LA" if grey else "RGBA")
        if opaque.getchannel("A").getextrema()[0] != 255:
            raise UnreadableError("has transparent pixels: lay it on a background first")
        return opaque.convert("L" if grey else "RGB")
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("RGB")
    if image.mode.startswith(("I", "F")):
        raise UnreadableError(f"has more than 8 bits per channel (mode {image.mode}): convert it to 8")
    raise UnreadableError(f"has the colour mode {image.mode}: convert it to RGB")


def _room(size: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty((size, *shape), np.uint8)
    except (MemoryError, ValueError):
        raise DatasetError(
            f"{size:,} pictures of shape {shape} do not fit in memory: make them smaller with image_size="
        ) from None


def _check_alike(first: str, expected: tuple[int, ...], name: str, found: tuple[int, ...]) -> None:
    if found[:2] != expected[:2]:
        sizes = [f"{width}x{height}" for height, width in (expected[:2], found[:2])]
        raise DatasetError(
            f"{first} has {sizes[0]} pixels but {name} {sizes[1]}: image_size= crops all to squares and resizes them"
        )
    if len(found) != len(expected):
        kinds = ["in colour" if len(shape) == 3 else "grey" for shape in (expected, found)]
        raise DatasetError(
            f'{first} is {kinds[0]} but {name} is {kinds[1]}: convert all with colour="rgb" or colour="grey"'
        )
