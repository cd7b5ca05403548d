"""The experiment commands: `python -m experiments.NAME`."""

import os
import signal
import sys


def _interrupted(*_: object) -> None:
    os.write(2, b"error: interrupted\n")
    os._exit(130)


# The imports of `python -m experiments.NAME` take seconds; during them Ctrl-C prints one line. `launch` takes over once
# there is something to save.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)
