"""Checks of the flags of every command, made once before anything is computed."""

import math
import os
import re
from typing import Any

from absl import flags

MAX_SEED = 2**32 - 1
"""The largest seed. Unless 64-bit numbers are enabled, JAX's keys use 32 bits and silently drop the rest."""

LARGEST = 2**31 - 1
"""The largest count: JAX's integers have 32 bits."""

_FLAGS = flags.FLAGS

_LENGTHS = ("num_train_samples", "num_trial_samples")  # counted in Python
_PATHS = ("workdir", "data_dir", "source_dir", "run", "data", "output", "mask")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def check() -> None:
    """Check the flags that were given, and expand `~` in those that name a file or folder.

    Raises:
      ValueError: a number or seed is out of range, or a path is not on this machine or unusable.
    """
    for name in _ours():
        value: Any = _FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name} must be finite, got {value}")
        if name == "seed" and isinstance(value, int):
            check_seed(value)
        elif isinstance(value, int) and value > LARGEST and name not in _LENGTHS:
            raise ValueError(f"--{name} must be at most {LARGEST}, got {value}")
        if name in _PATHS and isinstance(value, str):
            _FLAGS[name].value = _path(name, value)
    profile = _FLAGS.profile_file  # absl writes it when the process ends, when errors are no longer caught
    if profile and not os.access(os.path.dirname(profile) or ".", os.W_OK):
        raise ValueError(f"--profile_file must be in a writable folder, got {profile}")


def check_seed(seed: int) -> None:
    """Raise `ValueError` for a seed that no key can be made from, or whose key another seed has too."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"--seed must be from 0 to {MAX_SEED}, got {seed}")


def _ours() -> list[str]:
    modules = _FLAGS.flags_by_module_dict().items()
    return [flag.name for module, known in modules if module.startswith("experiments.") for flag in known]


def _path(name: str, text: str) -> str:
    if _REMOTE.match(text):
        raise ValueError(f"--{name} must be on this machine, got {text}: copy or mount it")
    if not text or "\0" in text:
        raise ValueError(f"--{name} must name a file or folder, got {text!r}")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError(f"--{name} names the home folder of an unknown user, got {text}")
    return expanded
