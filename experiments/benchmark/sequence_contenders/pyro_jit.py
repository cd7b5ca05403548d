"""Pyro with `JitTrace_ELBO`, which PyTorch's tracer compiles per number of steps: here only for the longest."""

from pyro.infer import JitTrace_ELBO  # pyright: ignore[reportMissingImports]  # optional

from experiments.benchmark.contenders import Train
from experiments.benchmark.sequence_contenders.pyro_svi import build_with
from experiments.benchmark.sequence_workload import SequenceWorkload, sequences


def build(workload: SequenceWorkload) -> Train:
    """Build the contender; tracing takes minutes for a hundred steps, so more than one length does not pay off."""
    longest = sequences(workload).shape[1]
    return build_with(workload, JitTrace_ELBO(ignore_jit_warnings=True), lambda length: longest)
