"""Pyro with its `JitTrace_ELBO`, which PyTorch's tracer compiles for each number of steps: for the longest alone."""

from pyro.infer import JitTrace_ELBO  # pyright: ignore[reportMissingImports]  # optional

from experiments.benchmark.contenders import Train
from experiments.benchmark.sequence_contenders.pyro_svi import build_with
from experiments.benchmark.sequence_workload import SequenceWorkload, sequences


def build(workload: SequenceWorkload) -> Train:
    """To trace takes minutes for a hundred steps, so that more lengths than one do not pay."""
    longest = sequences(workload).shape[1]
    return build_with(workload, JitTrace_ELBO(ignore_jit_warnings=True), lambda length: longest)
