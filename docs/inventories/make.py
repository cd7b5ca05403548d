"""Write small inventories of libraries whose documentation cannot be fetched where this project is developed.

Each entry is a name that a page or signature of this site refers to, and its page on the other site. Run
`python docs/inventories/make.py` after a change.
"""

import zlib
from pathlib import Path

# (name, type, address within the site); a final "$" stands for the name.
ENTRIES = {
    "numpy": [
        ("numpy.ndarray", "py:class", "reference/generated/numpy.ndarray.html#$"),
        ("numpy.bool", "py:class", "reference/arrays.scalars.html#$"),
        ("numpy.number", "py:class", "reference/arrays.scalars.html#$"),
        ("numpy.memmap", "py:class", "reference/generated/numpy.memmap.html#$"),
    ],
    "jax": [
        ("jax.Array", "py:class", "_autosummary/jax.Array.html#$"),
        ("jax.grad", "py:function", "_autosummary/jax.grad.html#$"),
        ("jax.jit", "py:function", "_autosummary/jax.jit.html#$"),
        ("jax.vmap", "py:function", "_autosummary/jax.vmap.html#$"),
        ("jax.set_mesh", "py:function", "_autosummary/jax.set_mesh.html#$"),
        ("jax.random.key", "py:function", "_autosummary/jax.random.key.html#$"),
        ("jax.numpy.float32", "py:class", "_autosummary/jax.numpy.float32.html#$"),
        ("jax.sharding.Mesh", "py:class", "jax.sharding.html#$"),
        ("jax.export.export", "py:function", "jax.export.html#$"),
    ],
    "flax": [
        ("flax.linen.Module", "py:class", "api_reference/flax.linen/module.html#$"),
    ],
    "numpyro": [
        ("numpyro.distributions.distribution.Distribution", "py:class", "distributions.html#$"),
    ],
    "optax": [
        ("optax.GradientTransformation", "py:class", "api/transformations.html#$"),
        ("optax.linear_schedule", "py:function", "api/optimizer_schedules.html#$"),
    ],
    "matplotlib": [
        ("matplotlib.figure.Figure", "py:class", "api/_as_gen/matplotlib.figure.Figure.html#$"),
    ],
}


def main() -> None:
    """Write one file per library."""
    for library, entries in ENTRIES.items():
        head = f"# Sphinx inventory version 2\n# Project: {library}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        lines = "".join(f"{name} {kind} 1 {address} -\n" for name, kind, address in sorted(entries))
        path = Path(__file__).parent / f"{library}.inv"
        path.write_bytes(head.encode() + zlib.compress(lines.encode(), 9))


if __name__ == "__main__":
    main()
