"""Estimate the memory traffic of a step from the shapes and layouts of a compiled module.

The estimate counts the inputs and outputs of each operation once. Gathered rows count with the whole tiles that contain
them, such as `{0,2,1:T(8,128)}`. Arrays on the chip, `S(1)` on a TPU, do not count.
"""

import math
import re
from typing import NamedTuple

from tests.accelerators.hlo import BYTES, is_launched, operation

_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_PICKS = ("gather", "dynamic-slice")


class _Array(NamedTuple):
    """An array in memory: bytes per item, shape, axes starting at the innermost, and tile of the innermost axes."""

    item: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    on_chip: bool

    def size(self, shape: tuple[int, ...] | None = None) -> int:
        """Return the bytes of the array, or of a piece of some shape, rounded up to whole tiles."""
        if self.on_chip:
            return 0
        sizes = list(self.shape if shape is None else shape)
        for axis, tile in zip(self.order, reversed(self.tile), strict=False):
            sizes[axis] = -(-sizes[axis] // tile) * tile
        return self.item * math.prod(sizes)


def traffic(module: dict[str, list[str]], lines: list[str]) -> int:
    """Return the bytes that the instructions of a computation read and write."""
    types = {_name(line): _type(line) for line in lines}
    return sum(_of_instruction(module, types, line) for line in lines if is_launched(line))


def _of_instruction(module: dict[str, list[str]], types: dict[str, str], line: str) -> int:
    kind, operands = operation(line), [_arrays(types.get(name, "")) for name in _operands(line)]
    if kind.endswith("-start"):  # its type lists what is read and what is written
        return sum(2 * array.size() for array in _arrays(_type(line))[1:2]) or sum(
            array.size(shape) for array, shape in _moved(line)
        )
    if kind == "dynamic-update-slice":
        return 2 * sum(array.size() for array in operands[1])
    written = sum(array.size() for array in _arrays(_type(line)))
    if kind in _PICKS:
        return written + _picked(line, operands[0][0])
    called = re.search(r"calls=%?([\w.\-]+)", line)
    inside = module.get(called[1], []) if called and kind == "fusion" else []
    return written + sum(_read(inside, number, arrays) for number, arrays in enumerate(operands))


def _moved(line: str) -> list[tuple[_Array, tuple[int, ...]]]:
    """Return the array that a copy onto the chip reads, and the shape of the copied part."""
    source, target, *_ = _arrays(_type(line))
    return [(source, target.shape)]


def _read(inside: list[str], number: int, arrays: list[_Array]) -> int:
    """Return the bytes that a fusion reads of an operand; if it only picks from it, the bytes picked."""
    whole = sum(array.size() for array in arrays)
    parameter = next((_name(line) for line in inside if f" parameter({number})" in line), None)
    users = [line for line in inside if parameter in _operands(line)]
    if parameter is None or not users or len(arrays) != 1:
        return whole
    if all(operation(line) in _PICKS and _operands(line)[0] == parameter for line in users):
        return sum(_picked(line, arrays[0]) for line in users)
    if all(operation(line) == "dynamic-update-slice" and _operands(line)[0] == parameter for line in users):
        return 0
    return whole


def _picked(line: str, array: _Array) -> int:
    sizes = re.search(r"slice_sizes=\{([\d,]*)\}", line)
    piece = tuple(int(size) for size in sizes[1].split(",") if size) if sizes else array.shape
    count = math.prod(_arrays(_type(line))[0].shape) // max(1, math.prod(piece))
    return max(1, count) * array.size(piece)


def _name(line: str) -> str:
    return line.removeprefix("ROOT ").split(" = ", 1)[0].lstrip("%")


def _type(line: str) -> str:
    right = line.split(" = ", 1)[1]
    return right[: right.index(f" {operation(line)}(")]


def _operands(line: str) -> list[str]:
    right = line.split(" = ", 1)[1]
    rest = right[right.index(f" {operation(line)}(") :]
    return re.findall(r"%([\w.\-]+)", rest[: rest.index(")")])


def _arrays(text: str) -> list[_Array]:
    found = []
    for dtype, dims, order, rest in _ARRAY.findall(text):
        shape = tuple(int(size) for size in dims.split(",") if size)
        axes = tuple(int(axis) for axis in order.split(",") if axis) or tuple(reversed(range(len(shape))))
        tile = re.search(r"T\(([\d,]+)\)", rest)
        sizes = tuple(int(size) for size in tile[1].split(",")) if tile else ()
        found.append(_Array(BYTES.get(dtype, 4), shape, axes, sizes, bool(re.search(r"S\(\d\)", rest))))
    return found
