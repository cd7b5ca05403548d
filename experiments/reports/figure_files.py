"""Write figures in the formats that the flags ask for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aevb import figures
from experiments import shared_flags


def save_figure(figure: figures.Drawing, path: Path, data: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Write a PNG, the formats of --figure_format, and the numbers drawn as CSV under the same name.

    Args:
      figure: what was drawn.
      path: of the PNG.
      data: as for `aevb.figures.save`; empty where the command itself writes a table of this name.
    """
    figures.save(figure, path, shared_flags.figure_formats(), data)
