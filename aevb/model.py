"""A latent-variable model with a recognition model, as four pure functions.

The paper's three ingredients (section 2.1) are the likelihood p(x|z), the prior p(z) and the recognition model
q(z|x). Everything else in this library is a function of a `Model` and of the parameters that its `init` makes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

Params: TypeAlias = Any
"""A pytree of arrays. By convention `params["encoder"]` is phi and `params["decoder"]` is theta."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Model:
    """Four pure functions of one datapoint; callers `vmap` them over minibatches.

    A model is hashable and has no array leaves, so that it passes through `jax.jit`, `jax.vmap` and `jax.grad` as a
    static argument without being marked as one. Two models are equal, and share compiled programs, when their four
    functions are equal.

    Attributes:
      init: `key -> params`, the initial parameters.
      encode: `(params, x) -> q(z|x)`, a distribution over z of event shape `[J]`. It is handed the whole of `params`,
        so that sharing weights with the decoder or learning a prior is no special case.
      decode: `(params, z) -> p(x|z)`, a distribution whose event shape is the shape of one datapoint.
      prior: `params -> p(z)`, a distribution of event shape `[J]`.
    """

    init: Callable[[jax.Array], Params]
    encode: Callable[[Params, jax.Array], Distribution]
    decode: Callable[[Params, jax.Array], Distribution]
    prior: Callable[[Params], Distribution]


def latent_shape(model: Model, params: Params) -> tuple[int, ...]:
    """The shape of one z, as the prior declares it. Computes nothing."""
    return jax.eval_shape(lambda p: jnp.zeros(model.prior(p).event_shape), params).shape


def data_shape(model: Model, params: Params) -> tuple[int, ...]:
    """The shape of one x, as the decoder declares it. Computes nothing."""

    def template(p: Params) -> jax.Array:
        z = jnp.zeros(model.prior(p).event_shape)
        likelihood = model.decode(p, z)
        if likelihood.batch_shape:
            raise ValueError(
                f"decode must return one distribution over the whole datapoint, but its batch shape is "
                f"{likelihood.batch_shape}: end it with .to_event({len(likelihood.batch_shape)})"
            )
        return jnp.zeros(likelihood.event_shape)

    return jax.eval_shape(template, params).shape
