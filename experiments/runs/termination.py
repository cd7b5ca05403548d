"""Handling of SIGTERM, which schedulers send to a job before they kill it, where the state can be saved."""

import signal
import threading
from types import FrameType
from typing import Any


class TerminatedError(Exception):
    """Raised after SIGTERM, once the state has been saved."""


class Termination:
    """Records SIGTERM from `watch` to `release`; before and after, it ends the process at once as usual."""

    def __init__(self):
        """Start without watching."""
        self.requested = False
        self._before: Any = None
        self._watching = False

    def watch(self) -> None:
        """Make SIGTERM set `requested`; does nothing outside the main thread, where Python does not allow it."""
        if threading.current_thread() is threading.main_thread() and not self._watching:
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._watching = True

    def release(self) -> None:
        """Restore the former handling of SIGTERM."""
        if self._watching:
            signal.signal(signal.SIGTERM, self._before)
            self._watching = False

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        self.requested = True
