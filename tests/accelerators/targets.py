"""Accelerators that programs are compiled for without one being there, and what each can do at most."""

import os
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parent

# No backend but the host's is ever started; libtpu asks no metadata server, and does not mind a second process.
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
      name: in tables.
      platform: "tpu" or "cuda".
      flops: the most that its matrix units do per second, at the precision that programs have by default.
      bandwidth: bytes per second of its memory.
      link: bytes per second from one chip to the others, all of its links together.
      launch: seconds from the start of one operation to that of the next at the least; 0 where a program is one launch.
    """

    name: str
    platform: str
    flops: float
    bandwidth: float
    link: float
    launch: float


# From the makers' data sheets: bfloat16 products on the TPU, TF32 on the H100 SXM; a kernel of a CUDA graph.
V5E = Target("TPU v5e", "tpu", 197e12, 819e9, 200e9, 0.0)
H100 = Target("H100 SXM", "cuda", 494e12, 3352e9, 450e9, 1.5e-6)


def prepare() -> None:
    """Set what must be set before JAX is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def devices(target: Target, topology: str = "") -> list[Any]:
    """Return the devices of a slice that need not be there, `2x2` or `16x16` of a TPU, or one GPU."""
    from jax.experimental import topologies

    if target.platform == "tpu":
        return list(topologies.get_topology_desc(f"v5e:{topology or '2x2'}", "tpu").devices)
    description = (_HERE / "h100.txtpb").read_text()
    options = {"target_config": description, "topology": "1x1x1"}
    return list(topologies.get_topology_desc(platform="cuda", **options).devices)
