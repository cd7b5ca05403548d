"""Comparisons of training results."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import aevb


def assert_trees_close(found: Any, expected: Any, rtol: float = 0.0) -> None:
    """Require equal structures and dtypes, and leaves within `rtol`, relative or absolute; by default equal."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(*map(jax.random.key_data, (one, other)))
        else:
            np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def assert_same_history(
    found: Sequence[aevb.Evaluation], expected: Sequence[aevb.Evaluation], rtol: float = 0.0
) -> None:
    """Require the same evaluations except for their seconds, and bounds within `rtol`; by default equal."""
    one, other = ([row._replace(seconds=0.0) for row in history] for history in (found, expected))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    np.testing.assert_allclose(jax.tree.leaves(one), jax.tree.leaves(other), rtol=rtol, atol=rtol)
