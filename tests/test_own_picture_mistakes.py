"""Unusable pictures and folders are answered with one line that names the file and a remedy."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aevb.data import DatasetError, from_folder, load_own
from tests.own import COLOUR, GREY, assert_one_line, save

# Pictures: name -> (content that replaces one of ten good files, words of the answer)


def picture(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """Return a PNG that declares 40,000 x 40,000 pixels."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


GOOD = Image.fromarray(COLOUR[0])
SIXTEEN = Image.fromarray(GREY[0].astype(np.uint16) * 257)
PICTURES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", ".png", "is empty (0 bytes)"),
    "text": (b"hello", ".png", "is damaged or not a PNG or JPEG file"),
    "truncated PNG": (picture(GOOD)[:-30], ".png", "5.png"),
    "truncated JPEG": (picture(GOOD, "JPEG")[:-30], ".jpg", "cannot be read: image file is truncated"),
    "a header alone": (picture(GOOD)[:20], ".png", "5.png"),
    "a flipped byte": (picture(GOOD).replace(b"IDAT", b"IDAX"), ".png", "5.png"),
    "transparent": (picture(Image.fromarray(np.full((6, 8, 4), 99, np.uint8))), ".png", "has transparent pixels"),
    "a transparent colour": (
        picture(GOOD, transparency=tuple(COLOUR[0, 0, 0].tolist())),
        ".png",
        "has transparent pixels",
    ),
    "CMYK": (picture(GOOD.convert("CMYK"), "JPEG"), ".jpg", "has the colour mode CMYK: convert it to RGB"),
    "16 bits": (picture(SIXTEEN), ".png", "has 16 bits per channel: convert it to 8"),
    "animated": (picture(GOOD, save_all=True, append_images=[Image.fromarray(COLOUR[1])]), ".png", "is animated"),
    "a GIF": (picture(GOOD, "GIF"), ".gif", "is damaged or not a PNG or JPEG file: convert it to one"),
    "a GIF that is called PNG": (picture(GOOD, "GIF"), ".png", "is damaged or not a PNG or JPEG file"),
    "a WebP": (b"RIFFxxxxWEBP", ".webp", "is damaged or not a PNG or JPEG file: convert it to one"),
    "a bomb": (bomb(), ".png", "declares more than"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name, tmp_path):
    contents, suffix, words = PICTURES[name]
    for index in range(15):
        save(tmp_path / f"{index}.png", COLOUR[index])
    (tmp_path / "5.png").unlink()
    path = tmp_path / f"5{suffix}"
    path.write_bytes(contents)
    with pytest.raises(DatasetError) as caught:
        from_folder(tmp_path)
    assert_one_line(caught, words, str(tmp_path))
    assert str(caught.value).startswith(str(path))
    assert "skip_unreadable leaves such files out and counts them" in str(caught.value)
    with pytest.warns(UserWarning, match="1 of 15 files are skipped"):
        assert from_folder(tmp_path, skip_unreadable=True).train.num_skipped == 1


# Folders: name -> (function that fills an empty folder, words of the answer)


def many(folder: Path, image: np.ndarray, *names: str) -> None:
    for name in names:
        save(folder / name, image)


def loop(folder: Path) -> None:
    many(folder, GREY[0], "a/0.png", "a/1.png")
    (folder / "a" / "again").symlink_to(folder)


def broken_link(folder: Path) -> None:
    many(folder, GREY[0], "0.png")
    (folder / "1.png").symlink_to(folder / "missing.png")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "0.png")


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda folder: None, "holds no PNG or JPEG files"),
    "other files alone": (lambda folder: (folder / "a.txt").write_text("a"), "holds no PNG or JPEG files"),
    "hidden files alone": (lambda folder: many(folder, GREY[0], ".0.png", ".a/1.png"), "holds no PNG or JPEG files"),
    "an empty class": (
        lambda folder: (many(folder, GREY[0], "a/0.png"), (folder / "b").mkdir()),
        "b is a class without PNG or JPEG files: remove it, or add files",
    ),
    "files beside classes": (
        lambda folder: many(folder, GREY[0], "0.png", "a/1.png"),
        "beside subfolders, such as a, which are",
    ),
    "mixed sizes": (
        lambda folder: (many(folder, GREY[0], "0.png"), many(folder, GREY[0, :4], "1.png")),
        "1.png 8x4: image_size= crops all to squares and resizes them",
    ),
    "mixed colours": (
        lambda folder: (many(folder, GREY[0], "0.png"), many(folder, COLOUR[0], "1.png")),
        '1.png is in colour: convert all with colour="rgb" or colour="grey"',
    ),
    "a loop of links": (loop, "again is a link to a folder that contains it: remove it"),
    "a broken link": (broken_link, "1.png cannot be read: No such file or directory"),
    "a pipe": (pipe, "0.png is not a regular file"),
    "a line in a name": (lambda folder: (folder / "a\nb.png").write_bytes(b"x"), "a\\nb.png"),
    "too few": (lambda folder: many(folder, GREY[0], "0.png", "1.png"), "has 2 images, too few"),
    "two folders of tests": (
        lambda folder: many(folder, GREY[0], "train/0.png", "test/0.png", "testing/0.png"),
        "has two folders for one split: test, testing, train",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(name, tmp_path):
    make, words = FOLDERS[name]
    make(tmp_path)
    with pytest.raises(DatasetError) as caught:
        load_own(tmp_path)
    assert_one_line(caught, words, str(tmp_path))


def test_nothing_left_when_all_are_skipped(tmp_path):
    (tmp_path / "0.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"none of 1 pictures can be read: .*0\.png is damaged"):
        from_folder(tmp_path, skip_unreadable=True)
