"""What must outlive a power cut: files, and the folders that name them, are on the disk before anyone says so.

A kill loses nothing that was written; a power cut loses what the kernel still held. Every write that matters goes
through here, in an order that makes each prefix of it recoverable.
"""

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, contents: bytes) -> None:
    """Write a file whole or not at all, and wait until it is on the disk under its name.

    Raises:
      OSError: it cannot be written; what was there before still is.
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
    """Wait until a file, or the names in a folder, are on the disk.

    Raises:
      OSError: the disk reports an error.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Wait until everything under a folder is on the disk, and the folder's own name last.

    Raises:
      OSError: the disk reports an error.
    """
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(root, name))
        sync(Path(root))
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, with names that are on the disk.

    Raises:
      OSError: one cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)
