"""TensorBoard's event files: what they hold, and a disk that is full."""

import resource
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.reports.event_files import EventFile


def events(path: Path) -> Iterator:
    """Yield the events of a file, without checking their checksums."""
    from tensorboardX.proto import event_pb2

    contents = path.read_bytes()
    while contents:
        (size,) = struct.unpack("<Q", contents[:8])
        yield event_pb2.Event.FromString(contents[12 : 12 + size])  # pyright: ignore[reportAttributeAccessIssue]
        contents = contents[16 + size :]


def test_scalars_and_where_older_ones_are_dropped(tmp_path):
    for _ in range(2):  # in the same second, perhaps
        file = EventFile(tmp_path, first_samples=100)
        file.add_scalar("elbo", -3.5, 200)
        file.flush()
        file.close()
    paths = sorted(tmp_path.glob("events.out.tfevents.*"))
    assert len(paths) == 2
    for path in paths:
        version, start, scalar = events(path)
        assert version.file_version == "brain.Event:2"
        assert (start.step, start.session_log.status) == (100, start.session_log.START)
        assert (scalar.step, scalar.summary.value[0].tag, scalar.summary.value[0].simple_value) == (200, "elbo", -3.5)
        assert abs(scalar.wall_time - time.time()) < 60


def fill(file: EventFile) -> None:
    for step in range(1000):
        file.add_scalar("elbo", 0.0, step)
        file.flush()


def test_a_file_that_cannot_be_written_is_an_error_and_no_wait(tmp_path):
    """`tensorboardX.SummaryWriter` waits for a thread that has died of the error."""
    file = EventFile(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            fill(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.close()
