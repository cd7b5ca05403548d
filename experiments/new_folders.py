"""Output folders of a command, created before minutes of work and removed if they stay empty."""

import contextlib
from pathlib import Path

_made: list[Path] = []


def make(folder: Path) -> None:
    """Create a folder and its missing parents.

    Raises:
      ValueError: the folder cannot be created.
    """
    try:
        _made.extend(each for each in (folder, *folder.parents) if not each.exists())
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from None


def remove_empty() -> None:
    """Delete the created folders that are empty."""
    for folder in _made:  # the innermost first
        with contextlib.suppress(OSError):
            folder.rmdir()
