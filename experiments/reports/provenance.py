"""The versions and the device that made a result, recorded beside it."""

import platform
from typing import Any

import jax

import aevb


def provenance() -> dict[str, Any]:
    """Return the versions of this library, JAX and Python, and the kind of device."""
    return {
        "aevb_version": aevb.__version__,
        "jax_version": jax.__version__,
        "python_version": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
