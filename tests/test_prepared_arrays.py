"""Prepared arrays of any shape and dtype, which are not used after their originals or definition changed."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aevb
from aevb.data import DatasetError, Feature
from aevb.data.cache import cache_dir
from aevb.data.source import Arrays, Source, random_split

# Arrays prepared from other originals


@pytest.fixture
def registered(monkeypatch) -> Source:
    """Register a data set read from `images.npy` in the folder of originals, which it does not declare."""
    monkeypatch.setattr(aevb.data.SOURCES, "_added", {})
    read = lambda folder: {"full": Arrays(np.load(folder / "images.npy"), None)}
    rules = {"random": random_split(10, 8, 0)}
    return aevb.data.register(Source("of_files", "1.0.0", (), (2, 3), 255, 0, {"full": 10}, read, rules))


def test_a_changed_original_is_read_again(registered, tmp_path):
    originals_dir, prepared = tmp_path / "originals", tmp_path / "data"
    originals_dir.mkdir()
    load = lambda source_dir=originals_dir: aevb.data.load("of_files", "train", prepared, source_dir).images
    for value in (1, 2):
        np.save(originals_dir / "images.npy", np.full((10, 2, 3), value, np.uint8))
        assert set(load().ravel()) == {value}
    assert set(load(None).ravel()) == {2}  # nothing to compare to
    shutil.rmtree(cache_dir(registered, prepared))
    np.save(originals_dir / "images.npy", np.full((10, 2, 3), 3, np.uint8))
    assert set(load().ravel()) == {3}  # the records are not used either
    before = cache_dir(registered, prepared).stat().st_ino
    assert set(load().ravel()) == {3}
    assert cache_dir(registered, prepared).stat().st_ino == before  # nothing is prepared again if nothing changed


def test_a_changed_definition_is_read_again(registered, tmp_path):
    np.save(tmp_path / "images.npy", np.ones((10, 2, 3), np.uint8))
    aevb.data.load("of_files", "train", tmp_path / "data", tmp_path)
    (tmp_path / "images.npy").unlink()
    reshaped = lambda folder: {"full": Arrays(np.zeros((10, 3, 2), np.uint8), None)}
    aevb.data.register(dataclasses.replace(registered, image_shape=(3, 2), read=reshaped))
    assert aevb.data.load("of_files", "train", tmp_path / "data").images.shape == (8, 3, 2)


def test_declared_originals_are_verified_when_they_changed(real_data, tmp_path):
    folder = tmp_path / "originals"
    shutil.copytree(real_data / "frey_face", folder)
    load = lambda: aevb.data.load("frey_face", "train", tmp_path / "data", folder)
    images = load().images
    path = folder / "frey_rawface.mat"
    path.touch()  # another modification time, the same contents
    np.testing.assert_array_equal(load().images, images)
    contents = bytearray(path.read_bytes())
    contents[5000] ^= 1
    path.write_bytes(contents)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"frey_rawface\.mat is damaged or another file: its SHA-256 is"):
            load()
    path.unlink()
    with pytest.raises(DatasetError, match=r"frey_rawface\.mat is missing"):
        load()
    shutil.rmtree(folder)
    with pytest.raises(DatasetError, match="is not a folder"):
        load()


def test_what_an_earlier_version_prepared_is_used(tmp_path):
    from aevb.data.sources.digits import SOURCE

    images = aevb.data.load("digits", "train", tmp_path).images
    shutil.rmtree(cache_dir(SOURCE, tmp_path))
    (tmp_path / "aevb_digits" / "1.0.0" / "made_of.json").unlink()
    (records,) = tmp_path.glob("aevb_digits/1.0.0/*array_record*")
    before = records.stat().st_ino
    np.testing.assert_array_equal(aevb.data.load("digits", "train", tmp_path).images, images)
    assert records.stat().st_ino == before


# Named arrays


def sequences(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    del folder
    generator, lengths = np.random.RandomState(0), np.arange(50) % 7 + 1
    values = np.where(np.arange(7)[:, None] < lengths[:, None, None], generator.rand(50, 7, 3), np.nan)
    return {
        "full": {
            "values": values.astype(np.float32),
            "lengths": lengths.astype(np.int64),
            "pictures": generator.randint(0, 256, (50, 2, 2, 3)).astype(np.uint8),
            "weights": generator.rand(50),
            "is_new": lengths > 3,
            "labels": lengths.astype(np.int64) % 2,
        }
    }


FEATURES = {
    "values": Feature((7, 3), np.float32),
    "lengths": Feature((), np.int64),
    "pictures": Feature((2, 2, 3), np.uint8),
    "weights": Feature((), np.float64),
    "is_new": Feature((), bool),
    "labels": Feature((), np.int64),
}


def of_sequences(features: Any = FEATURES, read: Any = sequences) -> Source:
    return Source.of_features("sequences", "1.0.0", features, {"full": 50}, read, {"random": random_split(50, 40, 0)})


def test_named_arrays_of_any_shape(monkeypatch, tmp_path):
    monkeypatch.setattr(aevb.data.SOURCES, "_added", {})
    source = aevb.data.register(of_sequences())
    whole, rows = sequences(tmp_path)["full"], source.split_rules["random"].select("train")[1]
    for origin in ("prepared", "cached", "records"):
        if origin == "records":
            shutil.rmtree(cache_dir(source, tmp_path))
        train = aevb.data.load("sequences", "train", tmp_path)
        assert train.arrays.keys() == whole.keys()
        for name, array in train.arrays.items():
            assert array.dtype == whole[name].dtype
            np.testing.assert_array_equal(array, whole[name][rows])
        np.testing.assert_array_equal(train.images, train.arrays["values"])
        np.testing.assert_array_equal(train.labels, whole["labels"][rows])
    rest, valid = aevb.data.load("sequences", "train", tmp_path).split_off(10)
    np.testing.assert_array_equal(np.isnan(valid.images[:, :, 0]).sum(1), 7 - valid.arrays["lengths"])
    assert len(rest.arrays["weights"]) == 30


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"values": FEATURES["values"]}, "declares values in 'full', but `read` returned values, lengths, pictures"),
        (FEATURES | {"values": Feature((7,), np.float32)}, r"declares values of float32 and shape \(50, 7\) in 'full'"),
        (
            FEATURES | {"lengths": Feature((), np.int32)},
            r"of int32 and shape \(50,\) in 'full', but `read` returned int64 of shape",
        ),
    ],
)
def test_arrays_that_are_not_as_declared(monkeypatch, tmp_path, features, message):
    monkeypatch.setattr(aevb.data.SOURCES, "_added", {})
    aevb.data.register(of_sequences(features))
    with pytest.raises(DatasetError, match=message):
        aevb.data.load("sequences", "train", tmp_path)


def test_features_that_cannot_be_declared():
    with pytest.raises(TypeError, match="a Feature must have a dtype of numbers or booleans, got <U3"):
        Feature((), "<U3")
    with pytest.raises(TypeError, match=r"the feature values must be an aevb\.data\.Feature, got \(7, 3\)"):
        of_sequences({"values": (7, 3)})
    with pytest.raises(ValueError, match=r"an identifier, got '\.\./values'"):
        of_sequences({"../values": FEATURES["values"]})
    with pytest.raises(ValueError, match="needs at least one feature"):
        of_sequences({})
