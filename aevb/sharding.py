"""Meshes of devices on one host or many, and how arrays are split over their axes.

    with jax.set_mesh(aevb.sharding.make_mesh()):
        aevb.fit(model, data, key=key)

Under a mesh with an axis "batch", each minibatch and each chunk of an evaluation is split over that axis. Under a mesh
with an axis "member", the members of a population are split over it. Parameters are replicated on every device. So are
the data, if they fit: minibatches are random, and rows on other devices would have to be sent for each. XLA inserts the
collectives. The results equal those of one device except for the order of sums. Without a mesh these functions return
their arguments unchanged.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

BATCH, MEMBER = "batch", "member"
Tree = TypeVar("Tree")


def make_mesh(member: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh with the axes "member" and "batch".

    Args:
      member: the number of parts that members are split into. Minibatches are split over the devices of each part.
      devices: the devices to use; by default all devices of all processes.

    Raises:
      ValueError: the number of devices is not divisible by `member`.
    """
    devices = jax.devices() if devices is None else devices
    if member < 1 or len(devices) % member:
        raise ValueError(f"member must divide the {len(devices)} devices, got {member}")
    shape = (member, len(devices) // member)
    return jax.make_mesh(shape, (MEMBER, BATCH), axis_types=(AxisType.Auto,) * 2, devices=devices)


def axis_size(axis: str) -> int:
    """Return the number of parts into which the current mesh splits `axis`; 1 without a mesh."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def agreed(number: int) -> int:
    """Return the number of the first process, in every process: numbers that depend on a clock differ between them."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty or not mesh.is_multi_process:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def split(values: Any, axis: str) -> Any:
    """Split the leading axis of every array over `axis` of the current mesh, inside a compiled function.

    Without a mesh, or if its length is not divisible, an array is returned unchanged.
    """
    parts = axis_size(axis)
    if parts == 1:
        return values
    return jax.tree.map(
        lambda a: jax.lax.with_sharding_constraint(a, PartitionSpec(axis)) if a.shape[0] % parts == 0 else a, values
    )


def gather(values: Any) -> Any:
    """Replicate every array on every device, inside a compiled function."""
    if jax.sharding.get_abstract_mesh().empty:
        return values
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, PartitionSpec()), values)


def place(values: Tree, axis: str | None = None) -> Tree:
    """Place arrays, which are the same in every process, on every device of the current mesh.

    With an `axis`, their leading axes are split over it if their length is divisible.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return values

    def put(a: jax.Array) -> jax.Array:
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):  # `device_put` of keys sees one process's devices only
            return jax.random.wrap_key_data(put(jax.random.key_data(a)), impl=jax.random.key_impl(a))
        divides = axis is not None and a.shape[0] % axis_size(axis) == 0
        return jax.device_put(a, NamedSharding(mesh, PartitionSpec(axis) if divides else PartitionSpec()))

    return jax.tree.map(put, values)


def place_rows(data: np.ndarray | jax.Array, room: int | None = None) -> jax.Array:
    """Place a data set `[N, ...]` on the devices: replicated if it fits, else split by rows over "batch".

    If N is not divisible, the data set is replicated in any case. From a memory-mapped array, each process reads only
    the rows that its devices hold.

    Args:
      data: the data set.
      room: the number of bytes that it may take per device. By default a quarter of the device's memory, or unlimited
        if that is not known, as on a CPU.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty or (isinstance(data, jax.Array) and not data.is_fully_addressable):
        return jax.numpy.asarray(data)
    dtype = jax.dtypes.canonicalize_dtype(data.dtype)
    num_bytes = math.prod(data.shape) * dtype.itemsize
    fits = agreed(int(num_bytes <= (_room(mesh) if room is None else room)))
    is_split = not fits and len(data) % mesh.shape.get(BATCH, 1) == 0
    read = lambda rows: np.asarray(data[rows], dtype)
    return jax.make_array_from_callback(
        data.shape, NamedSharding(mesh, PartitionSpec(BATCH) if is_split else PartitionSpec()), read
    )


def _room(mesh: Mesh) -> float:
    """Return the bytes per device that one data set may take: it is copied once, and the program needs memory, too."""
    memory = mesh.local_devices[0].memory_stats() or {}
    return memory.get("bytes_limit", float("inf")) / 4
