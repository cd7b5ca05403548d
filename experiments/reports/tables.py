"""Rows of results, printed as tables and written as CSV."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aevb.checkpoints import RunError

if TYPE_CHECKING:
    from aevb.training import Evaluation


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys, each column as wide as its longest cell."""
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    print()
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def curve_rows(label: Mapping[str, Any], histories: Sequence[Sequence["Evaluation"]]) -> list[dict[str, Any]]:
    """Return one row per evaluation and seed, with bounds in nats, each after the columns of `label`."""
    return [
        {
            **label,
            "seed": seed,
            "num_train_samples": row.num_train_samples,
            "train_elbo": round(row.train_elbo, 4),
            "test_elbo": round(row.test_elbo, 4),
            "seconds": round(row.seconds, 2),
        }
        for seed, history in enumerate(histories)
        for row in history
    ]


def _text(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) and abs(value) >= 1 else str(value)


_BITS, _ERROR = "bits/dim", "error"
_THREE_DIGITS = (_BITS, "train/step", "valid/step", "test/step")
_COLUMNS = {  # heading: field of summary.json
    "latent": "latent_dim",
    "samples": "num_train_samples",
    "train": "train_elbo",
    "valid": "valid_elbo",
    "test": "test_elbo",
    "L_K": "test_iwae",
    "FIVO": "test_fivo",
    _BITS: "test_bits_per_dimension",
    _ERROR: "test_error",
    "recon.": "test_reconstruction",
    "KL": "test_kl",
    "active": "active_units",
    "train/step": "train_elbo_per_step",
    "valid/step": "valid_elbo_per_step",
    "test/step": "test_elbo_per_step",
    "seconds": "train_seconds",
}


def print_runs(runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Print the closing table of finished runs.

    Args:
      runs: folders, and the contents of their summary.json.

    Raises:
      RunError: a summary is damaged.
    """
    try:
        _print_runs(runs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        folders = ", ".join(str(folder) for folder, _ in runs)
        raise RunError(f"a summary.json is damaged ({error!r}), in {folders}: remove it, and --resume") from None


def _print_runs(runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    first = runs[0][1]
    things = "sequences" if "per_step" in first else "images"
    subset = f", {first['num_train_images']:,} random training {things}" if first.get("num_train_images") else ""
    print(f"\n{first['dataset']} ({first['binarization']}, split {first['split_rule']}{subset}), nats per datapoint:")
    columns = {heading: name for heading, name in _COLUMNS.items() if name in first}
    print_table([{heading: _rounded(heading, row[name]) for heading, name in columns.items()} for _, row in runs])
    for folder, row in runs:
        _print_levels(folder if len(runs) > 1 else None, row)
    for folder, row in runs:
        if row.get("best_epoch") is not None:
            stopped = f", stopped early at {row['num_epochs']:,}" if row["stopped_early"] else ""
            print(
                f"{folder.name}: best by validation after {row['best_epoch']:,} epochs{stopped}: "
                f"valid {row['best_valid_bound']:.2f}, test {row['best_test_elbo']:.2f} nats"
            )
    for folder, row in runs:
        _print_per_step(folder, row)
    print("written, each with its figures:")
    for folder, _ in runs:
        print(f"  {folder}")


def _print_levels(folder: Path | None, row: Mapping[str, Any]) -> None:
    """Print the KL divergence and the active units of each level, if there are levels."""
    divergences, units = row.get("test_kl_by_level"), row.get("active_units_by_level") or {}
    if divergences:
        words = [
            f"{level} {kl:,.2f} nats" + (f" ({units[level]:,} active)" if level in units else "")
            for level, kl in divergences.items()
        ]
        print(f"{f'{folder.name}: ' if folder else ''}KL by level: {', '.join(words)}")


def _print_per_step(folder: Path, row: Mapping[str, Any]) -> None:
    """Print the bound on sequences by both conventions, and the command that estimates log p(x)."""
    if not (found := row.get("per_step")):
        return
    print(
        f"{folder.name}: {found['split']} bound by the {found['state']} state, {found['num_samples']} draws, nats per "
        f"step: {found['elbo_over_steps']:.3f} over {found['num_steps']:,} steps; "
        f"{found['elbo_mean_of_sequences']:.3f} as the mean of {found['num_sequences']:,} sequences' own. log p(x) is "
        f"above: python -m experiments.marginal_likelihood --run={folder} --methods=is,particle"
    )


def _rounded(heading: str, value: Any) -> Any:
    if value is None:
        return "-"
    if isinstance(value, list):  # the sizes of levels
        return "-".join(map(str, value))
    if heading == _ERROR:
        return f"{value:.2%}"
    digits = 3 if heading in _THREE_DIGITS else 2
    return f"{value:,.{digits}f}" if isinstance(value, float) else value
