"""Print the flags of commands as JSON: {command: {"about": ..., "flags": [[name, default, choices, help], ...]}}.

Each command defines its flags in its own process, forked after the imports that all commands share.
"""

import ast
import contextlib
import json
import os
import runpy
import sys

from absl import app, flags
from flag_tables import ROOT, path_of


class Defined(Exception):  # noqa: N818 - the good case
    """Raised at the point where a command would parse its flags."""


def described(flag: flags.Flag) -> list:
    """Return the name, default, choices and help of a flag."""
    default = "" if flag.default is None else str(flag.default_as_str).strip("'")
    choices = list(getattr(flag.parser, "enum_values", None) or [])
    return [flag.name, default, choices, " ".join((flag.help or "").split())]


def read(command: str) -> dict:
    """Return the docstring of a command and the flags that it defines."""

    def stop(*_: object, **__: object) -> None:
        raise Defined

    app.run = stop
    sys.argv = [command]
    with contextlib.suppress(Defined):
        runpy.run_module(f"experiments.{command}", run_name="__main__", alter_sys=True)
    modules = flags.FLAGS.flags_by_module_dict().items()
    # absl names the main module by its path.
    ours = [flag for module, theirs in modules if module.startswith(("experiments.", str(ROOT))) for flag in theirs]
    named = {flag.name: described(flag) for flag in ours}
    return {"about": ast.get_docstring(ast.parse(path_of(command).read_text())), "flags": list(named.values())}


def main(commands: list[str]) -> None:
    """Read every command in a child process, one after another."""
    sys.path.insert(0, str(ROOT))
    import experiments.runs.command
    import experiments.studies.sweep  # noqa: F401 - imported once for all commands

    found = {}
    for command in commands:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            status = 1
            try:
                answer = json.dumps(read(command)).encode()
                with os.fdopen(writing, "wb") as file:
                    file.write(answer)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            answer = file.read()
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"error: the flags of experiments.{command} could not be read")
        found[command] = json.loads(answer)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
