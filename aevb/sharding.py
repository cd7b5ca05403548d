"""Meshes of devices, on one host or many: what is split over them, and over which axis.

    with jax.set_mesh(aevb.sharding.make_mesh()):
        aevb.fit(model, data, key=key)

Under a mesh with an axis "batch" each minibatch and each chunk of an evaluation are split over it; under one with an
axis "member" so are the members of a population. Parameters are on every device, and so are the data where they fit:
minibatches are random, and rows on other devices would have to be sent for each. XLA puts the collectives in. The
numbers are those of one device but for the order of sums. Without a mesh nothing here does a thing.
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
    """A mesh with the axes "member" and "batch".

    Args:
      member: how many parts members are split into; what is left of the devices splits minibatches.
      devices: all of all processes if not given.

    Raises:
      ValueError: the devices do not divide by `member`.
    """
    devices = jax.devices() if devices is None else devices
    if member < 1 or len(devices) % member:
        raise ValueError(f"member must divide the {len(devices)} devices, got {member}")
    shape = (member, len(devices) // member)
    return jax.make_mesh(shape, (MEMBER, BATCH), axis_types=(AxisType.Auto,) * 2, devices=devices)


def axis_size(axis: str) -> int:
    """Into how many parts the mesh that is set splits `axis`; 1 without a mesh."""
    return jax.sharding.get_abstract_mesh().shape.get(axis, 1)


def agreed(number: int) -> int:
    """What the first process says where several train together: of what follows from a clock, each has its own."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty or not mesh.is_multi_process:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def split(values: Any, axis: str) -> Any:
    """Inside a compiled function: the leading axis of every array over `axis` of the mesh that is set.

    Left as it is without a mesh, and where its length does not divide.
    """
    parts = axis_size(axis)
    if parts == 1:
        return values
    return jax.tree.map(
        lambda a: jax.lax.with_sharding_constraint(a, PartitionSpec(axis)) if a.shape[0] % parts == 0 else a, values
    )


def gather(values: Any) -> Any:
    """Inside a compiled function: all of every array on every device."""
    if jax.sharding.get_abstract_mesh().empty:
        return values
    return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, PartitionSpec()), values)


def place(values: Tree, axis: str | None = None) -> Tree:
    """Arrays, the same in every process, onto every device of the mesh that is set.

    With an `axis` their leading ones are split over it, where their length divides.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return values

    def put(a: jax.Array) -> jax.Array:
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):  # of one process: `device_put` knows no others' devices
            return jax.random.wrap_key_data(put(jax.random.key_data(a)), impl=jax.random.key_impl(a))
        divides = axis is not None and a.shape[0] % axis_size(axis) == 0
        return jax.device_put(a, NamedSharding(mesh, PartitionSpec(axis) if divides else PartitionSpec()))

    return jax.tree.map(put, values)


def place_rows(data: np.ndarray | jax.Array, room: int | None = None) -> jax.Array:
    """A data set onto the devices, `[N, ...]`: whole on each where it fits, else split by rows over "batch".

    Where N does not divide it is whole on each all the same. Of a memory-mapped array each process reads no rows but
    those that its devices hold.

    Args:
      data: the data set.
      room: bytes that it may take on each device; a quarter of the device's memory if not given, and any number where
        that is not known, as on a CPU.
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
    """The bytes of a device that one data set may take: it is copied once, and is not all that is there."""
    memory = mesh.local_devices[0].memory_stats() or {}
    return memory.get("bytes_limit", float("inf")) / 4
