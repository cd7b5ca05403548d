"""Models whose first level of z is a class: the bound with that class summed out, and the classifier in q.

For a posterior q(y|x) q(z|x, y), the bound with a sum over y instead of a draw is (Kingma et al. 2014, eq. 7)

    U(x) = sum_y q(y|x) ( L(x|y) + log p(y) - log q(y|x) ),     L(x|y) the bound on log p(x|y)

The gradient does not pass through a discrete draw and has no variance from one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution

from aevb import gradients
from aevb.arguments import check_counts
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.distributions import Chain
from aevb.model import (
    Datapoint,
    Latents,
    Model,
    Params,
    bind,
    check_arguments,
    check_model,
    likelihood_of,
    posterior_of,
    prior_of,
)
from aevb.objectives import KL, Estimator, elbo_terms_of
from aevb.support import check_data


def summed_out_elbo(
    params: Params, key: jax.Array, x: Datapoint, model: Model, num_samples: int = 1, kl: KL = "analytic"
) -> jax.Array:
    """Return an unbiased estimate of the bound at one datapoint: exact in the class, pathwise in the other levels.

    All classes share the same noise.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint, or a `Given`.
      model: a model in which z is a `Chain` in q and in p, whose first level is a class with the same name in both.
      num_samples: L, draws of the other levels for each class.
      kl: the estimator of the KL of the other levels, as for `aevb.elbo`.

    Returns:
      `[]`, nats.

    Raises:
      TypeError: the first level of z is not such a class, or as for `aevb.elbo`.
      ValueError: as for `aevb.elbo`.
    """
    estimator = Estimator(num_samples, kl)
    check_arguments(params, key, x, model)
    bound, value = bind(model, x)
    name, posterior = first_level(posterior_of(bound, params, value), "encode")
    _, prior = first_level(prior_of(bound, params), "prior", name)
    classes = posterior.enumerate_support()
    bounds = jax.vmap(lambda label: _bound(params, key, value, _at_class(bound, name, label), estimator))(classes)
    log_q, log_p = (jax.vmap(each.log_prob)(classes) for each in (posterior, prior))
    return jnp.sum(jnp.exp(log_q) * (bounds + log_p - log_q))


def elbo_at_class(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    label: jax.Array,
    model: Model,
    num_samples: int = 1,
    kl: KL = "analytic",
) -> jax.Array:
    """Return an estimate of L(x|y), the bound on log p(x|y), at one datapoint and one class, `[]`, nats.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one datapoint, or a `Given`.
      label: `[]`, integer, the class y. It is not checked.
      model: as for `summed_out_elbo`.
      num_samples: L, draws of the other levels.
      kl: the estimator of the KL of the other levels, as for `aevb.elbo`.

    Returns:
      `[]`, nats.

    Raises:
      TypeError: as for `summed_out_elbo`.
      ValueError: as for `summed_out_elbo`.
    """
    estimator = Estimator(num_samples, kl)
    check_arguments(params, key, x, model)
    bound, value = bind(model, x)
    name, _ = first_level(posterior_of(bound, params, value), "encode")
    return _bound(params, key, value, _at_class(bound, name, label), estimator)


def _bound(params: Params, key: jax.Array, x: Datapoint, model: Model, estimator: Estimator) -> jax.Array:
    terms = elbo_terms_of(gradients.draw(params, key, x, model, estimator.num_samples, "pathwise"), estimator)
    return terms.reconstruction - terms.kl


def first_level(distribution: Distribution, function: str, name: str | None = None) -> tuple[str, Distribution]:
    """Return the name and the distribution of the first level of q or p, a class.

    Args:
      distribution: q(z|x) or p(z).
      function: the model's function that returned it, for the message.
      name: the name of the level, if it is known.

    Raises:
      TypeError: the distribution is not a `Chain` of a class and other levels.
    """
    if not isinstance(distribution, Chain) or len(distribution.levels) < 2:
        raise TypeError(
            f"{function} must return an aevb.Chain of a class and other levels so that the class can be summed out"
        )
    found, level = next(iter(distribution.levels.items()))
    if not isinstance(level, Distribution) or not level.has_enumerate_support:
        raise TypeError(f"the first level of {function}, {found!r}, must be a class, such as a Categorical")
    if name not in (None, found):
        raise TypeError(f"the first level of {function} must be the class {name!r}, as in encode, got {found!r}")
    return found, level


def class_log_probabilities(params: Params, x: Datapoint, model: Model) -> jax.Array:
    """Return log q(y|x) of every class at one datapoint, `[K]`. The result is differentiable."""
    bound, value = bind(model, x)
    _, level = first_level(posterior_of(bound, params, value), "encode")
    return jnp.asarray(jax.vmap(level.log_prob)(level.enumerate_support()))


def class_probabilities(params: Params, xs: Datapoint, model: Model, chunk_size: int = 1000) -> np.ndarray:
    """Return q(y|x) of every class for every datapoint, `[N, K]`: classification by the encoder.

    Args:
      params: parameters of `model`.
      xs: leaves `[N, ...]`. For a `semi_supervised_vae`, a `Given` with labels of -1; a known label has probability 1.
      model: as for `summed_out_elbo`.
      chunk_size: the number of datapoints per call of the compiled program.

    Raises:
      ValueError: `xs` have another shape or lie outside the likelihood's support.
      TypeError: as for `summed_out_elbo`.
    """
    check_model(model)
    check_counts(1, chunk_size=chunk_size)
    xs = jax.tree.map(jnp.asarray, as_arrays(xs))
    size = num_rows(xs, "xs")
    check_data(params, xs, model, "xs")
    chunk_size = min(int(chunk_size), size)
    chunks = []
    for first in range(0, size, chunk_size):
        # The last chunk is filled up with the first datapoints, whose values are dropped.
        chunk = rows(xs, np.arange(first, first + chunk_size) % size)
        chunks.append(np.asarray(_probabilities(params, chunk, model)))
    return np.concatenate(chunks)[:size]


@functools.partial(jax.jit, static_argnames="model")
def _probabilities(params: Params, xs: Datapoint, model: Model) -> jax.Array:
    return jnp.exp(jax.vmap(lambda x: class_log_probabilities(params, x, model))(xs))


def _at_class(model: Model, name: str, label: jax.Array) -> Model:
    """Return the model of x given the class, in which z is the other levels."""

    def rest(distribution: Any) -> Chain:
        def given(level: Any) -> Any:
            return level if isinstance(level, Distribution) else lambda before: level({name: label} | before)

        levels = {other: given(level) for other, level in distribution.levels.items() if other != name}
        return Chain(**levels)

    def decode(params: Params, z: Latents) -> Distribution:
        return likelihood_of(model, params, {name: label} | z)

    return Model(
        model.init,
        lambda params, x: rest(posterior_of(model, params, x)),
        decode,
        lambda params: rest(prior_of(model, params)),
    )
