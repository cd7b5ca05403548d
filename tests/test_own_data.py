"""A user's own arrays are read as they were written, and split the same way every time."""

import mmap
from typing import Any

import jax
import numpy as np
import pytest

import aevb
from aevb.data import from_arrays, load_own
from tests.own import COLOUR, GREY, LABELS, as_set, together, train_rows

# Arrays


@pytest.mark.parametrize("images", [COLOUR, GREY, COLOUR.reshape(40, -1), COLOUR[..., :1], GREY / 255])
def test_arrays_of_every_shape(images):
    splits = from_arrays(images, LABELS)
    train, test = splits.train, splits.test
    assert splits.valid is None
    assert (len(train.images), len(test.images)) == (36, 4)
    assert train.image_shape == images.shape[1:]
    assert train.images.dtype == (np.uint8 if images.dtype == np.uint8 else np.float32)
    assert train.split_rule == "random 36/4 by seed 0"
    assert as_set(together(splits)) == as_set(images.astype(train.images.dtype))
    order = np.random.RandomState(0).permutation(40)
    np.testing.assert_array_equal(test.labels, LABELS[np.sort(order[36:])])
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0


def test_pixels_flat_and_shaped():
    train = from_arrays(COLOUR).train
    expected = train.images / np.float32(255)
    np.testing.assert_array_equal(train.pixels(flat=False), expected)
    np.testing.assert_array_equal(train.pixels(), expected.reshape(36, -1))
    np.testing.assert_array_equal(train.lazy_pixels(flat=False)[3:5], expected[3:5])
    floats = from_arrays(COLOUR / 255).train
    np.testing.assert_array_equal(floats.pixels(), (COLOUR / 255).astype(np.float32).reshape(40, -1)[train_rows()])
    for each in (train, floats):
        stream = each.stream(flat=False, block_size=10)
        read = stream.intensities(jax.device_put(stream.read(np.arange(36))), "grey")
        np.testing.assert_array_equal(read, each.pixels(flat=False))


def test_a_dataset_of_ones_own_trains():
    splits = from_arrays(COLOUR)
    model = aevb.mlp_vae((6 * 8 * 3,), 2, 4)
    state, *_ = aevb.fit(
        splits.train.stream(block_size=12),
        model,
        num_epochs=2,
        batch_size=12,
        key=jax.random.key(0),
        test_data=splits.test.pixels(),
    )
    assert np.isfinite(aevb.evaluate(state.params, jax.random.key(0), splits.test.pixels(), model).elbo)


def test_booleans_and_a_max_value():
    np.testing.assert_array_equal(np.unique(from_arrays(GREY > 100).train.pixels()), [0, 1])
    assert from_arrays(GREY // 16, max_value=15).train.pixels().max() == 1
    assert from_arrays((GREY > 100).astype(np.uint8), max_value=1).train.pixels().max() == 1


def test_own_splits_and_label_names():
    splits = from_arrays(
        COLOUR[:20], LABELS[:20], test=COLOUR[20:30], test_labels=LABELS[20:30], valid=COLOUR[30:],
        valid_labels=LABELS[30:], label_names=["a", "b", "c"], name="mine",
    )  # fmt: skip
    assert splits.valid is not None
    assert splits.train.split_rule == "own train/valid/test split, 20/10/10"
    for each in (splits.train, splits.valid, splits.test):
        assert (each.name, each.label_names) == ("mine", ("a", "b", "c"))
    np.testing.assert_array_equal(splits.valid.images, COLOUR[30:])
    np.testing.assert_array_equal(splits.test.labels, LABELS[20:30])


def test_strings_as_labels_are_numbered_over_all_splits():
    splits = from_arrays(
        GREY, np.array(["dog", "cat"] * 20), test=GREY[:3], test_labels=np.array([b"eel", b"cat", b"dog"])
    )
    assert splits.train.label_names == ("cat", "dog", "eel")
    assert splits.test.labels is not None
    assert splits.test.labels.tolist() == [2, 0, 1]


def test_labels_in_one_column_and_a_test_set_without():
    splits = from_arrays(GREY, LABELS[:, None], test=GREY[:4])
    np.testing.assert_array_equal(splits.train.labels, LABELS)
    assert splits.test.labels is None


def is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def test_npy_files_are_mapped(tmp_path):
    np.save(tmp_path / "images.npy", COLOUR)
    np.save(tmp_path / "labels.npy", LABELS)
    splits = from_arrays(tmp_path / "images.npy", tmp_path / "labels.npy", test=COLOUR[:5])
    assert is_mapped(splits.train.images)
    np.testing.assert_array_equal(splits.train.images, COLOUR)
    np.testing.assert_array_equal(splits.train.labels, LABELS)
    assert load_own(str(tmp_path / "images.npy")).train.name == "images"


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train-data", "train-targets", "test-data", "test-targets"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_with_their_own_split(tmp_path, names, save):
    save(tmp_path / "a.npz", **dict(zip(names, (COLOUR[:30], LABELS[:30], COLOUR[30:], LABELS[30:]), strict=True)))
    splits = load_own(tmp_path / "a.npz")
    np.testing.assert_array_equal(splits.train.images, COLOUR[:30])
    np.testing.assert_array_equal(splits.test.images, COLOUR[30:])
    np.testing.assert_array_equal(splits.test.labels, LABELS[30:])


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("x", "y"), ("data", "target"), ("faces", "y"), ("arr_0", "y")]
)
def test_npz_files_without_a_split(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (GREY, LABELS), strict=True)))
    splits = load_own(tmp_path / "a.npz", test_fraction=0.25, seed=3)
    assert (len(splits.train.images), splits.train.split_rule) == (30, "random 30/10 by seed 3")
    assert splits.train.labels is not None


def test_npz_arrays_can_be_chosen(tmp_path):
    np.savez(tmp_path / "a.npz", imgs=GREY, masks=GREY[::-1], shape=LABELS, size=LABELS[::-1])
    train = load_own(tmp_path / "a.npz", image_key="masks", label_key="size").train
    np.testing.assert_array_equal(train.images, GREY[::-1][train_rows()])
    np.testing.assert_array_equal(train.labels, LABELS[::-1][train_rows()])


# Fingerprints


def test_fingerprints_are_of_the_contents(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    np.savez_compressed(tmp_path / "b.npz", images=GREY)
    first = from_arrays(GREY)
    assert first.train.fingerprint == first.test.fingerprint
    assert isinstance(first.train.fingerprint, str)
    assert bytes.fromhex(first.train.fingerprint)
    same = [from_arrays(GREY.copy(order="F")), load_own(tmp_path / "a.npy"), load_own(tmp_path / "b.npz", seed=4)]
    assert {each.train.fingerprint for each in same} == {first.train.fingerprint}
    changed = GREY.copy()
    changed[7, 2, 3] ^= 1
    others = [
        from_arrays(changed), from_arrays(GREY[::-1]), from_arrays(GREY.reshape(40, -1)), from_arrays(GREY, LABELS),
        from_arrays(GREY, LABELS, label_names=["a", "b", "c"]), from_arrays(GREY / 255),
        from_arrays(GREY[:30], test=GREY[30:]),
    ]  # fmt: skip
    assert len({first.train.fingerprint, *(each.train.fingerprint for each in others)}) == 1 + len(others)
    assert first.train.subset(5).fingerprint == first.train.fingerprint


def test_named_data_sets_have_none(tmp_path):
    digits = aevb.data.load("digits", "train", tmp_path)
    assert (digits.fingerprint, digits.label_names, digits.num_skipped) == (None, None, 0)
