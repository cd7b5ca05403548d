"""Damaged files of a user's own data: reading returns usable data, or raises the project's error in one line."""

import io
import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import aevb
from aevb.data import DatasetError, from_folder, load_own
from tests.own import COLOUR, GREY, LABELS
from tests.test_fuzz import hostile_input, mutated


def written(kind: str) -> bytes:
    file = io.BytesIO()
    if kind in ("PNG", "JPEG"):
        Image.fromarray(COLOUR[0]).save(file, kind)
    elif kind == "palette":
        Image.fromarray(COLOUR[0]).quantize(8).save(file, "PNG")
    elif kind == "npy":
        np.save(file, GREY)
    elif kind == "floats":
        np.save(file, GREY / np.float32(255))
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(file, x_train=GREY[:30], y_train=LABELS[:30], x_test=GREY[30:], y_test=LABELS[30:])
    return file.getvalue()


def read_or_refused(read: Callable[[], aevb.data.Splits]) -> aevb.data.Splits | None:
    with hostile_input():
        try:
            return read()
        except DatasetError as error:
            message = str(error)
    assert "\n" not in message
    return None


def assert_can_be_modelled(splits: aevb.data.Splits) -> None:
    for data in (splits.train, splits.test):
        pixels = data.pixels()
        assert pixels.dtype == np.float32
        assert pixels.ndim == 2
        assert np.all((pixels >= 0) & (pixels <= 1))
        assert data.labels is None or (data.labels.dtype == np.int64 and len(data.labels) == len(pixels))


@pytest.mark.parametrize("kind", ["npy", "floats", "npz", "compressed"])
def test_files_of_arrays(kind, tmp_path):
    rng, contents = random.Random(4), written(kind)
    path = tmp_path / f"a.{'npz' if kind in ('npz', 'compressed') else 'npy'}"
    refused = 0
    for _ in range(400):
        path.write_bytes(mutated(rng, contents))
        splits = read_or_refused(lambda: load_own(path))
        if splits is None:
            refused += 1
        else:
            assert_can_be_modelled(splits)
    assert refused > 100


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "palette"])
def test_pictures(kind, tmp_path):
    rng, contents = random.Random(5), written(kind)
    suffix = "jpg" if kind == "JPEG" else "png"
    for index in range(20):
        (tmp_path / f"{index:02d}.{suffix}").write_bytes(contents)
    path, refused = tmp_path / f"07.{suffix}", 0
    for _ in range(400):
        path.write_bytes(mutated(rng, contents))
        splits = read_or_refused(lambda: from_folder(tmp_path))
        if splits is None:
            refused += 1
        else:
            assert_can_be_modelled(splits)
    assert refused > 100
