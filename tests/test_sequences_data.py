"""Data sets of sequences: padding, silence, missing values, and whose files are read."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb.data import DatasetError, lengths_of, padded
from aevb.data.sequences import LazySequences
from aevb.data.sources.co2 import monthly_means
from aevb.data.sources.jsb_chorales import read_rolls
from aevb.data.time_series import read_ts
from tests.own import assert_one_line

RANDOM = np.random.RandomState(0)
LENGTHS = np.array([3, 1, 7, 5] * 5)
VALUES = RANDOM.randn(20, 7, 2).astype(np.float32)
IS_BEFORE_END = (np.arange(7) < LENGTHS[:, None])[..., None]
GARBAGE = np.where(IS_BEFORE_END, VALUES, np.inf).astype(np.float32)

# The float view


def test_padding_is_nan_and_silence_is_not():
    rolls = np.zeros((20, 7, 2), np.uint8)
    x = padded(rolls, LENGTHS)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(x), np.broadcast_to(~IS_BEFORE_END, x.shape))
    np.testing.assert_array_equal(x[np.broadcast_to(IS_BEFORE_END, x.shape)], 0)
    np.testing.assert_array_equal(padded(rolls[2], LENGTHS[2]), x[2])
    np.testing.assert_array_equal(padded(GARBAGE, LENGTHS), padded(VALUES, LENGTHS))


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 5),
        np.array([0, 3]),
        2,
        (slice(0, 4), slice(None), slice(None)),
        (slice(0, 4), slice(1, 3)),
        (2, slice(0, 2), slice(1, 2)),
    ],
)
def test_lazy_sequences_are_indexed_like_the_array_that_they_stand_for(index):
    """Streams and programs index rows, and sharing over devices indexes parts of all axes."""
    lazy = LazySequences(VALUES, LENGTHS)
    np.testing.assert_array_equal(lazy[index], lazy[:][index])


def test_lengths_are_those_of_the_last_observed_steps():
    gaps = VALUES.copy()
    gaps[2, 3] = np.nan  # a whole step in the middle
    gaps[3, 4, 0] = np.nan  # one channel of a last step
    for x in (padded(VALUES, LENGTHS), padded(gaps, LENGTHS)):
        for found in (lengths_of(x), lengths_of(jnp.asarray(x)), jax.jit(lengths_of)(x), jax.vmap(lengths_of)(x)):
            assert found.dtype == np.int32
            np.testing.assert_array_equal(found, LENGTHS)
    assert lengths_of(np.full((3, 2), np.nan)) == 0


@pytest.mark.parametrize(
    ("values", "lengths", "error", "words"),
    [
        (VALUES, LENGTHS + 1, ValueError, "lengths must be from 1 to the 7 steps of values (20, 7, 2), but sequence 2"),
        (VALUES, 0 * LENGTHS, ValueError, "but sequence 0 has length 0"),
        (VALUES, LENGTHS[:5], ValueError, "lengths must have the shape (20,), one length per sequence"),
        (VALUES, LENGTHS / 1, TypeError, "lengths must be integers, the number of steps"),
        (VALUES[0, 0], LENGTHS, ValueError, "sequences must have the shape [N, T, D]"),
        (VALUES[..., None], LENGTHS, ValueError, "sequences must have the shape [N, T, D]"),
    ],
)
def test_lengths_that_do_not_belong_to_the_values(values, lengths, error, words):
    with pytest.raises(error) as caught:
        padded(values, lengths)
    assert_one_line(caught, words)


# JSB chorales


@pytest.fixture(scope="module")
def jsb(real_data, data_dir):
    return aevb.data.load_splits("jsb_chorales", data_dir, real_data)


def test_jsb_chorales_are_those_of_2012(jsb, real_data):
    chorales = json.loads((real_data / "jsb_chorales" / "jsb-chorales-quarter.json").read_text())
    silent = 0
    for split, size, num_steps in (("train", 229, 13_807), ("valid", 76, 4_602), ("test", 77, 4_725)):
        data = getattr(jsb, split)
        rolls, lengths = data.arrays["rolls"], data.arrays["lengths"]
        assert (rolls.shape, rolls.dtype, lengths.dtype) == ((size, 160, 88), np.uint8, np.int32)
        assert (data.split, data.split_rule, lengths.sum()) == (split, "official 229/76/77", num_steps)
        assert rolls.max() == 1
        # Convert every step of every chorale back to the pitches of the file.
        pitches = [
            [[*np.flatnonzero(step) + 21] for step in roll[:end]] for roll, end in zip(rolls, lengths, strict=True)
        ]
        assert pitches == [[sorted(set(step)) for step in chorale] for chorale in chorales[split]]
        x = data.sequences()
        np.testing.assert_array_equal(lengths_of(x), lengths)
        np.testing.assert_array_equal(np.nansum(x, axis=(1, 2)), rolls.sum(axis=(1, 2)))
        silent += int(np.sum(np.nansum(x, axis=2)[~np.isnan(x[..., 0])] == 0))
    assert silent == 64


def test_jsb_chorales_from_either_folder_and_by_split(jsb, real_data, data_dir, tmp_path):
    for source_dir, prepared in ((real_data / "jsb_chorales", tmp_path), (None, data_dir)):
        valid = aevb.data.load("jsb_chorales", "valid", prepared, source_dir)
        np.testing.assert_array_equal(valid.images, jsb.valid.images)
    with pytest.raises(ValueError, match="split must be 'train' or 'valid' or 'test', got 'dev'"):
        aevb.data.load("jsb_chorales", "dev", data_dir)
    assert aevb.data.load_splits("digits", tmp_path).valid is None


def test_every_view_of_sequences_is_padded(jsb):
    x, chosen = jsb.train.sequences(), np.array([5, 0, 228])
    np.testing.assert_array_equal(jsb.train.datapoints(), x)
    np.testing.assert_array_equal(jsb.train.datapoints(lazy=True)[chosen], x[chosen])
    np.testing.assert_array_equal(jsb.train.stream().read(chosen), x[chosen])
    subset, (rest, kept) = jsb.train.subset(10), jsb.train.split_off(20)
    together = np.concatenate([rest.sequences(), kept.sequences()])
    assert sorted(map(bytes, together)) == sorted(map(bytes, x))
    np.testing.assert_array_equal(lengths_of(subset.sequences()), subset.others["lengths"])
    with pytest.raises(TypeError, match=r"data must be arrays of numbers .*: use its \.sequences\(\)"):
        aevb.fit(jsb.train, aevb.mlp_vae((160, 88), 2, 4), key=jax.random.key(0))
    for wrong in (jsb.train.pixels, jsb.train.lazy_pixels):
        with pytest.raises(DatasetError, match=r"use \.sequences\(\)"):
            wrong()


def test_images_are_no_sequences(tmp_path):
    with pytest.raises(DatasetError, match=r"holds images, labels: sequences need an array \[N, T, D\] and lengths"):
        aevb.data.load("digits", "train", tmp_path).sequences()


@pytest.mark.parametrize("contents", ["[]", "{", '{"train": [[[20]]], "valid": [], "test": []}', '{"train": 3}'])
def test_what_is_no_file_of_chorales(tmp_path, contents):
    (path := tmp_path / "jsb.json").write_text(contents)
    with pytest.raises(DatasetError) as caught:
        read_rolls(path)
    assert_one_line(caught, "is not a JSON file of chorales by split, step and pitch", hidden=str(path))


# Actions and speakers


def test_basic_motions(real_data, data_dir):
    splits = aevb.data.load_splits("basic_motions", data_dir, real_data)
    lines = (real_data / "time_series" / "BasicMotions_TEST.ts").read_text().splitlines()[13:]
    for data in (splits.train, splits.test):
        assert (data.images.shape, data.images.dtype, data.split_rule) == ((40, 100, 6), np.float32, "official 40/40")
        assert data.label_names == ("Standing", "Running", "Walking", "Badminton")
        assert list(np.bincount(data.classes())) == [10] * 4
        np.testing.assert_array_equal(data.sequences(), data.images)
    assert splits.test.label_names is not None
    for line, values, label in zip(lines, splits.test.images, splits.test.classes(), strict=True):
        *channels, name = line.split(":")
        np.testing.assert_array_equal(values.T, np.array([each.split(",") for each in channels], np.float32))
        assert splits.test.label_names[label] == name


def test_japanese_vowels(real_data, data_dir):
    splits = aevb.data.load_splits("japanese_vowels", data_dir, real_data)
    assert (splits.train.images.shape, splits.test.images.shape) == ((270, 29, 12), (370, 29, 12))
    assert list(np.bincount(splits.train.classes())) == [30] * 9
    assert list(np.bincount(splits.test.classes())) == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = np.concatenate([splits.train.others["lengths"], splits.test.others["lengths"]])
    assert (lengths.min(), lengths.max()) == (7, 29)
    for data in (splits.train, splits.test):
        np.testing.assert_array_equal(lengths_of(data.sequences()), data.others["lengths"])
        assert np.isnan(data.sequences()).sum() == 12 * (29 - data.others["lengths"]).sum()
    given, chosen = splits.train.datapoints(condition="label"), np.array([7, 3])
    read = splits.train.stream(condition="label").read(chosen)
    for whole, some in zip(given, read, strict=True):
        np.testing.assert_array_equal(whole[chosen], some)


@pytest.mark.parametrize("packages", [("aeon",), ("sktime",), ("aeon", "sktime")])
def test_files_of_an_installed_package(real_data, tmp_path, monkeypatch, packages):
    """The packages need not be importable. The first of two has another version of the files."""
    for package in packages:
        folder = tmp_path / "site" / package / "datasets" / "data" / "BasicMotions"
        folder.mkdir(parents=True)
        (tmp_path / "site" / package / "__init__.py").write_text("raise ImportError('broken')")
        for path in (real_data / "time_series").glob("BasicMotions_*.ts"):
            shutil.copy(path, folder)
            if package != packages[-1]:
                (folder / path.name).write_text("another version")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = aevb.data.load("basic_motions", "test", tmp_path / "data")
    expected = read_ts(real_data / "time_series" / "BasicMotions_TEST.ts")
    np.testing.assert_array_equal(found.images, expected.values)
    downloads = tmp_path / "data" / "downloads" / "aevb_basic_motions"
    assert hashlib.sha256((downloads / "BasicMotions_TEST.ts").read_bytes()).hexdigest().startswith("79213102bc6f")
    assert not list(downloads.glob("*.part"))


def test_no_file_names_the_packages(tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.data.originals._packaged", lambda original: None)
    monkeypatch.setattr("aevb.data.originals._fetch", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(DatasetError, match=r"four alternatives: .*--source_dir.*aeon or sktime, .*experiments\.digits"):
        aevb.data.load("japanese_vowels", "train", tmp_path)


# The .ts format

HEADER = "# A comment\n@problemName Toy\n@timeStamps false\n@dimensions 2\n@classLabel true up down\n@data\n"


def ts(folder: Path, text: str) -> Path:
    (path := folder / "toy.ts").write_text(text)
    return path


def test_what_a_ts_file_says(tmp_path):
    found = read_ts(ts(tmp_path, f"{HEADER}1,2,3:?,5e-1,-6:down\n\n7:8:up\n"))
    expected = [[[1, np.nan], [2, 0.5], [3, -6]], [[7, 8], [np.nan] * 2, [np.nan] * 2]]
    np.testing.assert_array_equal(found.values, np.array(expected, np.float32))
    np.testing.assert_array_equal(found.lengths, [3, 1])
    np.testing.assert_array_equal(found.labels, [1, 0])
    assert found.label_names == ("up", "down")
    alone = read_ts(ts(tmp_path, "@Univariate TRUE\n@classLabel false\n@equalLength true\n@seriesLength 2\n@DATA\n1,2"))
    np.testing.assert_array_equal(alone.values, np.array([[[1], [2]]], np.float32))
    assert alone.labels is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2:3,4", "is not a .ts file: it has no line @data"),
        ("hello\n@data\n", "line 1: lines before @data must begin with @ or #, got 'hello'"),
        (HEADER, "has no series after @data"),
        (f"{HEADER}1,2:3:up", "line 7: all channels of a series must have the same length, got [1, 2]"),
        (f"{HEADER}1:2:3:up", "line 7: the series has 3 channels, not 2"),
        (f"{HEADER}1:2:left", "line 7: the class 'left' is not in @classLabel: up, down"),
        (f"{HEADER}1:2", "line 7: the class '2' is not in"),
        (f"{HEADER}up", "line 7: there are no channels before the class"),
        (f"{HEADER}1:x:up", "line 7: could not convert string to float: 'x'"),
        (f"{HEADER}1::up", "line 7: could not convert string to float: ''"),
        (f"{HEADER}1:1e39:up", "line 7: a value is infinite or exceeds the range of float32"),
        (f"@equalLength true\n@seriesLength 2\n{HEADER}1:1:up", "has 1 steps, not the 2 of @seriesLength"),
        (HEADER.replace("@timeStamps false", "@timeStamps true") + "1:1:up", "time stamps are not supported"),
        (
            HEADER.replace("@timeStamps false", "@timeStamps no") + "1:1:up",
            "@timestamps must be true or false, got 'no'",
        ),
        (HEADER.replace("@dimensions 2", "@dimensions two") + "1:1:up", "@dimensions must be a positive integer"),
        (HEADER.replace("up down", "up up") + "1:1:up", "the names of all classes, each once"),
        (HEADER.replace("true up down", "true") + "1:1:up", "the names of all classes, each once"),
        (f"@targetlabel true\n{HEADER}1:1:up", "with numeric targets are not supported"),
        (f"@univariate true\n{HEADER}1:1:up", "@univariate true contradicts @dimensions 2"),
    ],
)
def test_what_is_wrong_with_a_ts_file(tmp_path, text, words):
    path = ts(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        read_ts(path)
    assert_one_line(caught, words, hidden=str(path))


def test_ts_files_that_cannot_be_read(tmp_path):
    for name, contents in (("missing", None), ("binary", b"\xff\xfe\x00")):
        if contents is not None:
            (tmp_path / name).write_bytes(contents)
        with pytest.raises(DatasetError) as caught:
            read_ts(tmp_path / name)
        assert_one_line(caught, "cannot be read", hidden=str(tmp_path))


# Carbon dioxide


def test_months_without_a_measurement_are_nan(tmp_path):
    (path := tmp_path / "co2.csv").write_text("date,co2\n19991128,1\n19991205,\n20000102,2\n20000109,4.5\n20000116,\n")
    means, first = monthly_means(path)
    np.testing.assert_array_equal(means, [1, np.nan, 3.25])
    assert first == 12 * 1999 + 10
    for contents, words in (
        ("x,y\n", "must begin with the line date,co2"),
        ("date,co2\n20001301,1\n", "line 2: expected YYYYMMDD"),
    ):
        path.write_text(contents)
        with pytest.raises(DatasetError, match=words):
            monthly_means(path)


def test_co2_of_statsmodels(tmp_path):
    if importlib.util.find_spec("statsmodels") is None:
        pytest.skip("statsmodels, which has the file, is not installed")
    train, _, test = aevb.data.load_splits("co2", tmp_path)
    assert (train.images.shape, test.images.shape) == ((1, 394, 1), (1, 394, 1))
    assert (int(train.others["lengths"][0]), int(test.others["lengths"][0])) == (394, 132)
    # March 1958; the test split follows directly, in January 1991.
    assert int(train.others["first_month"][0]) == 12 * 1958 + 2
    assert int(test.others["first_month"][0]) == int(train.others["first_month"][0]) + 394 == 12 * 1991
    series = train.sequences()[0, :, 0]
    missing = [divmod(12 * 1958 + 2 + month, 12) for month in np.flatnonzero(np.isnan(series))]
    assert [(year, month + 1) for year, month in missing] == [(1958, 6), (1958, 10), (1964, 2), (1964, 3), (1964, 4)]
    assert series[0] == np.float32(316.1)
    rise = (np.nanmean(test.sequences()) - np.nanmean(series[-24:])) / 6.5  # years between the centres
    assert 1.2 < rise < 1.9  # parts per million per year
