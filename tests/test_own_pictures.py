"""Folders of pictures: pixels equal Pillow's, in the order of the file names."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from aevb.data import from_folder, load_own
from tests.own import COLOUR, GREY, as_set, save, together, train_rows


def test_a_folder_of_classes(tmp_path):
    for index, image in enumerate(COLOUR):
        save(tmp_path / ["zebra", "ant"][index % 2] / f"{index:02d}.PNG", image)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "ant" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "zebra" / "notes.txt").write_text("mine")
    (tmp_path / ".hidden").mkdir()
    splits = from_folder(tmp_path)
    assert splits.train.label_names == ("ant", "zebra")
    in_order = np.concatenate([COLOUR[1::2], COLOUR[0::2]])
    np.testing.assert_array_equal(splits.train.images, in_order[train_rows()])
    np.testing.assert_array_equal(splits.train.labels, np.repeat([0, 1], 20)[train_rows()])
    assert splits.train.name == tmp_path.name
    again = load_own(str(tmp_path))
    np.testing.assert_array_equal(again.test.images, splits.test.images)
    assert again.train.fingerprint == splits.train.fingerprint


def test_a_folder_of_splits(tmp_path):
    for index, image in enumerate(GREY):
        save(tmp_path / ["train", "train", "val", "test"][index % 4] / "ab"[index // 4 % 2] / f"{index:02d}.png", image)
    splits = from_folder(tmp_path)
    assert splits.train.split_rule == "own train/valid/test split, 20/10/10"
    np.testing.assert_array_equal(splits.test.images, np.concatenate([GREY[3::8], GREY[7::8]]))
    assert splits.test.labels is not None
    assert splits.test.labels.tolist() == [0] * 5 + [1] * 5


def test_classes_that_are_called_like_splits(tmp_path):
    for index, image in enumerate(GREY):
        save(tmp_path / ["train", "car"][index % 2] / f"{index:02d}.png", image)
    assert from_folder(tmp_path).train.label_names == ("car", "train")


def test_values_are_those_of_pillow(tmp_path):
    """Colour order, JPEG, palettes, bits, opaque alpha, rotation, centre crop, and conversion to grey."""
    smooth = np.add.outer(np.arange(20) * 6, np.arange(30) * 4)[..., None] + np.array([0, 10, 20])
    picture = Image.fromarray(smooth.astype(np.uint8))

    def only(path: Path, **options: Any) -> np.ndarray:
        for index in range(10):
            (path.parent / f"{index}{path.suffix}").write_bytes(path.read_bytes())
        path.unlink()
        return from_folder(path.parent, **options).train.images[0]

    def written(name: str, image: Image.Image, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir()
        image.save(path, **options)
        return path

    np.testing.assert_array_equal(only(written("png/x.png", picture)), np.asarray(picture))
    jpeg = written("jpeg/x.jpg", picture, quality=90)
    expected = np.asarray(Image.open(jpeg))
    np.testing.assert_array_equal(only(jpeg), expected)
    palette = picture.quantize(16)
    np.testing.assert_array_equal(only(written("palette/x.png", palette)), np.asarray(palette.convert("RGB")))
    bits = picture.convert("1")
    np.testing.assert_array_equal(only(written("bits/x.png", bits)), np.asarray(bits.convert("L")))
    opaque = picture.convert("RGBA")
    np.testing.assert_array_equal(only(written("opaque/x.png", opaque)), np.asarray(picture))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = only(written("turned/x.png", picture, exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(picture), -1))
    cropped = only(written("cropped/x.png", picture), image_size=20)
    np.testing.assert_array_equal(cropped, np.asarray(picture)[:, 5:25])
    resized = only(written("resized/x.png", picture), image_size=10)
    fitted = ImageOps.fit(picture, (10, 10), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(resized, np.asarray(fitted))
    grey = only(written("grey/x.png", picture), colour="grey")
    np.testing.assert_array_equal(grey, np.asarray(picture.convert("L")))


def test_mixed_sizes_and_colours_with_a_way_on(tmp_path):
    for index in range(20):
        save(tmp_path / f"{index:02d}.png", (COLOUR if index % 2 else GREY)[index, :, : 6 + index % 3])
    assert from_folder(tmp_path, image_size=4, colour="rgb").train.images.shape == (18, 4, 4, 3)
    assert from_folder(tmp_path, image_size=4, colour="grey").train.images.shape == (18, 4, 4)


def test_unreadable_files_are_skipped_and_counted(tmp_path):
    for index, image in enumerate(COLOUR):
        save(tmp_path / "ab"[index % 2] / f"{index:02d}.png", image)
    (tmp_path / "a" / "02.png").write_bytes(b"")
    (tmp_path / "b" / "39.png").write_bytes((tmp_path / "b" / "37.png").read_bytes()[:60])
    with pytest.warns(UserWarning, match=r"^2 of 40 files are skipped: .*02\.png is empty .*39\.png ") as caught:
        splits = from_folder(tmp_path, skip_unreadable=True)
    assert len(caught) == 1
    assert splits.train.num_skipped == splits.test.num_skipped == 2
    kept = np.concatenate([np.delete(COLOUR[0::2], 1, 0), COLOUR[1::2][:-1]])
    assert as_set(together(splits)) == as_set(kept)
    assert splits.train.labels is not None
    for image, label in zip(splits.train.images, splits.train.labels, strict=True):
        assert image.tobytes() in as_set(COLOUR[label::2])


def test_pillow_is_needed_for_pictures_alone(tmp_path):
    save(tmp_path / "folder" / "0.png", GREY[0])
    np.save(tmp_path / "a.npy", GREY)
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "import aevb\n"
        f"aevb.data.load_own({str(tmp_path / 'a.npy')!r})\n"
        "try: aevb.data.load_own(sys.argv[1])\n"
        "except aevb.data.DatasetError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "folder")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == 'pictures need Pillow, which is not installed: pip install "pillow>=11"\n'
