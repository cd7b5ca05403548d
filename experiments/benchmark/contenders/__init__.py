"""The contenders: one file each, with a function `build(workload) -> Train`. A new peer needs a file and an entry."""

import importlib
from collections.abc import Callable
from typing import TypeAlias

from experiments.benchmark.workload import Workload

Train: TypeAlias = Callable[[int], float]
"""`num_epochs -> loss`: continues training, waits for it, and returns the last epoch's mean loss in nats per datapoint;
NaN if no loss is kept."""

OURS = "this_project"
PEERS = (
    "pytorch_dataloader",
    "pytorch_compiled",
    "numpyro_svi",
    "flax_per_step",
)


def build(name: str, workload: Workload) -> Train:
    """Build a contender by its name, at the workload's initial parameters.

    Raises:
      ImportError: a package that it needs is not installed.
    """
    return importlib.import_module(f"{__name__}.{name}").build(workload)
