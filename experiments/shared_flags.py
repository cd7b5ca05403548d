"""Flags shared by several commands, and the parsing of flags that take lists."""

from collections.abc import Collection
from typing import Any

from absl import flags

from experiments import flag_checks

_FLAGS = flags.FLAGS


def define_data_flags(has_originals: bool = True) -> None:
    """Define --data_dir and, for data sets that are prepared from original files, --source_dir."""
    flags.DEFINE_string("data_dir", None, "Folder for prepared data; by default that of TFDS.")
    if has_originals:
        flags.DEFINE_string(
            "source_dir",
            None,
            "Folder with the original files, read instead of downloading them, or with one such folder per data set.",
        )


FIGURE_FORMATS = ("png", "pdf", "svg")


def define_figure_flags() -> None:
    """Define --figure_format, for every command that draws."""
    flags.DEFINE_list(
        "figure_format", [], "Vector formats that figures are also written in, beside the PNG: pdf, svg, or pdf,svg."
    )
    flags.register_validator(
        "figure_format",
        lambda given: set(given or ()) <= set(FIGURE_FORMATS),
        f"--figure_format must be of {','.join(FIGURE_FORMATS)}",
    )


def figure_formats() -> list[str]:
    """Return the values of --figure_format; none where a command has no such flag."""
    return list(_FLAGS["figure_format"].value or ()) if "figure_format" in _FLAGS else []


def integers(name: str, may_be_empty: bool = False) -> list[int]:
    """Return the positive integers of a list flag.

    Raises:
      ValueError: an element is not a positive integer, or the list is empty.
    """
    given: Any = _FLAGS[name].value
    shown = ",".join(given)
    try:
        values = [int(value) for value in given]
    except ValueError:
        raise ValueError(f"--{name} takes integers separated by commas, got {shown}") from None
    if min(values, default=may_be_empty) < 1:
        raise ValueError(f"--{name} must be positive, got {shown}")
    if name.startswith("latent_dim") and len(set(values)) < len(values):
        raise ValueError(f"--{name} names a size twice: {shown}")
    return values


def positive_numbers(name: str) -> list[float]:
    """Return the distinct positive finite numbers of a list flag.

    Raises:
      ValueError: an element is not such a number or occurs twice, or the list is empty.
    """
    given: list[str] = _FLAGS[name].value or []
    try:
        values = [float(value) for value in given]
    except ValueError:
        raise ValueError(f"--{name} takes numbers separated by commas, got {','.join(given)}") from None
    if not values or not all(0 < value < float("inf") for value in values) or len(set(values)) < len(values):
        raise ValueError(f"--{name} must be positive numbers without duplicates, got {','.join(given)}")
    return values


def seeds(name: str) -> list[int]:
    """Return the distinct seeds of a list flag.

    Raises:
      ValueError: an element is not a seed or occurs twice, or the list is empty.
    """
    given: list[str] = _FLAGS[name].value or []
    if not given or not all(each.isdecimal() for each in given) or len(set(map(int, given))) < len(given):
        raise ValueError(f"--{name} takes different integers separated by commas, got {','.join(given)}")
    found = [int(each) for each in given]
    for seed in found:
        flag_checks.check_seed(seed)
    return found


def choices(name: str, allowed: Collection[str]) -> list[str]:
    """Return the values of a list flag.

    Raises:
      ValueError: a value is not in `allowed`, or the list is empty.
    """
    given: list[str] = _FLAGS[name].value or []
    if not given or not set(given) <= set(allowed):
        raise ValueError(f"--{name} takes one or more of {','.join(allowed)}, got {','.join(given)}")
    return given
