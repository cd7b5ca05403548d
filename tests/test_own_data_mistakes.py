"""Mistakes in a user's own data are answered with one line that names the file and a remedy, and leave no files."""

import io
import os
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aevb.data import DatasetError, from_arrays, from_folder, load_own
from tests.own import COLOUR, GREY, LABELS, assert_one_line, save

FLOATS = GREY / np.float32(255)
OBJECTS = np.array([{"a": 1}, None], dtype=object)


def with_value(value: float) -> np.ndarray:
    changed = FLOATS.copy()
    changed[7, 2, 3] = value
    return changed


# Arrays: name -> (call, words of the answer)

ARRAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: from_arrays(with_value(np.nan)), "images has NaN or infinite values, first in image 7"),
    "infinity": (lambda: from_arrays(with_value(np.inf)), "first in image 7: replace or remove them"),
    "minus infinity": (lambda: from_arrays(with_value(-np.inf)), "first in image 7"),
    "pixels as floats": (
        lambda: from_arrays(FLOATS * 255),
        "scale them to [0, 1], for example images / 255 for pixels",
    ),
    "floats of both signs": (lambda: from_arrays(2 * FLOATS - 1), "(images + 1) / 2 from [-1, 1]"),
    "uint16": (lambda: from_arrays(GREY.astype(np.uint16) * 257), "(images / 65535).astype(numpy.float32)"),
    "int64 of pixels": (lambda: from_arrays(GREY.astype(np.int64)), "convert them with images.astype(numpy.uint8)"),
    "negative integers": (lambda: from_arrays(GREY.astype(np.int64) - 9), "scale them to floats in [0, 1]"),
    "complex numbers": (lambda: from_arrays(FLOATS * 1j), "dtype complex64, not of numbers"),
    "dates": (lambda: from_arrays(GREY.astype("datetime64[s]")), "dtype datetime64[s], not of numbers"),
    "strings": (lambda: from_arrays(GREY.astype(str)), "images must be uint8, or floats in [0, 1]"),
    "objects": (lambda: from_arrays(OBJECTS), "dtype object, not of numbers"),
    "a structured array": (lambda: from_arrays(np.zeros(9, "u1,f4")), "not of numbers"),
    "ragged lists": (lambda: from_arrays([[1, 2], [3]]), "cannot be made one array"),
    "nothing": (lambda: from_arrays(None), "dtype object, not of numbers"),
    "masked values": (lambda: from_arrays(np.ma.masked_less(GREY, 9)), "is a masked array with missing values"),
    "no images": (lambda: from_arrays(GREY[:0]), "is empty: its shape is (0, 6, 8)"),
    "images of no pixels": (lambda: from_arrays(GREY[:, :0]), "is empty: its shape is (40, 0, 8)"),
    "one axis": (lambda: from_arrays(GREY[:, 0, 0]), "has shape (40,), but images must be [N, H, W]"),
    "five axes": (lambda: from_arrays(GREY[None, None]), "has shape (1, 1, 40, 6, 8), but images must be"),
    "one number": (lambda: from_arrays(7), "has shape (), but images must be"),
    "one picture": (lambda: from_arrays(COLOUR[0]), "looks like one colour image"),
    "channels first": (lambda: from_arrays(np.moveaxis(COLOUR, -1, 1)), "numpy.moveaxis(images, 1, -1)"),
    "too few": (lambda: from_arrays(GREY[:9]), "has 9 images, too few to set 10% aside"),
    "too few for that fraction": (lambda: from_arrays(GREY, test_fraction=0.001), "too few to set"),
    "bits as bytes": (lambda: from_arrays((GREY > 9).astype(np.uint8)), "no value above 1: pass max_value=1 if"),
    "black images": (lambda: from_arrays(GREY * 0), "no value above 0"),
    "a max_value below the pixels": (lambda: from_arrays(GREY, max_value=9), "is 255, above max_value=9"),
    "a max_value of floats": (lambda: from_arrays(FLOATS, max_value=255), "max_value=255 is for uint8"),
    "labels of another length": (lambda: from_arrays(GREY, LABELS[:5]), "images has 40 images but 5 labels"),
    "one-hot labels": (lambda: from_arrays(GREY, np.eye(40)), "not [N]: convert one-hot labels with labels.argmax(1)"),
    "labels as floats": (lambda: from_arrays(GREY, LABELS / 2), "classes must be integers"),
    "negative labels": (lambda: from_arrays(GREY, LABELS - 1), "range from -1 to 1: classes must be 0 or more"),
    "huge labels": (lambda: from_arrays(GREY, np.full(40, 2**63, np.uint64)), "classes must be 0 or more"),
    "labels as objects": (
        lambda: from_arrays(GREY, np.array([None] * 40)),
        "the labels of images is an array of dtype",
    ),
    "labels without a name": (lambda: from_arrays(GREY, LABELS, label_names=["a"]), "there are 1 label_names"),
    "strings and numbers": (
        lambda: from_arrays(GREY, LABELS, test=GREY[:2], test_labels=["a", "b"]),
        "are strings and of others numbers",
    ),
    "names of strings": (
        lambda: from_arrays(GREY, ["a", "b"] * 20, label_names=["a", "b"]),
        "label_names are for numeric labels",
    ),
    "tests of another shape": (
        lambda: from_arrays(GREY, test=GREY[:, :3]),
        "those of test are uint8 from 0 to 255 with shape",
    ),
    "tests of another dtype": (lambda: from_arrays(GREY, test=FLOATS), "those of test are float32"),
    "tests of bits": (lambda: from_arrays(GREY, test=GREY > 9), "those of test are uint8 from 0 to 1"),
}

WRONG_ARGUMENTS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a fraction of all": (lambda: from_arrays(GREY, test_fraction=1.0), ValueError, "test_fraction must be a number"),
    "a fraction in percent": (lambda: from_arrays(GREY, test_fraction=10), ValueError, "got 10"),
    "a negative seed": (lambda: from_arrays(GREY, seed=-1), ValueError, "seed must be between 0"),
    "a seed that is no integer": (lambda: from_arrays(GREY, seed=0.5), TypeError, "seed must be an integer"),
    "a max_value above bytes": (lambda: from_arrays(GREY, max_value=256), ValueError, "between 1 and 255"),
    "test labels without a test": (lambda: from_arrays(GREY, test_labels=LABELS), ValueError, "given without test="),
    "names as one string": (lambda: from_arrays(GREY, LABELS, label_names="abc"), TypeError, "sequence of strings"),
    "an array as a spec": (lambda: load_own(GREY), TypeError, "use from_arrays for arrays"),
    "an array as a folder": (lambda: from_folder(GREY), TypeError, "takes the path of a folder"),
    "an image_size of 0": (lambda: from_folder(".", 0), ValueError, "image_size must be at least 1"),
    "an unknown colour": (lambda: from_folder(".", colour="blue"), ValueError, 'colour must be "rgb" or "grey"'),
    "an option of another kind": (
        lambda: load_own("a.npy", image_size=4),
        ValueError,
        "image_size is not an option of a .npy or .npz file, which takes image_key",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name):
    call, words = ARRAYS[name]
    with pytest.raises(DatasetError) as caught:
        call()
    assert_one_line(caught, words)


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_arguments(name):
    call, error, words = WRONG_ARGUMENTS[name]
    with pytest.raises(error) as caught:
        call()
    assert_one_line(caught, words)


# Files of arrays: name -> (function that writes the file at a path, its suffix, words of the answer)


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def declared(shape: tuple[int, ...]) -> bytes:
    """Return a `.npy` file that declares a shape and holds ten bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(10)


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, contents in members.items():
            archive.writestr(f"{name}.npy", contents)
    return file.getvalue()


def savez(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


FILES: dict[str, tuple[bytes, str, str]] = {
    "an empty .npy": (b"", ".npy", "is empty (0 bytes)"),
    "a truncated .npy": (npy(GREY)[:500], ".npy", "is damaged or not a .npy file"),
    "a header of a .npy alone": (npy(GREY)[:20], ".npy", "is damaged or not a .npy file"),
    "text as .npy": (b"1,2,3\n4,5,6\n", ".npy", "is damaged or not a .npy file"),
    "a .npy that declares terabytes": (declared((2**20, 2**20)), ".npy", "is damaged or not a .npy file"),
    "a .npy of objects": (npy(OBJECTS, allow_pickle=True), ".npy", "holds Python objects, which are not read"),
    "an empty .npz": (b"", ".npz", "is empty (0 bytes)"),
    "a .npz that is no zip": (npy(GREY), ".npz", "is damaged or not a .npz file"),
    "a truncated .npz": (savez(images=GREY)[:-200], ".npz", "is damaged or not a .npz file"),
    "a .npz with a flipped byte": (savez(images=GREY).replace(GREY[3].tobytes(), GREY[4].tobytes()), ".npz", "CRC"),
    "a .npz of nothing": (npz(), ".npz", "holds no array: save numbers"),
    "a .npz of objects": (npz(images=npy(OBJECTS, allow_pickle=True)), ".npz", "holds only Python objects, images"),
    "a .npz that declares terabytes": (
        npz(images=declared((2**20, 2**20))),
        ".npz",
        "declares 1,099,511,627,776 bytes",
    ),
    "a .npz of text": (npz(images=b"hello"), ".npz", "is damaged or not a .npz file"),
    "unknown names": (savez(a=GREY, b=GREY), ".npz", "holds a, b, but none is named images, x or data"),
    "two arrays of images": (
        savez(x=GREY, data=GREY),
        ".npz",
        "two arrays of images, x and data: choose with image_key=",
    ),
    "two arrays of labels": (savez(x=GREY, y=LABELS, label=LABELS), ".npz", "choose with label_key="),
    "labels alone": (savez(y=LABELS), ".npz", "but none is named images"),
    "labels of no images": (savez(x=GREY, y_test=LABELS), ".npz", "has labels, y_test, without images"),
    "tests alone": (savez(x_test=GREY), ".npz", "has x_test but no images to train on"),
    "a table of text": (b"1,2\n", ".csv", "is not a supported kind of data: supported are tfds:NAME, hf:NAME, a .npy"),
    "a file without a suffix": (b"1,2\n", "", "is not a supported kind of data"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    contents, suffix, words = FILES[name]
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(contents)
    with pytest.raises(DatasetError) as caught:
        load_own(path)
    assert_one_line(caught, words, str(tmp_path))
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_with_tests_of_its_own_and_more(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=GREY[:30], x_test=GREY[30:])
    with pytest.raises(ValueError, match=r"has a test split of its own: leave test= out"):
        from_arrays(tmp_path / "a.npz", test=GREY)
    with pytest.raises(ValueError, match="test= takes the images of one split, but a has train, test"):
        from_arrays(GREY, test=tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=GREY, y=LABELS)
    with pytest.raises(ValueError, match="has labels of its own: do not pass others"):
        from_arrays(tmp_path / "b.npz", LABELS)
    with pytest.raises(DatasetError, match=r"labels\.csv is not a \.npy file of labels"):
        from_arrays(GREY, tmp_path / "labels.csv")
    with pytest.raises(ValueError, match=r"image_key is for \.npz files with several arrays"):
        load_own(tmp_path / "a.npy", image_key="x")
    with pytest.raises(DatasetError, match=r"has no array 'z': it holds x, y"):
        load_own(tmp_path / "b.npz", image_key="z")


def test_paths_that_are_not_there(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for spec in ("missing.npy", "missing.npz", "missing", "missing/folder"):
        with pytest.raises(DatasetError, match="does not exist") as caught:
            load_own(tmp_path / spec)
        assert_one_line(caught, spec, str(tmp_path))
    with pytest.raises(DatasetError, match="does not exist"):
        from_folder(tmp_path / "missing")
    with pytest.raises(DatasetError, match=r"pipe\.npy is not a regular file"):
        load_own(tmp_path / "pipe.npy")
    with pytest.raises(DatasetError, match="is empty: supported are tfds:NAME, hf:NAME"):
        load_own("")
    with pytest.raises(DatasetError, match=r"a\\x00b\.npy"):
        load_own("a\0b.npy")
    for spec in ("~nobody/a", "~nobody/a.npy", "x" * 5000):
        with pytest.raises(DatasetError, match=r"does not exist|File name too long"):
            load_own(spec)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_that_may_not_be_read(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    save(tmp_path / "folder" / "a.png", GREY[0])
    for path in (tmp_path / "a.npy", tmp_path / "folder" / "a.png"):
        path.chmod(0)
    for spec in ("a.npy", "folder"):
        with pytest.raises(DatasetError, match="Permission denied"):
            load_own(tmp_path / spec)
