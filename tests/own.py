"""What the tests of one's own data share."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import aevb

COLOUR = np.random.RandomState(0).randint(0, 256, (40, 6, 8, 3)).astype(np.uint8)
GREY = COLOUR[..., 0]
LABELS = np.arange(40) % 3
LONGEST = 300


def save(path: Path, image: np.ndarray, **options: Any) -> Path:
    """Write a picture, in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def together(splits: aevb.data.Splits) -> np.ndarray:
    """Images to train and to test on."""
    return np.concatenate([splits.train.images, splits.test.images])


def as_set(images: np.ndarray) -> list[bytes]:
    """What is the same for the same images in another order."""
    return sorted(image.tobytes() for image in images)


def train_rows(size: int = 40) -> np.ndarray:
    """Which datapoints are trained on by default."""
    return np.sort(np.random.RandomState(0).permutation(size)[: size - size // 10])


def assert_one_line(caught: Any, words: str, hidden: str = "") -> None:
    """An answer holds `words`, is one line, and without `hidden` is not long; no other error is behind it."""
    message = str(caught.value)
    assert words in message, message
    assert "\n" not in message, message
    assert len(message.replace(hidden, "")) <= LONGEST, message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
