"""A process of its own for each contender, which stays alive and works when it is told to.

Of its own, because XLA's flags, the cores that threads may use and peak memory are all properties of a process.
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
    """What a worker tells of a piece of work.

    Attributes:
      seconds: that the work took.
      result: of the work.
      peak_memory: bytes, the most that was resident since the process began.
    """

    seconds: float
    result: Any
    peak_memory: int


class WorkerError(ValueError):
    """A worker could not do what it was told to."""


class Worker:
    """`argument -> Reply`, by the function that `build` returns in the worker's process."""

    def __init__(
        self,
        name: str,
        build: Callable[[Any], Callable[[int], Any]],
        workload: Any,
        xla_flags: str,
        cores: Collection[int] | None = None,
    ):
        """Starts the process, which builds at once: start several before the first `wait_until_built`.

        Args:
          name: for messages.
          build: a function that can be pickled.
          workload: what it is called with, and can be pickled.
          xla_flags: the whole of XLA_FLAGS.
          cores: which the process may use, `None` for all that this one may.
        """
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, workload, xla_flags, cores))
        self._process.start()
        theirs.close()

    def wait_until_built(self) -> None:
        """Raises `WorkerError` with what is missing or went wrong."""
        self._receive()

    def begin(self, argument: int) -> None:
        """Sets to work, without waiting."""
        self._connection.send(argument)

    def finish(self) -> Reply:
        """Waits for the work that was begun."""
        return self._receive()

    def __call__(self, argument: int) -> Reply:
        """Begins and finishes."""
        self.begin(argument)
        return self.finish()

    def dismiss(self) -> None:
        """Tells the process to end, without waiting."""
        self._connection.close()

    def stop(self) -> None:
        """Stops the process, whatever it is at, without waiting."""
        self._process.terminate()

    def end(self) -> None:
        """Waits for a dismissed process to end, by force if it is still at work."""
        self._process.join(_SECONDS_TO_END)
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            reply = self._connection.recv()
        except EOFError:
            self._process.join()
            raise WorkerError(f"{self.name}: its process ended, exit status {self._process.exitcode}") from None
        if isinstance(reply, Exception):
            raise WorkerError(f"{self.name}: {' '.join(str(reply).split())}")
        return reply


class Together:
    """Several workers that work at the same time, called as one."""

    def __init__(self, workers: list[Worker]):
        """Takes built ones."""
        self.workers = workers

    def __call__(self, argument: int) -> Reply:
        """Seconds are until the last has finished; peak memory is that of all together."""
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
    """Works until the pipe closes, as it does when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends this process
    os.environ["XLA_FLAGS"] = xla_flags
    if cores is not None:
        os.sched_setaffinity(0, cores)  # before any pool of threads is made, so that pools are as large as this
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
        # The message alone: classes of a library that the parent has not imported need not unpickle there.
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _peak_memory() -> int:
    """Bytes. Linux's own figure is of this program; that of `getrusage` begins with the parent's at the fork."""
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
