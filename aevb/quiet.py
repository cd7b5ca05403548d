"""Silence beside an exception: Orbax raises what is wrong with a checkpoint, and prints it many times over too."""

import contextlib
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any, TypeVar

_LOGGERS = ("absl", "asyncio")  # of Orbax, and of the tasks that it leaves when one of them fails
_NAME = "orbax"
_THREAD = "_SignalingThread.run() raised an exception"  # which the main thread raises as well
Result = TypeVar("Result")


class OrbaxError(Exception):
    """What Orbax or TensorStore raised, in words: the exception itself would keep half-read arrays alive."""


def quietly(call: Callable[[], Result]) -> Result:
    """Return what a call of Orbax returns; if it raises, nothing is printed beside the exception.

    Reading a damaged checkpoint leaves dozens of half-done tasks. Each complains when it is collected, which is done
    here, or when TensorStore comes to the end of it, at any later moment.

    Raises:
      OrbaxError: the call raised an exception, of any class.
    """
    before = sys.unraisablehook
    if not isinstance(before, _Hook):
        sys.unraisablehook = _Hook(before)
    with _silent_loggers():
        try:
            result = call()
        except Exception as error:
            # Orbax and TensorStore raise nearly anything on damaged input, and all of it means the same here.
            words = str(error) or type(error).__name__
        else:
            sys.unraisablehook = before
            return result
        gc.collect()
    raise OrbaxError(words)


def keep_quiet() -> None:
    """Print nothing of what threads of a failed save complain of, for commands: they say it in one line themselves."""
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)
    logging.getLogger("absl").addFilter(_is_of_no_thread)


class _Hook:
    """In the place of `sys.unraisablehook`: passes on what is not of Orbax's or TensorStore's unfinished work."""

    def __init__(self, before: Callable[[Any], Any]):
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        found = unraisable.object
        is_of_orbax = isinstance(found, CoroutineType) and _NAME in found.cr_code.co_filename
        is_of_tensorstore = found is None and str(unraisable.exc_value) == "Event loop is closed"
        if not (is_of_orbax or is_of_tensorstore):
            self._before(unraisable)


@contextlib.contextmanager
def _silent_loggers() -> Iterator[None]:
    """Keep what Orbax logs of errors from standard error; what others say meanwhile is printed."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_of_others)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
    return _NAME not in record.pathname and _NAME not in record.getMessage()


def _is_of_no_thread(record: logging.LogRecord) -> bool:
    return _THREAD not in record.getMessage()
