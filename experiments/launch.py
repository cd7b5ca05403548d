"""Flags, one-line errors and exit statuses shared by all commands."""

import gc
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging

from experiments import flag_checks, new_folders, standard_streams
from experiments.runs import distributed, shards

if TYPE_CHECKING:
    from experiments.configs import Config

_FLAGS = flags.FLAGS
_INTERRUPTED = 130
_LONGEST = 2000  # characters of an error line, which may quote a value of any length

# Saves 2 to 18 % of a training step on a CPU with 512-bit vectors (RESULTS.md). XLA reads it when JAX first computes.
XLA_FLAG = "--xla_cpu_prefer_vector_width=512"


def main(config: "str | Config", title: str = "", latent_dim: Sequence[int] = ()) -> None:
    """Define the flags, parse them, train, and exit with status 0, or with another status and one line that says why.

    Status 2 is for errors that the user can correct, 130 for Ctrl-C, 143 for SIGTERM.

    Args:
      config: the configuration that the flags change, or the name of a data set for its default configuration.
      title: the name of the data set in tables and figures; by default made from its name.
      latent_dim: default sizes of z, trained one after the other; if empty, the size in the configuration.
    """
    gc.disable()  # until `start`: garbage collection during imports takes a tenth of a second
    # Imported late: it imports JAX.
    from experiments.runs import command

    start(command.define(config, title, latent_dim))


def start(body: Callable[..., None], arguments: Sequence[str] = ()) -> None:
    """Parse the defined flags, run `body`, and print errors that the user can correct as one line.

    Args:
      body: the function to run.
      arguments: the names of the required positional arguments, which `body` takes.
    """
    gc.freeze()  # Imported modules stay in memory: scanning them at every trace takes two tenths of a second.
    gc.enable()
    for module, its_flags in _FLAGS.flags_by_module_dict().items():
        for flag in its_flags if module.startswith("experiments.") else ():
            _FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows them
    shards.pin()
    os.environ["XLA_FLAGS"] = " ".join([XLA_FLAG, os.environ.get("XLA_FLAGS", "")]).strip()
    standard_streams.keep()
    app.run(lambda argv: _one_line_errors(argv, body, arguments), flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    app.define_help_flags()
    logging.set_verbosity(logging.WARNING)  # hides JAX's messages about missing accelerators
    try:
        rest = _FLAGS(argv)
        flag_checks.check()
        return rest
    except SystemExit:  # after --help, which absl ends with a failure status
        sys.exit(0)
    except RecursionError:  # from absl's search for similar names, if the name has a thousand characters
        _fail("unknown command line flag with a very long name")
        raise
    except (flags.Error, ValueError) as error:
        _fail(" ".join(str(error).split()))
        raise AssertionError from error


def _one_line_errors(argv: list[str], body: Callable[..., None], arguments: Sequence[str]) -> None:
    import jax

    from aevb.checkpoints import RunError
    from aevb.data import DatasetError
    from aevb.quiet import keep_quiet
    from aevb.training.divergence import DivergedError
    from experiments.runs.termination import TerminatedError

    _keep_compiled_programs()
    _one_line_warnings()
    keep_quiet()
    try:
        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # replaces the handler of `experiments`
        distributed.start()
        given = argv[1:]
        if len(given) > len(arguments):
            raise ValueError(f"unexpected argument {given[len(arguments)]!r}: flags are written --name=value")
        if len(given) < len(arguments):
            raise ValueError(f"{' and '.join(arguments)} must be given without dashes, besides the flags")
        body(*given)
    except (ValueError, TypeError, RunError, DatasetError, DivergedError) as error:
        if _FLAGS.pdb or _FLAGS.only_check_args:
            raise
        _fail(str(error))
    except OverflowError as error:
        _fail(f"a number is too large: {' '.join(str(error).split())}")
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        # Running out of memory in another thread is raised as an internal error.
        is_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if not (is_memory or "Out of memory" in str(error)):
            raise
        _fail(f"out of memory{_how_much(str(error))}: {_smaller()}")
    except KeyboardInterrupt:
        _fail(f"interrupted; {_same_command()} resumes from the last checkpoint", status=_INTERRUPTED)
    except TerminatedError:
        _fail(f"terminated, and saved; {_same_command()} resumes from here", status=143)


def _how_much(message: str) -> str:
    """Return the amount of memory requested, if it is known."""
    found = re.search(r"allocat\w+ (\d+) bytes|allocat\w+ ([\d.]+ ?[KMGT]i?B)", message)
    if not found:
        return ""
    return f", {int(found[1]) / 2**30:,.1f} GiB requested" if found[1] else f", {found[2]} requested"


def _smaller() -> str:
    known = (
        "num_samples",
        "batch_size",
        "hidden_dim",
        "num_particles",
        "num_draws",
        "num_datapoints",
        "num_states",
        "num_restarts",
    )
    named = [f"--{name}" for name in known if name in _FLAGS]
    streams = ", or add --stream, which does not hold the data" if "stream" in _FLAGS and not _FLAGS.stream else ""
    return f"reduce {', '.join(named) or 'the problem'}{streams}"


def _same_command() -> str:
    # Commands without --resume always resume.
    return "the same command with --resume" if "resume" in _FLAGS else "the same command"


def _one_line_warnings() -> None:
    """Show warnings about run folders and data without the source line that raised them."""
    from aevb.checkpoints import RunWarning
    from aevb.data import DatasetWarning

    show = warnings.showwarning

    def show_in_one_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, RunWarning | DatasetWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, *where, **more)

    warnings.showwarning = show_in_one_line


def _keep_compiled_programs() -> None:
    """Keep JAX's compilation cache in the user's cache folder, unless $JAX_COMPILATION_CACHE_DIR is set."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "aevb" / "compiled"))
    # Cache even fast compilations: dozens of small programs add up to two seconds per start.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _fail(message: str, status: int = 2) -> None:
    new_folders.remove_empty()
    # A path may contain any characters, but the message stays on one line.
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST // 2]}... {len(shown):,} characters ...{shown[-_LONGEST // 2 :]}"
    print(f"error: {shown}", file=sys.stderr)
    if status == _INTERRUPTED:
        # Exit at once: threads that are saving would fail and print errors while Python shuts down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
