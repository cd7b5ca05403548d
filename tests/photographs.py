"""Patches of real photographs, as files of every kind that `python -m experiments.images` takes."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

NUM_PATCHES, SIDE = 64, 32
LABELS = np.arange(NUM_PATCHES) % 2
NAMES = ("china", "flower")
"""The class of label 0 and that of label 1: which photograph a patch was cut from."""


@functools.cache
def patches() -> np.ndarray:
    """Return colour patches `[64, 32, 32, 3]` uint8 of two photographs in turn, at random positions."""
    photographs = load_sample_images().images
    rng = np.random.RandomState(0)
    found = []
    for label in LABELS:
        photograph = photographs[label]
        top, left = (rng.randint(length - SIDE + 1) for length in photograph.shape[:2])
        found.append(photograph[top : top + SIDE, left : left + SIDE])
    return np.stack(found)


def write_pictures(folder: Path, images: np.ndarray, suffix: str = ".png") -> Path:
    """Write one file per image, whose names sort in the order of the images; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03}{suffix}")
    return folder
