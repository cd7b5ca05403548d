"""Shared parts of the tests of a user's own data."""

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
    """Write a picture in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def together(splits: aevb.data.Splits) -> np.ndarray:
    """Return all images, training and test."""
    return np.concatenate([splits.train.images, splits.test.images])


def as_set(images: np.ndarray) -> list[bytes]:
    """Return a value that does not depend on the order of the images."""
    return sorted(image.tobytes() for image in images)


def train_rows(size: int = 40) -> np.ndarray:
    """Return the datapoints that are trained on by default."""
    return np.sort(np.random.RandomState(0).permutation(size)[: size - size // 10])


def assert_one_line(caught: Any, words: str, hidden: str = "") -> None:
    """Require an answer of one short line that contains `words`, and no other error behind it.

    `hidden` does not count towards its length.
    """
    message = str(caught.value)
    assert words in message, message
    assert "\n" not in message, message
    assert len(message.replace(hidden, "")) <= LONGEST, message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
