"""Durable writes: when a function here returns, the file and the folder entry that names it are on the disk.

A killed process loses nothing that it has written; a power cut loses what the kernel still holds in memory. Every
write that matters goes through here, in an order such that an interruption at any point can be recovered from.
"""

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file atomically and wait until it is on the disk under its name.

    Raises:
      OSError: the file cannot be written. Any earlier file at `path` is still there.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk.

    Raises:
      OSError: the disk reports an error.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Wait until everything under a folder is on the disk, and last the folder's own entry.

    Raises:
      OSError: the disk reports an error.
    """
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(root, name))
        sync(Path(root))
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and wait until their entries are on the disk.

    Raises:
      OSError: a folder cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)
