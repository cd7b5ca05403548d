"""Distribute independent pieces of work over the machines of a cluster and the cores of a CPU."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from absl import flags

_FLAGS = flags.FLAGS
Unit = TypeVar("Unit")
_is_child = False  # whether this is a child process of the same command, whose parent reports


def define_flags() -> None:
    """Define --shard and --num_processes."""
    flags.DEFINE_string(
        "shard",
        None,
        "i/n, with i from 0: do only every n-th piece of the work, as job i of a cluster's array of n jobs.",
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "Processes that share the work on this machine, each pinned to its part of the cores; by default one per core "
        "on a CPU, and a single one on an accelerator.",
        lower_bound=1,
    )


def work_through(units: Sequence[Unit], work: Callable[[Sequence[Unit]], None]) -> bool:
    """Run `work` on the units of this command's shard, in child processes if that is faster.

    A small network does not keep two cores busy: two networks with one core each are a quarter faster (RESULTS.md).

    Args:
      units: all units of work, in the same order in every process.
      work: completes the units it is given; units that are already done cost it little.

    Returns:
      Whether all units are done; a single shard leaves the rest to others.

    Raises:
      ValueError: --shard is not of the form i/n, or a child process failed.
    """
    index, count = shard()
    mine = units[index::count]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    processes = min(_num_processes(len(cores)), len(mine))
    if processes > 1:
        _in_children(index, count, [cores[child::processes] for child in range(processes)])
    elif mine:
        work(mine)
    if count > 1 and not _is_child:
        print(f"shard {index} of {count} is done; run the command without --shard to draw the results of all shards")
    return count == 1


def shard() -> tuple[int, int]:
    """Return the index and count in `--shard`, or raise `ValueError` if it is not of the form i/n."""
    if _FLAGS.shard is None:
        return 0, 1
    index, slash, count = _FLAGS.shard.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--shard takes i/n with i from 0 to n - 1, got {_FLAGS.shard}")
    return int(index), int(count)


def _num_processes(num_cores: int) -> int:
    if _FLAGS.num_processes:
        return _FLAGS.num_processes
    import jax

    return num_cores if jax.default_backend() == "cpu" else 1


def _in_children(index: int, count: int, cores: Sequence[Sequence[int]]) -> None:
    """Run this command once per set of cores, as shards of this shard."""
    children = []
    try:
        for child, its_cores in enumerate(cores):
            part = f"--shard={index + count * child}/{count * len(cores)}"
            command = [sys.executable, "-m", _module(), *sys.argv[1:], part, "--num_processes=1"]
            children.append(subprocess.Popen(command, env=os.environ | {"AEVB_CORES": ",".join(map(str, its_cores))}))
        failed = [child for child in children if child.wait() != 0]
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if failed:
        raise ValueError(f"{len(failed)} of {len(children)} processes failed: see their messages above")


def pin() -> None:
    """Restrict a child process to the cores chosen by its parent, before JAX counts them."""
    global _is_child
    if cores := os.environ.pop("AEVB_CORES", ""):
        _is_child = True
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    assert spec is not None, "run by python -m experiments.NAME"
    return spec.name
