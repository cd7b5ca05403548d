"""Who is compared: a file each, with a function `build(workload) -> Train`. A new peer is a file and a name here."""

import importlib
from collections.abc import Callable
from typing import TypeAlias

from experiments.benchmark.workload import Workload

Train: TypeAlias = Callable[[int], float]
"""`num_epochs -> loss`: trains on, waits until it is done, and returns the last epoch's mean loss, nats a datapoint;
not a number where it keeps none."""

OURS = "this_project"
PEERS = (
    "pytorch_dataloader",
    "pytorch_compiled",
    "numpyro_svi",
    "flax_per_step",
)


def build(name: str, workload: Workload) -> Train:
    """A contender by its name, at the workload's initial parameters.

    Raises:
      ImportError: what it needs is not installed.
    """
    return importlib.import_module(f"{__name__}.{name}").build(workload)
