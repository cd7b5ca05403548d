"""Standard output and error that may be lost: a terminal that is closed, `| head`, a full disk."""

import contextlib
import os
import sys
from typing import Any, TextIO


class Lasting:
    """A text stream that is written to as long as that works, and from then on to nothing.

    What a run prints is in its folder too, so that a lost terminal is no reason to end it.
    """

    def __init__(self, stream: TextIO):
        """Begin with the stream as it is."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or nothing where nobody reads it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # a ValueError of a closed file
            self._lose()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, if it is still there."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lose()

    def __getattr__(self, name: str) -> Any:
        """Return whatever else a stream has."""
        return getattr(self._stream, name)

    def _lose(self) -> None:
        """Point the file itself to nothing: what is still in its buffer would fail again when Python ends."""
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


def keep() -> None:
    """Make standard output and error last. Those that were closed from the start are opened on nothing."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the next file that is opened would get its number, and what is printed
            os.open(os.devnull, os.O_RDWR)
        stream = getattr(sys, name)
        if number and stream is None:
            stream = os.fdopen(os.dup(number), "w")
        if number and not isinstance(stream, Lasting):
            setattr(sys, name, Lasting(stream))
