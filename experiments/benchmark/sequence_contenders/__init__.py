"""The sequence contenders: one file each, with a function `build(workload) -> Train`."""

import importlib

from experiments.benchmark.contenders import OURS, Train
from experiments.benchmark.sequence_workload import SequenceWorkload

PACKAGES = {"numpyro_svi": "numpyro", "pyro_svi": "pyro-ppl", "pyro_jit": "pyro-ppl"}
"""The package that installs each peer; `pip install pyro-ppl` installs PyTorch too."""

PEERS = tuple(PACKAGES)


def build(name: str, workload: SequenceWorkload) -> Train:
    """Build a contender by its name, at the workload's initial parameters; its losses are in nats per sequence.

    Raises:
      ImportError: a package that it needs is not installed.
    """
    return importlib.import_module(f"{__name__}.{name}").build(workload)


__all__ = ["OURS", "PACKAGES", "PEERS", "build"]
