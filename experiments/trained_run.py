"""The run whose model a command uses: --run and --checkpoint."""

from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from aevb.model import Model, Params

_FLAGS = flags.FLAGS
_NAMES: dict[str, Any] = {"latest": "last", "best": "best"}
"""What `aevb.load_run` calls them."""


def define_flags() -> None:
    """Define --run and --checkpoint."""
    flags.DEFINE_string("run", None, "The run folder that an experiment wrote.")
    flags.DEFINE_string("checkpoint", "latest", "Checkpoint to use: latest, best (by validation) or a step number.")


def check_flags() -> None:
    """Raise `ValueError` where no run is named, or a checkpoint that cannot be one."""
    if not _FLAGS.run:
        raise ValueError("--run must name a run folder")
    if _FLAGS.checkpoint not in _NAMES and not _FLAGS.checkpoint.isdecimal():
        raise ValueError(f"--checkpoint takes latest, best or a step, got {_FLAGS.checkpoint!r}")


def load() -> "tuple[Model, Params]":
    """Return the model and the parameters that the flags name.

    Raises:
      RunError: as for `aevb.load_run`.
    """
    from aevb.saved import load_run

    return load_run(_FLAGS.run, _NAMES.get(_FLAGS.checkpoint) or int(_FLAGS.checkpoint))
