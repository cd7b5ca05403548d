"""Silence Orbax's output where it raises an exception: it also prints the same error many times over."""

import contextlib
import gc
import logging
import re
import sys
from collections.abc import Callable, Iterator
from types import CoroutineType
from typing import Any, TypeVar

_NAME = "orbax"
_TENSORSTORE = re.compile(r"_wrap_awaitable\(\) .* exception=\w+\(.[A-Z_]+: ")  # what failed is named in capitals
_THREAD = "_SignalingThread.run() raised an exception"  # the main thread raises the same exception
Result = TypeVar("Result")


class OrbaxError(Exception):
    """The message of an exception of Orbax or TensorStore. The exception itself would keep half-read arrays alive."""


def quietly(call: Callable[[], Result]) -> Result:
    """Call Orbax and return its result. If the call raises, nothing is printed besides the exception.

    Reading a damaged checkpoint leaves dozens of tasks, unfinished or failed. Each prints a complaint when it is
    collected, which is done here, or when TensorStore releases it, at any later moment. The complaints about these
    tasks therefore stay silent after the call.

    Raises:
      OrbaxError: the call raised an exception, of any class.
    """
    before = sys.unraisablehook
    if not isinstance(before, _Hook):
        sys.unraisablehook = _Hook(before)
    logging.getLogger("asyncio").addFilter(_is_of_another_task)
    with _silent_absl():
        try:
            result = call()
        except Exception as error:
            # Orbax and TensorStore raise exceptions of nearly any class on damaged input; all mean the same here.
            words = str(error) or type(error).__name__
        else:
            sys.unraisablehook = before
            return result
        gc.collect()
    raise OrbaxError(words)


def keep_quiet() -> None:
    """Silence the threads of a failed save. For commands, which report the failure in one line themselves."""
    if not isinstance(sys.unraisablehook, _Hook):
        sys.unraisablehook = _Hook(sys.unraisablehook)
    logging.getLogger("absl").addFilter(_is_of_no_thread)


class _Hook:
    """A `sys.unraisablehook` that ignores the unfinished work of Orbax and TensorStore and passes on the rest."""

    def __init__(self, before: Callable[[Any], Any]):
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        found = unraisable.object
        is_of_orbax = isinstance(found, CoroutineType) and _NAME in found.cr_code.co_filename
        is_of_tensorstore = found is None and str(unraisable.exc_value) == "Event loop is closed"
        if not (is_of_orbax or is_of_tensorstore):
            self._before(unraisable)


@contextlib.contextmanager
def _silent_absl() -> Iterator[None]:
    """Keep Orbax's log messages from standard error. Other messages are still printed."""
    logger = logging.getLogger("absl")
    logger.addFilter(_is_of_others)
    try:
        yield
    finally:
        logger.removeFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
    return _NAME not in record.pathname and _NAME not in record.getMessage()


def _is_of_another_task(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return _NAME not in message and not _TENSORSTORE.search(message)


def _is_of_no_thread(record: logging.LogRecord) -> bool:
    return _THREAD not in record.getMessage()
