"""The experiment binaries: `python -m experiments.NAME`."""

import os
import signal
import sys


def _interrupted(*_: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(130)


# `python -m experiments.NAME` is about to import what it needs, which takes seconds: Ctrl-C meanwhile is one line. From
# where it can save something, `launch` sees to it.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)
