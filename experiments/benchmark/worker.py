"""One process per contender, which stays alive and works on request.

XLA's flags, the cores that threads may use and peak memory are all properties of a process.
"""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

_SECONDS_TO_END = 10.0


class Reply(NamedTuple):
    """A worker's reply to one request.

    Attributes:
      seconds: the duration of the work.
      result: the result of the work.
      peak_memory: peak resident memory since the process began, in bytes.
    """

    seconds: float
    result: Any
    peak_memory: int


class WorkerError(ValueError):
    """Raised when a worker cannot do its work."""


class Worker:
    """Maps `argument` to a `Reply`, with the function that `build` returns in the worker's process."""

    def __init__(
        self,
        name: str,
        build: Callable[[Any], Callable[[int], Any]],
        workload: Any,
        xla_flags: str,
        cores: Collection[int] | None = None,
    ):
        """Start the process, which builds at once; start several before the first `wait_until_built`.

        Args:
          name: the name in messages.
          build: a picklable function.
          workload: the picklable argument of `build`.
          xla_flags: the complete value of XLA_FLAGS.
          cores: the cores that the process may use, `None` for all that this process may use.
        """
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, workload, xla_flags, cores))
        self._process.start()
        theirs.close()

    def wait_until_built(self) -> None:
        """Wait for `build`, or raise `WorkerError` with what is missing or went wrong."""
        self._receive()

    def begin(self, argument: int) -> None:
        """Start the work without waiting."""
        self._connection.send(argument)

    def finish(self) -> Reply:
        """Wait for the work to finish."""
        return self._receive()

    def __call__(self, argument: int) -> Reply:
        """Do the work and wait for it."""
        self.begin(argument)
        return self.finish()

    def dismiss(self) -> None:
        """Tell the process to end, without waiting."""
        self._connection.close()

    def stop(self) -> None:
        """Terminate the process, even during work, without waiting."""
        self._process.terminate()

    def end(self) -> None:
        """Wait for a dismissed process to end; terminate it if it is still working."""
        self._process.join(_SECONDS_TO_END)
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            reply = self._connection.recv()
        except EOFError:
            self._process.join()
            raise WorkerError(f"{self.name}: its process ended with exit status {self._process.exitcode}") from None
        if isinstance(reply, Exception):
            raise WorkerError(f"{self.name}: {' '.join(str(reply).split())}")
        return reply


class Together:
    """Several workers that work at the same time, called as one."""

    def __init__(self, workers: list[Worker]):
        """Take workers that have been built."""
        self.workers = workers

    def __call__(self, argument: int) -> Reply:
        """Let all workers do the work; `seconds` ends with the slowest, and `peak_memory` is the sum of theirs."""
        start = time.perf_counter()
        for worker in self.workers:
            worker.begin(argument)
        replies = [worker.finish() for worker in self.workers]
        seconds = time.perf_counter() - start
        return Reply(seconds, [reply.result for reply in replies], sum(reply.peak_memory for reply in replies))


def _serve(
    connection: Connection,
    build: Callable[[Any], Callable[[int], Any]],
    workload: Any,
    xla_flags: str,
    cores: Collection[int] | None,
) -> None:
    """Work until the pipe closes, which it also does when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then ends this process
    os.environ["XLA_FLAGS"] = xla_flags
    if cores is not None:
        os.sched_setaffinity(0, cores)  # before any thread pool is created, since pools take their size from it
    try:
        work = build(workload)
        connection.send(None)
        while True:
            argument = connection.recv()
            start = time.perf_counter()
            result = work(argument)
            connection.send(Reply(time.perf_counter() - start, result, _peak_memory()))
    except EOFError:
        return
    except Exception as error:
        # Only the message: the parent may be unable to unpickle classes of libraries that it has not imported.
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _peak_memory() -> int:
    """Return bytes. Linux's figure is of this program; that of `getrusage` includes the parent's before the fork."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
