"""Rows of results, for people and for programs."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aevb.training import Evaluation


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of the same keys, a column as wide as its longest cell."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    print()
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the same keys, at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def curve_rows(label: Mapping[str, Any], histories: Sequence[Sequence["Evaluation"]]) -> list[dict[str, Any]]:
    """A row for each evaluation of each seed, bounds in nats, behind what `label` says of all of them."""
    return [
        {
            **label,
            "seed": seed,
            "samples": row.num_train_samples,
            "train": round(row.train_elbo, 4),
            "test": round(row.test_elbo, 4),
            "seconds": round(row.seconds, 2),
        }
        for seed, history in enumerate(histories)
        for row in history
    ]


def _text(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) and abs(value) >= 1 else str(value)
