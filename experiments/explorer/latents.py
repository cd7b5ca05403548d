"""Posterior means of a data set and their principal components."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb.data.rows import num_rows, rows
from aevb.distributions import Chain
from aevb.model import Model, Params, bind, posterior_of
from aevb.posterior import chunked

ONE_LEVEL = "z"
_MOST_COMPONENTS = 8
_CHUNK_SIZE = 500


class Plane(NamedTuple):
    """Directions in the latent space of one level, from its posterior means.

    Attributes:
      components: The principal components, orthonormal rows `[K, J]`.
      explained: The fraction of the variance along each component, `[K]`.
      variances: The variance along each latent, `[J]`; units above 0.01 are active.
    """

    components: np.ndarray
    explained: np.ndarray
    variances: np.ndarray


def posterior_means(params: Params, xs: Any, model: Model) -> dict[str, np.ndarray]:
    """Return E_q[z] of each datapoint by level, `[N, J]`, each level given the means of the levels it depends on."""
    program = lambda chunk: _means_of_chunk(params, rows(xs, chunk), model)
    return chunked(program, np.arange(num_rows(xs)), _CHUNK_SIZE, None)


@functools.partial(jax.jit, static_argnames="model")
def _means_of_chunk(params: Params, xs: Any, model: Model) -> dict[str, jax.Array]:
    return jax.vmap(lambda x: encoded(params, x, model)[0])(xs)


def encoded(params: Params, x: Any, model: Model) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Return the means and scales of q(z|x) for one datapoint by level, as the page computes them."""
    bound, value = bind(model, x)
    posterior = posterior_of(bound, params, value)
    if not isinstance(posterior, Chain):
        return {ONE_LEVEL: posterior.mean}, {ONE_LEVEL: jnp.sqrt(posterior.variance)}
    means = posterior.means()
    return means, {name: jnp.sqrt(level.variance) for name, level in posterior.at(means).items()}


def plane_of(means: np.ndarray) -> Plane:
    """Return the principal components of posterior means `[N, J]`.

    The largest entry of each component is positive, so that its sign does not depend on the solver.
    """
    values = means.astype(np.float64)
    deviations = values - values.mean(axis=0)
    _, scales, directions = np.linalg.svd(deviations, full_matrices=False)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    directions = directions * np.where(largest < 0, -1, 1)
    total = max(float(np.sum(scales**2)), np.finfo(float).tiny)
    count = min(_MOST_COMPONENTS, len(directions))
    return Plane(directions[:count], scales[:count] ** 2 / total, deviations.var(axis=0))
