"""Read the instructions in the loops of a compiled program from the text of its optimised module."""

import collections
import math
import re
from typing import NamedTuple

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "opt-barrier", "partition-id"}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}
_SHAPE = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")


class Loop(NamedTuple):
    """One `while` instruction of a module.

    Attributes:
      inside: The computation that contains it.
      body: The computation that it repeats.
    """

    inside: str
    body: str


def computations(text: str) -> dict[str, list[str]]:
    """Return the instructions of each computation of a module by name."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = found[head[2]] = []
        elif line.startswith("}"):
            current = None
        elif current is not None and " = " in line:
            current.append(line.strip())
    return found


def loops(module: dict[str, list[str]]) -> list[Loop]:
    """Return all `while` instructions of a module."""
    body = lambda line: re.search(r"body=%?([\w.\-]+)", line)[1]  # pyright: ignore[reportOptionalSubscript]
    return [Loop(name, body(line)) for name, lines in module.items() for line in lines if operation(line) == "while"]


def innermost(module: dict[str, list[str]]) -> list[str]:
    """Return the instructions of a step: the longest loop body that contains no loop."""
    bodies = [module[loop.body] for loop in loops(module)]
    without = [lines for lines in bodies if all(operation(line) != "while" for line in lines)]
    return max(without, key=len)


def operation(line: str) -> str:
    """Return the operation of an instruction, such as `fusion`."""
    right = line.split(" = ", 1)[1]
    if right.startswith("("):  # a tuple type, which contains parentheses
        depth = end = 0
        for end, letter in enumerate(right):  # noqa: B007
            depth += (letter == "(") - (letter == ")")
            if depth == 0:
                break
        right = right[end + 1 :].strip()
    else:
        right = right.split(" ", 1)[1]
    found = re.match(r"[\w\-]+", right)
    return found[0] if found else "?"


def is_launched(line: str) -> bool:
    """Return whether a device runs an instruction, unlike renamings of buffers and ends of asynchronous operations."""
    return operation(line) not in _FREE and not operation(line).endswith("-done")


def collectives(lines: list[str]) -> dict[str, int]:
    """Return the bytes that the collectives of a step send, by kind, each counted once."""
    found: collections.Counter[str] = collections.Counter()
    for line in lines:
        kind = operation(line).removesuffix("-start")
        if kind in _COLLECTIVES:
            found[kind] += _size_of(line.split(" = ", 1)[1].split(f" {kind}")[0])
    return dict(found)


def _size_of(types: str) -> int:
    sizes = (math.prod(int(size) for size in dims.split(",") if size) for _, dims in _SHAPE.findall(types))
    return sum(size * BYTES.get(dtype, 4) for size, (dtype, _) in zip(sizes, _SHAPE.findall(types), strict=True))
