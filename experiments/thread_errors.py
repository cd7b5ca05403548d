"""What Orbax and TensorStore print of a failed save, from threads of their own: the main thread raises it as well."""

import logging
import sys
from typing import Any

_OF_ORBAX = "_SignalingThread.run() raised an exception"
_OF_TENSORSTORE = "Event loop is closed"  # where it wanted to say so to Orbax, which had given up


def keep_quiet() -> None:
    """Print nothing of these errors from now on, so that one line is all that a command says."""
    logging.getLogger("absl").addFilter(_is_news)
    usual = sys.unraisablehook

    def show(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, RuntimeError) or str(error) != _OF_TENSORSTORE:
            usual(unraisable)

    sys.unraisablehook = show


def _is_news(record: logging.LogRecord) -> bool:
    return _OF_ORBAX not in record.getMessage()
