"""What is hidden of images, and what they are seen through, by the words of a flag."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from aevb.posterior import Channel

MASKS = ("none", "lower", "random", "block")


def hidden_pixels(mask: str, size: int, image_shape: tuple[int, ...], seed: int) -> "np.ndarray":
    """Return where the pixels of images are hidden, `[N, *image_shape]` of booleans.

    Args:
      mask: "none"; "lower", the lower half; "random", each pixel with probability one half, in each image others;
        "block", a square in the middle of half the height and width; or a `.npy` file of one mask for all, `[H, W]` or
        of the shape of an image, not 0 where it is hidden.
      size: N.
      image_shape: `[H, W]`, `[H, W, C]` or, of vectors, `[D]`. A pixel is hidden in all of its channels.
      seed: of "random".

    Raises:
      ValueError: the file cannot be read, or is of another shape; or vectors have no lower half.
    """
    import numpy as np

    places = image_shape[:2] if len(image_shape) == 3 else image_shape
    if mask == "random":
        hidden = np.random.RandomState(seed).rand(size, *places) < 0.5
    elif mask in MASKS:
        if mask != "none" and len(places) != 2:
            raise ValueError(f"--mask={mask} is of images [H, W] or [H, W, C], and these are of shape {image_shape}")
        hidden = np.zeros(places, bool)
        if mask == "lower":
            hidden[places[0] // 2 :] = True
        elif mask == "block":
            first, last = ([side // 4 for side in places], [side - side // 4 for side in places])
            hidden[first[0] : last[0], first[1] : last[1]] = True
    else:
        hidden = _from_file(Path(mask), places, image_shape)
    if hidden.shape[-len(image_shape) :] != image_shape:
        hidden = hidden[..., None]
    return np.broadcast_to(hidden, (size, *image_shape))


def _from_file(path: Path, places: tuple[int, ...], image_shape: tuple[int, ...]) -> "np.ndarray":
    import numpy as np

    if path.suffix != ".npy":
        raise ValueError(f"--mask takes {', '.join(MASKS)} or a .npy file, got {str(path)!r}")
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif" or not np.all(np.isfinite(values)):
        raise ValueError(f"{path} must hold an array of numbers, not 0 where a pixel is hidden")
    if values.shape not in (places, image_shape):
        raise ValueError(f"{path} has shape {values.shape}, and the images are of shape {image_shape}")
    return values != 0


def channel(noise: str | None) -> "Channel | None":
    """Return the channel that "flips:0.1" or "gaussian:0.5" names.

    Raises:
      ValueError: it names none, or a number is out of range.
    """
    from aevb import posterior

    if noise is None:
        return None
    name, _, number = noise.partition(":")
    makers: dict[str, Any] = {"flips": posterior.flips, "gaussian": posterior.gaussian}
    try:
        value = float(number)
    except ValueError:
        value = None
    if name not in makers or value is None:
        raise ValueError(f"--noise takes flips:PROBABILITY or gaussian:STANDARD_DEVIATION, got {noise!r}")
    return makers[name](value)


def through(noise: str | None, images: "np.ndarray", seed: int) -> "np.ndarray":
    """Return images as they come out of the channel that `noise` names, drawn by a seed."""
    import numpy as np

    if noise is None:
        return images
    name, _, number = noise.partition(":")
    random = np.random.RandomState(seed)
    if name == "flips":
        return np.where(random.rand(*images.shape) < float(number), 1 - images, images)
    return (images + float(number) * random.randn(*images.shape)).astype(images.dtype)
