"""A folder of PNG and JPEG files, whose subfolders are classes or splits."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aevb.data.own.contents import SPLIT_WORDS, Contents, Options, Part
from aevb.data.own.pictures import Pictures, read_pictures, shown
from aevb.data.source import DatasetError

OPTIONS = ("image_size", "colour", "skip_unreadable", "max_value")

_READ = {".png", ".jpg", ".jpeg"}
_NOT_READ = {".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".apng", ".ppm", ".pgm"}
_OF_SYSTEMS = {"thumbs.db", "desktop.ini", "__macosx"}


class _Labelled(NamedTuple):
    """The picture files of one split, and their classes if subfolders are classes."""

    files: list[Path]
    classes: list[str] | None


def read(spec: str, options: Options) -> Contents:
    """Read a folder; see `from_folder`."""
    folder = Path(os.path.expanduser(spec))
    name = folder.resolve().name or str(folder)
    splits = {split: _labelled(inside) for split, inside in _split_folders(folder).items()}
    files = [path for labelled in splits.values() for path in labelled.files]
    pictures = read_pictures(((str(path), path) for path in files), len(files), options)
    kept, start, parts = np.array(pictures.kept), 0, {}
    for split, labelled in splits.items():
        end = start + len(labelled.files)
        parts[split] = _part(folder, pictures, labelled, kept, start, end)
        start = end
    return Contents(name, parts, None, pictures.num_skipped)


def _part(folder: Path, pictures: Pictures, labelled: _Labelled, kept: np.ndarray, start: int, end: int) -> Part:
    """Return the pictures of one split: the files from `start` to `end`, without skipped ones."""
    first, last = np.searchsorted(kept, (start, end))
    images = pictures.images[first:last]
    if labelled.classes is None:
        return Part(images, None, str(folder))
    return Part(images, np.array(labelled.classes)[kept[first:last] - start], str(folder))


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return the subfolders of the splits if all subfolders are splits, else the folder itself as "train"."""
    files, folders = _listed(folder)
    words = {SPLIT_WORDS.get(each.name.lower()): each for each in folders}
    if files or None in words or "train" not in words:
        return {"train": folder}
    if len(words) < len(folders):
        raise DatasetError(f"{folder} has two folders for one split: {', '.join(each.name for each in folders)}")
    return {split: words[split] for split in ("train", "valid", "test") if split in words}


def _labelled(folder: Path) -> _Labelled:
    files, folders = _listed(folder)
    if files and folders:
        raise DatasetError(
            f"{folder} has pictures, such as {shown(files[0].name)}, beside subfolders, such as "
            f"{shown(folders[0].name)}, which are classes: move the pictures into one of them"
        )
    if not folders:
        if not files:
            raise DatasetError(f"{folder} holds no PNG or JPEG files")
        return _Labelled(files, None)
    found, classes = [], []
    for each in folders:
        inside = list(_below(each, (_identity(folder),)))
        if not inside:
            raise DatasetError(f"{shown(str(each))} is a class without PNG or JPEG files: remove it, or add files")
        found += inside
        classes += [each.name] * len(inside)
    return _Labelled(found, classes)


def _below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the picture files of a folder and of its subfolders, in order."""
    identity = _identity(folder)
    if identity in above:
        raise DatasetError(f"{shown(str(folder))} is a link to a folder that contains it: remove it")
    files, folders = _listed(folder)
    yield from files
    for each in folders:
        yield from _below(each, (*above, identity))


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the picture files and the subfolders of a folder, sorted by name, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)
            folders = [Path(entry.path) for entry in found if entry.is_dir()]
            files = [Path(entry.path) for entry in found if not entry.is_dir()]
    except OSError as error:
        raise DatasetError(f"{shown(str(folder))} cannot be read: {error.strerror}") from None
    return [path for path in files if path.suffix.lower() in _READ | _NOT_READ], folders


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS
