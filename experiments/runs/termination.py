"""SIGTERM, which schedulers send to a job before they kill it, answered where the state can be saved."""

import signal
import threading
from types import FrameType
from typing import Any


class TerminatedError(Exception):
    """SIGTERM came, and what there was to save is saved."""


class Termination:
    """Notes SIGTERM from `watch` to `release`; before and after, it ends the process at once as it always does."""

    def __init__(self):
        """Watches nothing yet."""
        self.requested = False
        self._before: Any = None
        self._watching = False

    def watch(self) -> None:
        """From here on SIGTERM sets `requested`. In other threads than the main one Python does not allow it."""
        if threading.current_thread() is threading.main_thread() and not self._watching:
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._watching = True

    def release(self) -> None:
        """Gives SIGTERM back its former meaning."""
        if self._watching:
            signal.signal(signal.SIGTERM, self._before)
            self._watching = False

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        self.requested = True
