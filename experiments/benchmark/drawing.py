"""Draw the results of a suite."""

from pathlib import Path
from typing import Any

import numpy as np

from aevb import figures
from experiments.reports.figure_files import save_figure

_NAMES = {
    "this_project": "this project",
    "pytorch_dataloader": "PyTorch, DataLoader",
    "pytorch_compiled": "PyTorch, compiled",
    "numpyro_svi": "NumPyro, SVI",
    "flax_per_step": "Flax, step by step",
}
_AXES = {
    "batch_size": "batch size",
    "hidden_dim": "hidden units",
    "latent_dim": "latent dimensions",
    "num_members": "runs trained together",
}


def draw(suite: str, results: dict[str, Any], workdir: Path) -> None:
    """Write the suite's figure, if it has one, into `workdir`."""
    match suite:
        case "peers":
            figure = _throughput(results)
        case "scaling":
            figure = _scaling(results)
        case _:
            return
    save_figure(figure, workdir / f"{suite}.png")


def _throughput(results: dict[str, Any]) -> Any:
    rates = {name: row["turns_images_per_second"] for name, row in results["contenders"].items()}
    ratios = {name: ratio["turns"] for name, ratio in results["ours_over"].items()}
    missing = [float("nan")] * len(next(iter(rates.values())))
    return figures.turns(
        np.array(list(rates.values())) / 1e3,
        np.array([ratios.get(name, missing) for name in rates]),
        [_NAMES[name] if name in _NAMES else name.replace("_", " ") for name in rates],
        ("thousand images per second", "this project's rate divided by it, per turn"),
        "Training throughput, contenders taking turns",
    )


def _scaling(results: dict[str, Any]) -> Any:
    panels = []
    for axis, rows in results["axes"].items():
        costs = [list(row["microseconds_per_image"].values()) for row in rows]
        panels.append((_AXES[axis], np.array([row["value"] for row in rows]), np.array(costs).T))
    if "run_images" in results:
        rows = results["run_images"]["rows"]
        costs = [[row["microseconds_per_image"]] * 3 for row in rows]
        panels.append(("training samples", np.array([row["value"] for row in rows]), np.array(costs).T))
    return figures.costs(panels, "microseconds per image", "Training cost per image")
