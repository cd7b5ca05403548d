"""Accelerators to compile for, which need not be present, and their peak performance."""

import os
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parent

# Only the host's backend is started. libtpu queries no metadata server and allows a second process.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Target(NamedTuple):
    """A kind of chip.

    Attributes:
      name: The name in tables.
      platform: "tpu" or "cuda".
      flops: Peak operations per second of its matrix units at the default precision of programs.
      bandwidth: Memory bandwidth, in bytes per second.
      link: Bandwidth from one chip to the others over all links, in bytes per second.
      launch: Least time between the starts of two operations, in seconds; 0 if a program is a single launch.
    """

    name: str
    platform: str
    flops: float
    bandwidth: float
    link: float
    launch: float


# From the vendors' data sheets: bfloat16 products on the TPU, TF32 on the H100 SXM. A launch is one CUDA graph kernel.
V5E = Target("TPU v5e", "tpu", 197e12, 819e9, 200e9, 0.0)
H100 = Target("H100 SXM", "cuda", 494e12, 3352e9, 450e9, 1.5e-6)


def prepare() -> None:
    """Set the environment variables that must be set before JAX is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def devices(target: Target, topology: str = "") -> list[Any]:
    """Return the abstract devices of a TPU slice, `2x2` or `16x16`, or one GPU."""
    from jax.experimental import topologies

    if target.platform == "tpu":
        return list(topologies.get_topology_desc(f"v5e:{topology or '2x2'}", "tpu").devices)
    description = (_HERE / "h100.txtpb").read_text()
    options = {"target_config": description, "topology": "1x1x1"}
    return list(topologies.get_topology_desc(platform="cuda", **options).devices)
