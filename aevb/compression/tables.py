"""Integer tables of functions, computed in integer arithmetic alone, without the machine's mathematical library.

Every entry is rounded from a value computed to more than a hundred bits, so the tables are the same on every machine.
Tables of functions on a grid are interpolated linearly.
"""

import functools
import hashlib
import math

import numpy as np

FRACTION = 12
"""The number of bits for a position between two points of an interpolated table."""

UNIT = 30
"""Cumulative distribution functions are in units of 2^-30."""

GAUSSIAN_RESOLUTION, GAUSSIAN_BOUND = 8, 8
"""The binary logarithm of the points per unit in the Gaussian's table, and the end of the table."""

LOGISTIC_RESOLUTION, LOGISTIC_BOUND = 7, 20
"""The same for the table of the logistic distribution."""

TANH_RESOLUTION, TANH_BOUND = 12, 8
"""The same for the table of the hyperbolic tangent, which is not interpolated."""

SCALES_PER_OCTAVE = 16
"""A scale with index i is 2^(a - i / 16)."""

NUM_SCALES = 18 * SCALES_PER_OCTAVE + 1

LOG_UNIT = 16
"""Logarithms, to base 2, are in units of 2^-16."""

_BITS = 160  # fractional bits of the arithmetic in this file
_ONE = 1 << _BITS


@functools.cache
def inverse_scales() -> np.ndarray:
    """Return 2^(12 + i / 16), rounded, for each index i of a scale, `[289]`."""
    roots = [_ONE]
    root = _two_to_the_sixteenth()
    for _ in range(SCALES_PER_OCTAVE - 1):
        roots.append(roots[-1] * root >> _BITS)
    values = [_rounded(roots[i % 16] << (i // 16), 12) for i in range(NUM_SCALES)]
    return _frozen(values)


@functools.cache
def gaussian() -> np.ndarray:
    """Return P(Z <= u) of a standard Gaussian in units of 2^-30, at 256 points per unit from -8 to 8, `[4097]`.

    The series is 1/2 + density(u) (u + u^3 / 3 + u^5 / (3 5) + ...).
    """
    size = GAUSSIAN_BOUND << GAUSSIAN_RESOLUTION
    step = 1 << (_BITS - GAUSSIAN_RESOLUTION)
    halves = []
    for i in range(size + 1):
        u = i * step
        square = u * u >> _BITS
        term, total, odd = u, u, 1
        while term:
            odd += 2
            term = (term * square >> _BITS) // odd
            total += term
        density = _exponential(square // 2) * _ONE // _root_of_two_pi()
        halves.append(_rounded(total * density >> _BITS, UNIT))
    half = 1 << (UNIT - 1)
    return _frozen([half - each for each in reversed(halves[1:])] + [half + each for each in halves])


@functools.cache
def logistic() -> np.ndarray:
    """Return 1 / (1 + exp(-u)) in units of 2^-30, at 128 points per unit from -20 to 20, `[5121]`."""
    size = LOGISTIC_BOUND << LOGISTIC_RESOLUTION
    upper = [_rounded(_ONE * _ONE // (_ONE + power), UNIT) for power in _powers(LOGISTIC_RESOLUTION, size)]
    return _frozen([(1 << UNIT) - each for each in reversed(upper[1:])] + upper)


@functools.cache
def tanh() -> np.ndarray:
    """Return the hyperbolic tangent in units of 2^-16, at 4,096 points per unit from -8 to 8, `[65537]` float64."""
    size = TANH_BOUND << TANH_RESOLUTION
    powers = _powers(TANH_RESOLUTION - 1, size)  # exp(-2 u)
    upper = [_rounded((_ONE - power) * _ONE // (_ONE + power), 16) for power in powers]
    values = _frozen([-each for each in reversed(upper[1:])] + upper).astype(np.float64)
    values.flags.writeable = False
    return values


@functools.cache
def powers_of_two() -> np.ndarray:
    """Return 2^(30 - i / 4096), rounded, for i = 0..4095, `[4096]`."""
    root = _two_to_the_sixteenth()
    for _ in range(8):
        root = math.isqrt(root << _BITS)
    inverse, value, values = _ONE * _ONE // root, _ONE, []
    for _ in range(4096):
        values.append(_rounded(value, UNIT))
        value = value * inverse >> _BITS
    return _frozen(values)


@functools.cache
def _logarithms() -> np.ndarray:
    """Return log2(1 + i / 4096) in units of 2^-16 for i = 0..4096, `[4097]`, by 2 atanh(r) = log((1 + r) / (1 - r))."""
    return _frozen([_rounded(_log2_of(4096 + i, 4096), LOG_UNIT) for i in range(4097)])


def log2(values: np.ndarray) -> np.ndarray:
    """Return base-2 logarithms of positive integers or float64 numbers, in units of 2^-16, as int64."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))  # exact, in [1/2, 1)
    place = (mantissa * 2.0**25).astype(np.int64) - (1 << 24)
    table, index, rest = _logarithms(), place >> 12, place & 4095
    low = table[index]
    return (
        ((exponent.astype(np.int64) - 1) << LOG_UNIT) + low + ((table[np.minimum(index + 1, 4096)] - low) * rest >> 12)
    )


@functools.cache
def log2_of_fraction(numerator: int, denominator: int, bits: int) -> int:
    """Return log2(numerator / denominator) in units of 2^-bits, rounded."""
    return _rounded(_log2_of(numerator, denominator), bits)


@functools.cache
def log2_of_e(bits: int) -> int:
    """Return 1 / log(2) in units of 2^-bits, rounded."""
    return _rounded(_ONE * _ONE // _log_two(), bits)


def interpolated(table: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return a table's values at positions in units of 2^-12 of the point spacing, clipped to the table."""
    position = np.minimum(np.maximum(position, 0), ((len(table) - 1) << FRACTION) - 1)
    index = position >> FRACTION
    low = table.take(index)
    index += 1
    rise = table.take(index)
    rise -= low
    position &= (1 << FRACTION) - 1
    rise *= position
    rise >>= FRACTION
    rise += low
    return rise


@functools.cache
def digest() -> bytes:
    """Return the SHA-256 of every table."""
    tables = (inverse_scales(), gaussian(), logistic(), tanh(), powers_of_two(), _logarithms())
    return hashlib.sha256(b"".join(table.astype("<i8").tobytes() for table in tables)).digest()


def _powers(resolution: int, size: int) -> list[int]:
    """Return exp(-i / 2^resolution) for i = 0..size."""
    ratio, values = _exponential(_ONE >> resolution), [_ONE]
    for _ in range(size):
        values.append(values[-1] * ratio >> _BITS)
    return values


def _exponential(x: int) -> int:
    """Return exp(-x), for x >= 0."""
    halvings = max(x.bit_length() - _BITS + 4, 0)
    small = x >> halvings
    term, total, order = _ONE, _ONE, 0
    while term:
        order += 1
        term = (term * small >> _BITS) // order
        total += -term if order % 2 else term
    for _ in range(halvings):
        total = total * total >> _BITS
    return total


@functools.cache
def _log_two() -> int:
    return 2 * _atanh(1, 3)


@functools.cache
def _two_to_the_sixteenth() -> int:
    """Return 2^(1/16)."""
    root = 2 * _ONE
    for _ in range(4):
        root = math.isqrt(root << _BITS)
    return root


@functools.cache
def _root_of_two_pi() -> int:
    """Return sqrt(2 pi), by Machin's formula."""
    inverse_tangent = lambda n: sum(
        (-1) ** k * (_ONE // ((2 * k + 1) * n ** (2 * k + 1))) for k in range(_BITS // (2 * n.bit_length() - 2) + 1)
    )
    pi = 16 * inverse_tangent(5) - 4 * inverse_tangent(239)
    return math.isqrt(2 * pi << _BITS)


def _atanh(numerator: int, denominator: int) -> int:
    ratio = (numerator << _BITS) // denominator
    square, power, total, odd = ratio * ratio >> _BITS, ratio, 0, 1
    while power:
        total += power // odd
        power, odd = power * square >> _BITS, odd + 2
    return total


def _log2_of(numerator: int, denominator: int) -> int:
    return (2 * _atanh(numerator - denominator, numerator + denominator) << _BITS) // _log_two()


def _rounded(value: int, bits: int) -> int:
    shift = _BITS - bits
    return (value + (1 << (shift - 1))) >> shift


def _frozen(values: list[int]) -> np.ndarray:
    table = np.array(values, np.int64)
    table.flags.writeable = False
    return table
