"""Masks and noise channels for images, as named by the flags `--mask` and `--noise`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from aevb.posterior import Channel

MASKS = ("none", "lower", "random", "block")


def hidden_pixels(mask: str, size: int, image_shape: tuple[int, ...], seed: int) -> "np.ndarray":
    """Return a boolean mask of the hidden pixels, `[N, *image_shape]`.

    Args:
      mask: "none"; "lower", the lower half; "random", each pixel with probability one half, drawn per image; "block", a
        centred block of half the height and width; or a `.npy` file of one mask for all images, `[H, W]` or of the
        shape of an image, nonzero where a pixel is hidden.
      size: The number of images, N.
      image_shape: `[H, W]`, `[H, W, C]` or, for vectors, `[D]`. A pixel is hidden in all of its channels.
      seed: Seed for "random".

    Raises:
      ValueError: If the file cannot be read or has another shape, or if the mask needs images and the data are vectors.
    """
    import numpy as np

    places = image_shape[:2] if len(image_shape) == 3 else image_shape
    if mask == "random":
        hidden = np.random.RandomState(seed).rand(size, *places) < 0.5
    elif mask in MASKS:
        if mask != "none" and len(places) != 2:
            raise ValueError(f"--mask={mask} needs images [H, W] or [H, W, C], got datapoints of shape {image_shape}")
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
        raise ValueError(f"{path} must hold an array of finite numbers, nonzero where a pixel is hidden")
    if values.shape not in (places, image_shape):
        raise ValueError(f"{path} has shape {values.shape}, but the images have shape {image_shape}")
    return values != 0


def channel(noise: str | None) -> "Channel | None":
    """Return the noise channel that `noise` names, such as "flips:0.1" or "gaussian:0.5"; `None` without noise.

    Raises:
      ValueError: If `noise` names no channel, or its number is out of range.
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
    """Return the images after the noise channel that `noise` names, drawn with `seed`."""
    import numpy as np

    if noise is None:
        return images
    name, _, number = noise.partition(":")
    random = np.random.RandomState(seed)
    if name == "flips":
        return np.where(random.rand(*images.shape) < float(number), 1 - images, images)
    return (images + float(number) * random.randn(*images.shape)).astype(images.dtype)
