"""The metadata of a configuration's fields: help, range, choices and flag."""

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any

from experiments import flag_checks

_TINY = 2.0**-126  # the smallest normal float32; smaller numbers are 0 on most devices


@dataclasses.dataclass(frozen=True)
class Setting:
    """The metadata of a field, besides its name, type and default.

    Attributes:
      help: the text shown by `--help`.
      minimum: the smallest value, inclusive.
      above: the bound that a value must exceed.
      maximum: the largest value, inclusive.
      choices: returns the allowed values; not needed for a `Literal`.
      unit: the unit of a number.
      flag: the name of its flag, if it differs from the field's.
      is_length: whether it sets only how long to train, so that a run can be prolonged.
      is_recorded: whether it is set when the data are loaded, and has no flag.
    """

    help: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    choices: Callable[[], Collection[str]] | None = None
    unit: str = ""
    flag: str = ""
    is_length: bool = False
    is_recorded: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise `ValueError` for a value that is out of range or not a choice; the message uses `name`."""
        if self.choices is not None and value is not None and value not in self.choices():
            raise ValueError(f"{name} must be one of {', '.join(self.choices())}, got {value}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        if self.above is not None and not self.above < value < math.inf:
            least = "positive" if self.above == 0 else f"above {self.above:g}"
            raise ValueError(f"{name} must be {least} and finite, got {value}")
        if self.minimum is not None and not self.minimum <= value < math.inf:
            raise ValueError(f"{name} must be at least {self.minimum:g}, got {value}")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"{name} must be at most {self.maximum:.10g}, got {value}")
        if isinstance(value, int) and self.maximum is None and not self.is_length and value > flag_checks.LARGEST:
            raise ValueError(f"{name} must be at most {flag_checks.LARGEST}, got {value}")
        if isinstance(value, float) and value and not _TINY <= abs(value) < math.inf:
            raise ValueError(f"{name} must be finite, and not so small that it is 0 in float32, got {value}")


def setting(default: Any, help: str, **rest: Any) -> Any:  # noqa: A002
    """Return a field of a configuration with its metadata."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help, **rest)})
