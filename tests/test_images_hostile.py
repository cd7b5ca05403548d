"""Inputs that `python -m experiments.images` refuses with one line and exit status 2.

Nothing is written. Each case is one process.
"""

import importlib.util
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photographs import LABELS, patches, write_pictures
from tests.refusals import Case, assert_refused

PATCHES = patches()[:12]
FLOATS = (PATCHES / 255).astype(np.float32)


# Folders of pictures


def pictures(words: str, *flags: str, good: int = 12, **files: bytes | np.ndarray | Image.Image) -> Callable:
    """Write some good patches, followed by the given files: `png` for a file of that suffix."""

    def make(folder: Path) -> Case:
        path = write_pictures(folder / "pictures", PATCHES[:good])
        for suffix, contents in files.items():
            if isinstance(contents, bytes):
                (path / f"zzz.{suffix}").write_bytes(contents)
            else:
                image = Image.fromarray(contents) if isinstance(contents, np.ndarray) else contents
                image.save(path / f"zzz.{suffix}")
        return Case(words, (f"--data={path}", *flags))

    return make


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def damaged(contents: bytes) -> bytes:
    middle = len(contents) // 2
    return contents[:middle] + bytes(64) + contents[middle + 64 :]


PATCH = Image.fromarray(PATCHES[0])
NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8))
PNG, JPEG = encoded(NOISE, "PNG"), encoded(NOISE, "JPEG")
MOVING = encoded(PATCH, "GIF", save_all=True, append_images=[NOISE], duration=100)
MOVING_PNG = encoded(PATCH, "PNG", save_all=True, append_images=[NOISE], duration=100)
CLEAR = np.concatenate([PATCHES[0], np.full((32, 32, 1), 100, np.uint8)], axis=-1)


def empty_folder(folder: Path) -> Case:
    (folder / "pictures").mkdir()
    return Case("holds no PNG or JPEG files", [f"--data={folder / 'pictures'}"])


def only_text(folder: Path) -> Case:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "notes.txt").write_text("not a picture")
    return Case("holds no PNG or JPEG files", [f"--data={folder / 'pictures'}"])


def no_permission(folder: Path) -> Case:
    path = write_pictures(folder / "pictures", PATCHES)
    (path / "000.png").chmod(0)
    return Case("cannot be read: Permission denied", [f"--data={path}"])


def a_class_without_pictures(folder: Path) -> Case:
    write_pictures(folder / "pictures" / "one", PATCHES)
    (folder / "pictures" / "two").mkdir()
    return Case("is a class without PNG or JPEG files", [f"--data={folder / 'pictures'}"])


def pictures_beside_folders(folder: Path) -> Case:
    write_pictures(folder / "pictures", PATCHES)
    write_pictures(folder / "pictures" / "one", PATCHES)
    return Case("beside subfolders", [f"--data={folder / 'pictures'}"])


FOLDERS = {
    "an empty folder": empty_folder,
    "only text files": only_text,
    "a damaged PNG": pictures("zzz.png", png=damaged(PNG)),
    "a truncated PNG": pictures("zzz.png", png=PNG[: len(PNG) // 2]),
    "a truncated JPEG": pictures("zzz.jpg", jpg=JPEG[: len(JPEG) // 2]),
    "a damaged JPEG": pictures("zzz.jpg is damaged or not a PNG or JPEG file", jpg=JPEG[:2] + bytes(200)),
    "no bytes": pictures("zzz.png is empty (0 bytes)", png=b""),
    "two sizes": pictures("has 32x32 pixels but", png=PATCHES[0, :30]),
    "colour and grey": pictures("zzz.png is grey: convert all with colour=", png=PATCHES[0, ..., 0]),
    "transparent pixels": pictures("has transparent pixels: lay it on a background", png=CLEAR),
    "CMYK": pictures("has the colour mode CMYK: convert it to RGB", jpg=PATCH.convert("CMYK")),
    "16 bits": pictures("has 16 bits per channel: convert it to 8", png=PATCHES[0, ..., 0].astype(np.uint16) * 257),
    "a GIF renamed": pictures("zzz.png is damaged or not a PNG or JPEG file", png=MOVING),
    "a GIF as it is": pictures("zzz.gif is damaged or not a PNG or JPEG file", gif=MOVING),
    "an animated PNG": pictures("is animated: save a single frame", png=MOVING_PNG),
    "one picture": pictures("has 1 images, too few to set", good=1),
    "two pictures": pictures("has 2 images, too few to set", good=2),
    "all unreadable": pictures("none of 1 pictures can be read", "--skip_unreadable", good=0, png=b"no"),
    "a class without pictures": a_class_without_pictures,
    "pictures beside folders": pictures_beside_folders,
}


def test_folders(tmp_path):
    assert_refused(FOLDERS, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_picture_that_may_not_be_read(tmp_path):
    assert_refused({"no permission": no_permission}, tmp_path)


# Files of arrays


def npy(array: np.ndarray, words: str, *flags: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        np.save(folder / "images.npy", array)
        return Case(words, (f"--data={folder / 'images.npy'}", *flags))

    return make


def npz(words: str, *flags: str, **arrays: np.ndarray) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        np.savez(folder / "images.npz", **arrays)  # pyright: ignore[reportArgumentType]
        return Case(words, (f"--data={folder / 'images.npz'}", *flags))

    return make


def contents(suffix: str, data: bytes, words: str) -> Callable[[Path], Case]:
    def make(folder: Path) -> Case:
        (folder / f"images{suffix}").write_bytes(data)
        return Case(words, [f"--data={folder / f'images{suffix}'}"])

    return make


def saved(array: np.ndarray) -> bytes:
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_value(value: float) -> np.ndarray:
    changed = FLOATS.copy()
    changed[7, 3, 4, 1] = value
    return changed


OBJECTS = np.array([{"a": 1}, [1, 2]], dtype=object)

ARRAYS = {
    "objects": npy(OBJECTS, "holds Python objects, which are not read"),
    "strings": npy(np.full((12, 8), "grey"), "has dtype <U4: images must be uint8, or floats in [0, 1]"),
    "one dimension": npy(PATCHES[:, 0, 0, 0], "has shape (12,), but images must be [N, H, W]"),
    "five dimensions": npy(PATCHES[None], "has shape (1, 12, 32, 32, 3), but images must be [N, H, W]"),
    "no images": npy(PATCHES[:0], "is empty: its shape is (0, 32, 32, 3)"),
    "one image alone": npy(PATCHES[0], "looks like one colour image"),
    "channels first": npy(np.moveaxis(PATCHES, -1, 1), "looks like channels first"),
    "NaN": npy(with_value(np.nan), "has NaN or infinite values, first in image 7"),
    "infinity": npy(with_value(np.inf), "has NaN or infinite values, first in image 7"),
    "above 1": npy(FLOATS * 255, "scale them to [0, 1], for example images / 255 for pixels"),
    "below 0": npy(FLOATS * 2 - 1, "scale them to [0, 1], for example (images + 1) / 2"),
    "int64": npy(PATCHES.astype(np.int64), "convert them with images.astype(numpy.uint8)"),
    "uint16": npy(PATCHES.astype(np.uint16) * 257, "(images / 65535).astype(numpy.float32) keeps 16 bits"),
    "complex numbers": npy(FLOATS.astype(np.complex64), "of dtype complex64"),
    "above max_value": npy(PATCHES, "above max_value=15", "--max_value=15"),
    "max_value of floats": npy(FLOATS, "max_value=255 is for uint8", "--max_value=255"),
    "all black": npy(np.zeros_like(PATCHES), "is uint8 with no value above 0"),
}

ARCHIVES = {
    "npy truncated": contents(".npy", saved(PATCHES)[:5000], "is damaged or not a .npy file"),
    "npy that is none": contents(".npy", b"hello\nworld\n" * 20, "is damaged or not a .npy file"),
    "npy of no bytes": contents(".npy", b"", "is empty (0 bytes)"),
    "npz that is no zip": contents(".npz", b"hello\nworld\n" * 20, "is damaged or not a .npz file"),
    "npz truncated": contents(".npz", zipped(images=saved(PATCHES))[:9000], "is damaged or not a .npz file"),
    "npz of text": contents(".npz", zipped(images=b"hello"), "is damaged or not a .npz file"),
    "npz of nothing": contents(".npz", zipped(), "holds no array"),
    "npz of objects": npz("holds only Python objects, images", images=OBJECTS),
    "npz without images": npz("but none is named images", p=LABELS[:12], q=LABELS[:12]),
    "npz ambiguous": npz("has two arrays of images, images and data: choose with", images=PATCHES, data=PATCHES),
    "npz unnamed": npz("but none is named images", faces=PATCHES, masks=PATCHES),
    "labels of another length": npz("has 12 images but 11 labels", images=PATCHES, labels=LABELS[:11]),
    "labels that are floats": npz("classes must be integers", images=PATCHES, labels=LABELS[:12] / 2),
    "labels below 0": npz("classes must be 0 or more", images=PATCHES, labels=LABELS[:12] - 1),
    "one-hot labels": npz(
        "convert one-hot labels with labels.argmax(1)", images=PATCHES, labels=np.eye(2, dtype=int)[LABELS[:12]]
    ),
    "an image_key that is not there": npz("has no array 'faces'", "--image_key=faces", images=PATCHES),
    "a label_key that is not there": npz("has no array 'kind'", "--label_key=kind", images=PATCHES),
    "splits of two sizes": npz("but those of test are uint8", x_train=PATCHES, x_test=PATCHES[:, :16]),
    "only tests": npz("but no images to train on", x_test=PATCHES),
}


@pytest.mark.slow
def test_arrays(tmp_path):
    assert_refused(ARRAYS, tmp_path)


@pytest.mark.slow
def test_archives(tmp_path):
    assert_refused(ARCHIVES, tmp_path)


# Where the data are, and flags


def good(words: str, *flags: str, suffix: str = ".npy") -> Callable[[Path], Case]:
    """Write good data, for tests of bad flags."""

    def make(folder: Path) -> Case:
        if suffix == ".npy":
            np.save(path := folder / "images.npy", PATCHES)
        else:
            path = write_pictures(folder / "pictures", PATCHES)
        return Case(words, (f"--data={path}", *flags))

    return make


def place(words: str, data: str, *flags: str) -> Callable[[Path], Case]:
    return lambda folder: Case(words, (f"--data={data.format(folder=folder)}", *flags))


def a_file_as_workdir(folder: Path) -> Case:
    (folder / "taken").write_text("mine")
    return good("is a file, not a folder", f"--workdir={folder / 'taken'}")(folder)


def a_file_above_workdir(folder: Path) -> Case:
    (folder / "taken").write_text("mine")
    return good("cannot write to", f"--workdir={folder / 'taken' / 'run'}", "--num_train_samples=100")(folder)


def a_table(folder: Path) -> Case:
    (folder / "images.csv").write_text("1,2,3\n")
    return Case("is not a supported kind of data: supported are", [f"--data={folder / 'images.csv'}"])


HAS_DATASETS = importlib.util.find_spec("datasets") is not None

PLACES = {
    "no data": lambda _: Case("--data must name what to train on"),
    "an empty path": place("the path of the data is empty", ""),
    "a path that is not there": place("does not exist: supported are tfds:NAME", "{folder}/missing"),
    "a file that is not there": place("missing.npy does not exist", "{folder}/missing.npy"),
    "a path of two lines": place("does not exist: supported are", "{folder}/two\nlines"),
    "a file of two lines": place(r"two\nlines.npy does not exist", "{folder}/two\nlines.npy"),
    "a path with a null": place("does not exist", "{folder}/%00.npy"),
    "another suffix": a_table,
    "tfds not there": place("no data set is prepared as 'nothing'", "tfds:nothing", "--data_dir={folder}"),
    "tfds without a name": place("no data set is prepared as ''", "tfds:"),
    "a tfds path not there": place("no data set is prepared in", "tfds:{folder}/nothing"),
    "hf not there": place("does not exist" if HAS_DATASETS else "pip install datasets", "hf:{folder}/nothing"),
    "hf without a name": place("needs a name" if HAS_DATASETS else "pip install datasets", "hf:"),
    "an argument": good("unexpected argument 'more'", "more"),
}

FLAGS = {
    "image_size of 0": good("image_size must be at least 1, got 0", "--image_size=0", suffix=""),
    "image_size below 0": good("image_size must be at least 1, got -1", "--image_size=-1", suffix=""),
    "image_size of letters": good("--image_size takes an integer, got x", "--image_size=x", suffix=""),
    "image_size of arrays": good("image_size is not an option of a .npy or .npz file", "--image_size=8"),
    "colour of arrays": good("colour is not an option of a .npy or .npz file", "--colour=grey"),
    "blue": good("--colour=blue: value should be one of <rgb|grey>", "--colour=blue", suffix=""),
    "test_fraction of 0": good("test_fraction must be positive", "--test_fraction=0"),
    "test_fraction of 1": good("test_fraction must be a number between 0 and 1, got 1.0", "--test_fraction=1"),
    "test_fraction of 2": good("test_fraction must be at most 1, got 2.0", "--test_fraction=2"),
    "test_fraction of NaN": good("test_fraction must be positive and finite, got nan", "--test_fraction=nan"),
    "test_fraction of little": good("too few to set", "--test_fraction=0.001"),
    "max_value of 0": good("max_value must be at least 1, got 0", "--max_value=0"),
    "max_value of 300": good("max_value must be between 1 and 255, got 300", "--max_value=300"),
    "image_key of one array": good("image_key is for .npz files", "--image_key=faces"),
    "batch_size above N": good("batch_size must be between 1 and the size of the data set, 11", "--batch_size=12"),
    "num_train_images above N": good("has 11 train images, not 12", "--num_train_images=12"),
    "num_valid_images of all": good("leave none to train on", "--num_valid_images=11"),
    "patience without validation": good("hold some out with --num_valid_images", "--patience=3"),
    "latent_dim of 0": good("latent_dim must be at least 1, got 0", "--latent_dim=0"),
    "latent_dim twice": good("--latent_dim names a value twice: 2,2", "--latent_dim=2,2"),
    "an unknown flag": good("Unknown command line flag 'source_dir'", "--source_dir=x"),
    "a model that is none": good("--model=unet: value should be one of", "--model=unet"),
    "a likelihood that is none": good("likelihood", "--likelihood=poisson"),
    "a file as workdir": a_file_as_workdir,
    "a file above workdir": a_file_above_workdir,
    "a pattern as workdir": good("choose a path without any of * ? [", "--workdir=run[1]"),
    "a workdir of another system": good("choose a path without any of * ? [", r"--workdir=runs\one"),
}


@pytest.mark.slow
def test_places(tmp_path):
    assert_refused(PLACES, tmp_path)


@pytest.mark.slow
def test_flags(tmp_path):
    assert_refused(FLAGS, tmp_path)
