"""A user's own sequences, `values` and `lengths`, and binarization, which leaves NaN unchanged."""

from typing import Any

import jax
import numpy as np
import pytest

import aevb
from aevb.data import DatasetError, from_arrays, lengths_of, load_own, padded
from aevb.data.binarization import binarize_batch, binarize_once
from aevb.data.stream import read_ahead
from tests.own import assert_one_line

RANDOM = np.random.RandomState(0)
LENGTHS = np.array([3, 1, 7, 5] * 5)
VALUES = RANDOM.randn(20, 7, 2).astype(np.float32)
IS_BEFORE_END = (np.arange(7) < LENGTHS[:, None])[..., None]
GARBAGE = np.where(IS_BEFORE_END, VALUES, np.inf).astype(np.float32)

# A user's own sequences


def test_own_sequences_of_a_file_and_of_arrays(tmp_path):
    values, labels = VALUES.copy(), np.array(["a", "b"] * 10)
    values[2, 1, 0] = np.nan  # not observed
    np.savez(tmp_path / "own.npz", values=np.where(IS_BEFORE_END, values, np.inf), lengths=LENGTHS, labels=labels)
    splits = load_own(tmp_path / "own.npz")
    rows = np.sort(np.random.RandomState(0).permutation(20)[:18])
    np.testing.assert_array_equal(splits.train.sequences(), padded(values, LENGTHS)[rows])
    np.testing.assert_array_equal(splits.train.others["lengths"], LENGTHS[rows])
    assert (splits.train.main, splits.train.label_names) == ("values", ("a", "b"))
    assert sorted(splits.train.arrays) == ["labels", "lengths", "values"]
    others = from_arrays(values, labels, lengths=LENGTHS)
    np.testing.assert_array_equal(others.test.sequences(), splits.test.sequences())
    # Values after the ends do not change the data set; moving an end does.
    assert others.train.fingerprint == splits.train.fingerprint
    longer = np.where(LENGTHS == 1, 2, LENGTHS)
    assert from_arrays(values, labels, lengths=longer).train.fingerprint != splits.train.fingerprint


def test_own_splits_have_one_number_of_steps(tmp_path):
    np.savez(
        tmp_path / "own.npz",
        values_train=VALUES, lengths_train=LENGTHS,
        values_test=VALUES[:4, :5], lengths_test=np.full(4, 5),
        values_valid=VALUES[:3, :2], lengths_valid=np.full(3, 1),
    )  # fmt: skip
    train, valid, test = load_own(tmp_path / "own.npz")
    assert valid is not None
    assert (train.images.shape, valid.images.shape, test.images.shape) == ((20, 7, 2), (3, 7, 2), (4, 7, 2))
    np.testing.assert_array_equal(lengths_of(test.sequences()), [5] * 4)
    np.testing.assert_array_equal(valid.sequences()[:, 0], VALUES[:3, 0])
    again = from_arrays(VALUES, lengths=LENGTHS, test=VALUES[:4, :5], test_lengths=[5] * 4)
    np.testing.assert_array_equal(again.test.sequences(), test.sequences())


@pytest.mark.parametrize(
    ("values", "options", "dtype", "expected"),
    [
        (VALUES > 0, {}, np.uint8, VALUES > 0),
        ((VALUES > 0).astype(np.uint8), {}, np.uint8, VALUES > 0),
        (np.full((20, 7, 2), 200, np.uint8), {}, np.uint8, np.full((20, 7, 2), 200)),
        (np.full((20, 7, 2), 51, np.uint8), {"max_value": 255}, np.uint8, np.full((20, 7, 2), 0.2)),
        (np.full((20, 7, 2), -3), {}, np.float32, np.full((20, 7, 2), -3)),
        (VALUES.astype(np.float64), {}, np.float32, VALUES),
    ],
)
def test_own_sequences_of_any_numbers(values, options, dtype, expected):
    rows = np.sort(np.random.RandomState(0).permutation(20)[:18])
    found = from_arrays(values, lengths=LENGTHS, **options).train
    assert found.images.dtype == dtype
    np.testing.assert_array_equal(found.sequences(), padded(np.float32(expected), LENGTHS)[rows])


OWN_MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "too long": ({"values": VALUES, "lengths": LENGTHS + 1}, "lengths must be from 1 to the 7 steps"),
    "empty": ({"values": VALUES, "lengths": 0 * LENGTHS}, "but sequence 0 has length 0"),
    "too few lengths": ({"values": VALUES, "lengths": LENGTHS[:4]}, "lengths must have the shape (20,)"),
    "float lengths": ({"values": VALUES, "lengths": LENGTHS / 1}, "lengths must be integers"),
    "one channel": ({"values": VALUES[..., 0], "lengths": LENGTHS}, "must be [N, T, D]: pass a single channel as"),
    "four axes": ({"values": VALUES[..., None], "lengths": LENGTHS}, "sequences with lengths must be [N, T, D]"),
    "infinite": ({"values": GARBAGE, "lengths": 0 * LENGTHS + 7}, "infinite or too large for float32, first in"),
    "too large": ({"values": VALUES.astype(np.float64) * 1e40, "lengths": LENGTHS}, "too large for float32"),
    "large integers": ({"values": np.full((20, 7, 2), 2**40), "lengths": LENGTHS}, "has integers above 16,777,216"),
    "text": ({"values": VALUES.astype(str), "lengths": LENGTHS}, "sequences must be numbers or booleans"),
    "nothing observed": ({"values": VALUES * np.nan, "lengths": LENGTHS}, "has only NaN in sequence 0"),
    "no lengths": ({"values": VALUES}, "has values but no lengths, which sequences need"),
    "no values": ({"lengths": LENGTHS}, "none is named images"),
    "lengths of one split": (
        {"values_train": VALUES, "lengths_train": LENGTHS, "values_test": VALUES},
        "['values_test'] has no lengths, but sequences of other splits have them",
    ),
    "lengths of no split": (
        {"values": VALUES, "lengths": LENGTHS, "lengths_test": LENGTHS},
        "has lengths, lengths_test, without images of the same split",
    ),
    "two lengths": ({"values": VALUES, "lengths": LENGTHS, "length": LENGTHS}, "two arrays of lengths, lengths and"),
    "other channels": (
        {"values": VALUES, "lengths": LENGTHS, "values_test": VALUES[..., :1], "lengths_test": LENGTHS},
        "the training sequences are float32 [N, T, 2], but those of test are float32 [N, T, 1]",
    ),
    "labels of another length": (
        {"values": VALUES, "lengths": LENGTHS, "labels": LENGTHS[:3]}, "but 3 labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OWN_MISTAKES)
def test_what_is_wrong_with_own_sequences(tmp_path, case):
    arrays, words = OWN_MISTAKES[case]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DatasetError) as caught:
        load_own(tmp_path / "own.npz")
    assert_one_line(caught, words, hidden=str(tmp_path))


def test_lengths_that_have_no_use(tmp_path):
    np.savez(tmp_path / "own.npz", values=VALUES, lengths=LENGTHS)
    with pytest.raises(ValueError, match="has lengths of its own: do not pass others"):
        from_arrays(tmp_path / "own.npz", lengths=LENGTHS)
    with pytest.raises(ValueError, match="test_lengths are given without test="):
        from_arrays(VALUES, lengths=LENGTHS, test_lengths=LENGTHS)
    with pytest.raises(DatasetError, match="max_value=255 is for uint8"):
        from_arrays(VALUES, lengths=LENGTHS, max_value=255)


# Binarization


@pytest.mark.parametrize("binarization", ["stochastic", "fixed", "threshold"])
def test_nan_is_not_made_silence(binarization):
    x = padded(VALUES > 0, LENGTHS)
    with pytest.raises(ValueError, match=r'data contain NaN, which binarization=.* would draw as a 0: use "grey"'):
        binarize_once(x, binarization)
    np.testing.assert_array_equal(binarize_once(x, "grey"), x)


def test_nan_is_not_made_silence_in_a_batch():
    x = padded(VALUES > 0, LENGTHS)
    with pytest.raises(ValueError, match="data contain NaN"):
        binarize_batch(jax.random.key(0), x, "stochastic")
    np.testing.assert_array_equal(binarize_batch(jax.random.key(0), x, "grey"), x)


def late(bad: float) -> aevb.Stream:
    """Pixels in four blocks, the last of which has a bad value."""
    pixels = np.full((40, 6), 0.5, np.float32)
    pixels[37, 2] = bad
    return aevb.Stream(pixels, block_size=10)


@pytest.mark.parametrize("binarization", ["stochastic", "threshold"])
@pytest.mark.parametrize(("bad", "words"), [(np.nan, "data contain NaN"), (1.5, "needs probabilities")])
def test_a_late_block_of_a_stream_is_looked_at(binarization, bad, words):
    blocks = read_ahead(late(bad), np.arange(40).reshape(4, 10), 10, binarization)
    for _ in range(3):
        assert next(blocks).shape == (10, 6)
    with pytest.raises(ValueError, match=words):
        next(blocks)
    np.testing.assert_array_equal(
        next(read_ahead(late(bad), [np.array([37])], 1))[0], late(bad).read(np.array([37]))[0]
    )


def test_training_looks_at_late_blocks(barely_optimized):
    options = {"key": jax.random.key(0), "num_epochs": 1, "batch_size": 10, "binarization": "threshold"}
    with pytest.raises(ValueError, match="data contain NaN"):
        aevb.fit(late(np.nan), aevb.mlp_vae((6,), 2, 4), **options)
