"""The flags --run and --checkpoint, which name the trained run that a command uses."""

from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from aevb.model import Model, Params

_FLAGS = flags.FLAGS
_NAMES: dict[str, Any] = {"latest": "last", "best": "best"}
"""The names that `aevb.load_run` uses."""


def define_flags() -> None:
    """Define --run and --checkpoint."""
    flags.DEFINE_string("run", None, "Run folder written by a training command.")
    flags.DEFINE_string("checkpoint", "latest", "Checkpoint to use: latest, best (by validation) or a step number.")


def check_flags() -> None:
    """Raise `ValueError` if no run is named, or if the checkpoint's name is invalid."""
    if not _FLAGS.run:
        raise ValueError("--run must name a run folder")
    if _FLAGS.checkpoint not in _NAMES and not _FLAGS.checkpoint.isdecimal():
        raise ValueError(f"--checkpoint takes latest, best or a step, got {_FLAGS.checkpoint!r}")


def load() -> "tuple[Model, Params]":
    """Return the model and the parameters of the run named by the flags.

    Raises:
      RunError: as for `aevb.load_run`.
    """
    from aevb.saved import load_run

    return load_run(_FLAGS.run, _NAMES.get(_FLAGS.checkpoint) or int(_FLAGS.checkpoint))
