"""Folders that a command writes its results to: made before minutes of work, and removed if that comes to nothing."""

import contextlib
from pathlib import Path

_made: list[Path] = []


def make(folder: Path) -> None:
    """Make a folder, and those above it, where they are not there yet.

    Raises:
      ValueError: it cannot be made.
    """
    try:
        _made.extend(each for each in (folder, *folder.parents) if not each.exists())
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from None


def remove_empty() -> None:
    """Delete the folders that were made and have nothing in them."""
    for folder in _made:  # the innermost first
        with contextlib.suppress(OSError):
            folder.rmdir()
