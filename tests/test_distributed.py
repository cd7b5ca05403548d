"""Two real processes on 127.0.0.1 train one run together."""

import concurrent.futures
import contextlib
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from experiments.runs import meeting
from tests.processes import assert_one_line_error, ends_of, experiment, metrics, start_processes, wait_for

RUN = ("--latent_dim=2", "--num_epochs=4", "--eval_every=2", "--hidden_dim=20", "--learning_rate=0.05")


def together(*arguments: str) -> list[subprocess.CompletedProcess[str]]:
    return ends_of(start_together(*arguments))


def start_together(*arguments: str) -> list[subprocess.Popen[str]]:
    return start_processes(["digits", *RUN, *arguments])


def bounds(workdir) -> np.ndarray:
    columns = ("epoch", "num_train_samples", "train_elbo", "test_elbo", "test_reconstruction", "test_kl")
    return np.array([[float(row[name]) for name in columns] for row in metrics(workdir)])


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(data_dir, tmp_path):
    """Eight steps of plain gradient descent, which passes on the rounding of two programs without amplifying it."""
    one, two = tmp_path / "one", tmp_path / "two"
    few = (f"--data_dir={data_dir}", "--num_train_images=200", "--optimizer=sgd", "--learning_rate=0.1")
    alone = experiment("digits", *RUN, *few, f"--workdir={one}")
    assert alone.returncode == 0, alone.stderr
    writer, other = together(*few, f"--workdir={two}")
    assert (writer.returncode, other.returncode) == (0, 0), writer.stderr + other.stderr
    np.testing.assert_allclose(bounds(two), bounds(one), rtol=1e-5, atol=1e-5)
    assert np.all(np.diff(bounds(one)[:, 2:4], axis=0) > 0.1)
    assert "written, each with its figures" in writer.stdout
    assert "nats" not in other.stdout  # only one process writes and prints
    assert {path.name for path in one.iterdir() if "events" not in path.name} == {
        path.name for path in two.iterdir() if "events" not in path.name
    }

    # In both processes: finished, nothing to do; a longer run resumes; without --resume it is refused.
    finished = together(*few, f"--workdir={two}", "--resume")
    assert [done.returncode for done in finished] == [0, 0], [done.stderr for done in finished]
    longer = together(*few, f"--workdir={two}", "--resume", "--num_epochs=6")
    assert [done.returncode for done in longer] == [0, 0], [done.stderr for done in longer]
    assert [row["epoch"] for row in metrics(two)] == ["0", "2", "4", "6"]
    refused = together(*few, f"--workdir={two}")
    assert all(done.returncode != 0 for done in refused)
    assert "pass --resume to continue it" in refused[0].stderr


@pytest.mark.slow
def test_sigterm_to_either_process_stops_both_and_is_saved(data_dir, tmp_path):
    """The next evaluation is far away. Until then both must pause after the same epochs, whatever their clocks."""
    arguments = (f"--data_dir={data_dir}", f"--workdir={tmp_path}", "--num_epochs=100000", "--eval_every=100000")
    checkpoints = tmp_path / "checkpoints"
    steps = [0]
    for index in range(2):
        processes = start_together(*arguments, *["--resume"] * index)
        try:
            wait_for(checkpoints / str(steps[-1]), processes[0])
            time.sleep(15)  # and a dozen pauses, or as many as fit in the time after a restart
            processes[index].send_signal(signal.SIGTERM)
        finally:
            ended = ends_of(processes)
        assert [done.returncode for done in ended] == [143, 143], [done.stderr for done in ended]
        assert "terminated, and saved" in ended[0].stderr
        steps.append(max(int(path.name) for path in checkpoints.iterdir()))
    assert 0 < steps[1] < steps[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=127.0.0.1:1"], "--coordinator need --distributed"),
        (["--distributed", "--process_count=2"], "must be given together"),
        (
            ["--distributed", "--coordinator=127.0.0.1:1", "--process_count=2", "--process_index=2"],
            "--process_index must be below --process_count, got 2",
        ),
        (
            ["--distributed", "--coordinator=garbage", "--process_count=2", "--process_index=0"],
            "--coordinator takes HOST:PORT, got garbage",
        ),
    ],
)
def test_flags_that_do_not_go_together(arguments, message, tmp_path):
    assert_one_line_error(experiment("digits", f"--workdir={tmp_path / 'run'}", *arguments), message)


# Before the processes are connected


def test_processes_meet_whoever_comes_first():
    address = f"127.0.0.1:{free_port()}"
    with concurrent.futures.ThreadPoolExecutor() as threads:
        others = [threads.submit(meeting.meet, address, 3, index, 20.0) for index in (2, 1)]
        time.sleep(0.3)
        stranger = threads.submit(knock, address)
        first = threads.submit(meeting.meet, address, 3, 0, 20.0)
        assert [each.result(timeout=25) for each in (first, *others, stranger)] == [None] * 4


def test_who_is_missing_is_named():
    address = f"127.0.0.1:{free_port()}"
    with concurrent.futures.ThreadPoolExecutor() as threads:
        other = threads.submit(meeting.meet, address, 4, 2, 1.5)
        with pytest.raises(ValueError, match=rf"processes 1, 3 of 4 did not connect to {address} in time"):
            meeting.meet(address, 4, 0, 1.0)
        with pytest.raises(ValueError, match=f"process 0 of 4 did not answer at {address} in time"):
            other.result(timeout=10)


def test_two_of_the_same_index_and_an_address_that_is_taken():
    address = f"127.0.0.1:{free_port()}"
    with concurrent.futures.ThreadPoolExecutor() as threads:
        others = [threads.submit(meeting.meet, address, 3, 1, 1.0) for _ in range(2)]
        with pytest.raises(ValueError, match="two processes have --process_index=1"):
            meeting.meet(address, 3, 0, 5.0)
        assert all(isinstance(each.exception(timeout=10), ValueError) for each in others)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"cannot listen at {address}"):
            meeting.meet(address, 2, 0, 1.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def knock(address: str) -> None:
    """Connect to the port and send something else, as a scanner does."""
    host, port = address.split(":")
    for _ in range(50):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return
        time.sleep(0.05)
