"""TensorBoard's event files, written without a thread.

`tensorboardX.SummaryWriter` writes in a thread of its own. A full disk ends that thread, and the run then waits for it
without end. Here the caller gets the error.
"""

import contextlib
import itertools
import socket
import struct
import time
from pathlib import Path
from typing import Any

_RGBA = 4  # the number of this color space in TensorBoard's format


class EventFile:
    """An event file in a folder, open until `close`."""

    def __init__(self, folder: Path, first_samples: int | None = None, suffix: str = ""):
        """Create the file.

        Args:
          folder: the folder of the run.
          first_samples: if given, TensorBoard drops what older files of the folder hold from here on.
          suffix: the end of the name.

        Raises:
          OSError: the file cannot be written.
        """
        # Imported late: help and errors do not need it.
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import RecordWriter

        self._event_types: Any = event_pb2
        self._summary_types: Any = summary_pb2
        self._records: Any = RecordWriter(str(_new_path(folder, suffix)))
        self._write(file_version="brain.Event:2")
        if first_samples is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # pyright: ignore[reportAttributeAccessIssue]
            self._write(step=first_samples, session_log=start)

    def add_scalar(self, name: str, value: float, num_train_samples: int) -> None:
        """Write a number, which appears under SCALARS."""
        self._add(num_train_samples, tag=name, simple_value=float(value))

    def add_png(self, name: str, contents: bytes, num_train_samples: int) -> None:
        """Write the contents of a PNG file, which appear under IMAGES."""
        width, height = struct.unpack(">II", contents[16:24])  # from the header
        image = self._summary_types.Summary.Image(
            width=width, height=height, colorspace=_RGBA, encoded_image_string=contents
        )
        self._add(num_train_samples, tag=name, image=image)

    def flush(self) -> None:
        """Write everything to the disk."""
        self._records.flush()

    def close(self) -> None:
        """Close the file. Errors of what was not flushed are ignored."""
        with contextlib.suppress(OSError):
            self._records.close()

    def _add(self, num_train_samples: int, **value: Any) -> None:
        types = self._summary_types.Summary
        self._write(step=num_train_samples, summary=types(value=[types.Value(**value)]))

    def _write(self, **fields: Any) -> None:
        event = self._event_types.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())


def _new_path(folder: Path, suffix: str) -> Path:
    """Return a name that TensorBoard recognizes and that no file has: names contain the second of their creation."""
    stem = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
    names = itertools.chain([stem], (f"{stem}.{number}" for number in itertools.count(1)))
    return next(path for name in names if not (path := folder / f"{name}{suffix}").exists())
