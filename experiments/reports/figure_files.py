"""Write figures in the formats that the flags ask for, and remove what an earlier run wrote in others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aevb import figures
from experiments import shared_flags


def save_figure(figure: figures.Drawing, path: Path, data: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Write a PNG, the formats of --figure_format, and the numbers drawn as CSV under the same name.

    Vector files of the same name whose format was not asked for this time are removed: an earlier run of the command
    wrote them, and they may show other numbers than the PNG. `aevb.figures.save` does not remove anything, since its
    callers may write each format by a call of its own.

    Args:
      figure: what was drawn.
      path: of the PNG, in a folder of the command.
      data: as for `aevb.figures.save`; empty where the command itself writes a table of this name.

    Raises:
      OSError: a file cannot be written, or an earlier one not removed.
    """
    formats = shared_flags.figure_formats()
    figures.save(figure, path, formats, data)
    for name in figures.FORMATS:
        earlier = path.with_suffix(f".{name}")
        if earlier != path and name not in formats and earlier.is_file():
            earlier.unlink()
