"""Compile the main programs of a run for accelerators, and read the compilers' statistics."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from aevb import sharding
from tests.accelerators import hlo, targets
from tests.accelerators.abstract import Program
from tests.accelerators.programs import Sizes, evaluation_program, population_program, training_program
from tests.accelerators.targets import Target
from tests.accelerators.traffic import traffic

# The paper's network on all of MNIST. A smaller data set would fit on a TPU's chip and not be gathered from memory.
SIZES = Sizes()


class Measured(NamedTuple):
    """Statistics of a compiled program on one chip.

    Attributes:
      loops: The number of `while` instructions.
      operations: Operations launched per step.
      bytes_per_step: Estimated bytes of the chip's memory that a step reads and writes.
      peak: Peak memory of the program, in bytes.
      aliased: Bytes of the result that reuse buffers of the arguments.
      collectives: Bytes that a step sends between chips, by kind.
      seconds: Roofline estimate of the time per step.
      compile_seconds: Compile time.
    """

    loops: int
    operations: int
    bytes_per_step: int
    peak: int
    aliased: int
    collectives: dict[str, int]
    seconds: float
    compile_seconds: float


class Case(NamedTuple):
    """A row of the table.

    Attributes:
      name: The name in the table.
      target: The chip.
      program: A function that makes the program; it is called under the program's mesh.
      flops: Floating-point operations per step on one chip.
      loops: The required number of loops.
      topology: The slice of chips.
      members: The number of parts that members are split into.
      chips: The number of chips.
    """

    name: str
    target: Target
    program: Callable[[], Program]
    flops: float
    loops: int
    topology: str = ""
    members: int = 1
    chips: int = 1


def step_flops(sizes: Sizes, rows: int) -> float:
    """Return the operations of a step's matrix products: forward, and twice as many backward except for the first."""
    data = sizes.data_shape[0] * sizes.data_shape[1]
    encoder, decoder = data * sizes.hidden, sizes.hidden * data
    middle = 2 * sizes.latent * sizes.hidden + sizes.latent * sizes.hidden
    return 2.0 * rows * (2 * encoder + 3 * (decoder + middle))


def cases(wide: bool) -> list[Case]:
    """Return the cases to compile, on one chip, on four and, if `wide`, on 256."""
    one, many = step_flops(SIZES, SIZES.batch), step_flops(SIZES, SIZES.batch * SIZES.members)
    found = []
    for target in (targets.V5E, targets.H100):
        found += [
            Case("training, grey", target, lambda: training_program(SIZES), one, 2),
            Case("training, stochastic", target, lambda: training_program(SIZES, "stochastic"), one, 2),
            Case("30 members side by side", target, lambda: population_program(SIZES), many, 2),
            Case("evaluation, 10,000 rows per step", target, lambda: evaluation_program(SIZES), one * 100 / 3, 1),
        ]
    wider = dataclasses.replace(SIZES, batch=400)
    found.append(Case("data parallel, M = 400", targets.V5E, lambda: training_program(wider), one, 2, "2x2", 1, 4))
    of_four = dataclasses.replace(SIZES, members=4)
    found.append(Case("4 members on 4 chips", targets.V5E, lambda: population_program(of_four), one, 2, "2x2", 4, 4))
    if wide:
        widest = dataclasses.replace(SIZES, batch=25_600, num_rows=51_200)
        of_all = dataclasses.replace(SIZES, members=256)
        found += [
            Case("data parallel, M = 25,600", targets.V5E, lambda: training_program(widest), one, 2, "16x16", 1, 256),
            Case("256 members", targets.V5E, lambda: population_program(of_all), one, 2, "16x16", 256, 256),
        ]
    return found


def measure(case: Case) -> Measured:
    """Compile a program and return its statistics.

    Raises:
      AssertionError: If a loop does not stay on the device, or a state is not updated in place.
    """
    start = time.perf_counter()
    compiled = _compiled(case)
    seconds = time.perf_counter() - start
    module = hlo.computations(compiled.as_text())
    step, memory = hlo.innermost(module), compiled.memory_analysis()
    loops, collectives = len(hlo.loops(module)), hlo.collectives(step)
    assert loops == case.loops, f"{case.name}: {loops} loops, not {case.loops}"
    donates = "evaluation" not in case.name
    assert not donates or memory.alias_size_in_bytes > 0, f"{case.name}: the state is not updated in place"
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    moved, operations = traffic(module, step), sum(map(hlo.is_launched, step))
    return Measured(
        loops,
        operations,
        moved,
        peak - memory.alias_size_in_bytes,
        memory.alias_size_in_bytes,
        collectives,
        _roofline(case, moved, operations, sum(collectives.values())),
        seconds,
    )


def _roofline(case: Case, moved: int, operations: int, sent: int) -> float:
    """Return the seconds per step: the longest of products, memory traffic and launches, plus the links."""
    target = case.target
    alone = max(case.flops / target.flops, moved / target.bandwidth, operations * target.launch)
    return alone + 2 * sent * (1 - 1 / case.chips) / target.link


def _compiled(case: Case) -> Any:
    found = targets.devices(case.target, case.topology)
    if not case.topology:
        program = case.program()
        return _lowered(program, _placed(program.arguments, SingleDeviceSharding(found[0]))).compile()
    mesh = sharding.make_mesh(case.members, found)
    with jax.set_mesh(mesh):
        program = case.program()
        state, *others = program.arguments
        of_state = PartitionSpec(sharding.MEMBER) if case.members > 1 else PartitionSpec()
        everywhere = NamedSharding(mesh, PartitionSpec())
        placed = (_placed(state, NamedSharding(mesh, of_state)), *_placed(tuple(others), everywhere))
        return _lowered(program, placed).compile()


def _lowered(program: Program, arguments: Any) -> Any:
    return program.function.trace(*arguments, **(program.options or {})).lower()


def _placed(tree: Any, where: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)
