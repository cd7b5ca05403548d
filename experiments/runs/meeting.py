"""A meeting point for the processes of one run before JAX joins them, since JAX's own timeout aborts the process."""

import contextlib
import socket
import sys
import time

_HELLO, _GO = b"aevb %d of %d\n", b"go\n"


def meet(address: str, count: int, index: int, seconds: float) -> None:
    """Wait until all processes are present; process 0 listens at the address, and releases it at the end.

    Args:
      address: HOST:PORT of process 0.
      count: the number of processes.
      index: the index of this process.
      seconds: how long to wait at most.

    Raises:
      ValueError: not all processes came in time, two have the same index, or the address cannot be used.
    """
    print(f"waiting for {count} processes at {address}", file=sys.stderr, flush=True)
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    if index == 0:
        _gather(int(port), count, deadline, address)
    else:
        _report(host.strip("[]"), int(port), count, index, deadline, address)


def _gather(port: int, count: int, deadline: float, address: str) -> None:
    try:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        server = socket.create_server(("", port), family=family, backlog=count + 16, dualstack_ipv6=dual)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen at {address}: {getattr(error, 'strerror', None) or error}") from None
    with server, contextlib.ExitStack() as connections:
        here: dict[int, socket.socket] = {}
        while len(here) < count - 1:
            server.settimeout(max(deadline - time.monotonic(), 1e-3))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(each) for each in range(1, count) if each not in here)
                raise ValueError(f"processes {missing} of {count} did not connect to {address} in time") from None
            connections.enter_context(connection)
            its_index = _index_of(connection, count)
            if its_index in here:
                raise ValueError(f"two processes have --process_index={its_index}")
            if its_index is not None:
                here[its_index] = connection
        for connection in here.values():
            with contextlib.suppress(OSError):
                connection.sendall(_GO)


def _index_of(connection: socket.socket, count: int) -> int | None:
    """Return the index of the connecting process; `None` if it is not one of this run."""
    connection.settimeout(2.0)
    try:
        said = connection.recv(64)
    except OSError:
        return None
    return next((index for index in range(1, count) if said == _HELLO % (index, count)), None)


def _report(host: str, port: int, count: int, index: int, deadline: float, address: str) -> None:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ValueError(
                f"process 0 of {count} did not answer at {address} in time, or other processes are missing"
            )
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                connection.sendall(_HELLO % (index, count))
                if connection.recv(len(_GO)) == _GO:
                    return
        except (OSError, OverflowError):
            pass  # process 0 is not listening yet
        time.sleep(min(0.2, max(left, 0.0)))
