"""Standard output and error that survive a closed terminal, `| head` or a full disk."""

import contextlib
import os
import sys
from typing import Any, TextIO


class Lasting:
    """A text stream that discards its output once writing has failed.

    What a run prints is also in its folder, so a lost terminal need not end the run.
    """

    def __init__(self, stream: TextIO):
        """Wrap a stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or discard it if writing fails."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # a closed file raises ValueError
            self._lose()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, unless writing fails."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream."""
        return getattr(self._stream, name)

    def _lose(self) -> None:
        """Redirect the file to /dev/null, since writing its buffer would fail again when Python ends."""
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


def keep() -> None:
    """Wrap standard output and error in `Lasting`. Streams that were closed from the start are opened on /dev/null."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # otherwise the next opened file would get its number and its output
            os.open(os.devnull, os.O_RDWR)
        stream = getattr(sys, name)
        if number and stream is None:
            stream = os.fdopen(os.dup(number), "w")
        if number and not isinstance(stream, Lasting):
            setattr(sys, name, Lasting(stream))
