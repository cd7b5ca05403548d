"""Recognition models along time, q(z_1, ..., z_T | x), for any transition of the prior.

    structured    q(z_t | z_{t-1}, x_t, ..., x_T), the form of the exact posterior: a network reads x backwards, and its
                  state at t is combined with z_{t-1}                 ("ST-R" in Krishnan et al. 2017)
    mean_field    q(z_t | x), given all of x: one network reads forwards and one backwards    ("MF-LR")
    flow          structured, with each step passed through the same inverse autoregressive layers (Kingma et al. 2016),
                  so that its dimensions are dependent. The KL has no closed form: use kl="sampled"

If nothing more is observed, the exact posterior of a step is the prior's step. It is also used here, so that padding
costs no KL (up to rounding), and forecasts are those of the prior.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.distributions import Markov
from aevb.distributions.observed import still_to_come, zeros_and_mask
from aevb.model import Params
from aevb.networks.flow import InverseAutoregressiveFlow
from aevb.networks.recurrent import Combiner, GatedRecurrentUnit

RecurrentPosterior: TypeAlias = Literal["structured", "mean_field", "flow"]

Transition: TypeAlias = Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]
"""A function `(theta, z) -> (mean, scale)` of p(z_t | z_{t-1}), `[..., J]` each."""


class Recognition(NamedTuple):
    """A recognition model as a pair of functions.

    Attributes:
      init: a function `key -> phi`.
      encode: a function `(params, x) -> q(z|x)`. params has theta under "decoder", with z_0 as "start", and phi under
        "encoder".
    """

    init: Callable[[jax.Array], Params]
    encode: Callable[[Params, jax.Array], Markov]


def recurrent_recognition(
    data_dim: int,
    latent_dim: int,
    hidden_dim: int,
    posterior: RecurrentPosterior,
    transition: Transition,
    param_dtype: str,
) -> Recognition:
    """Return a recognition model with recurrent networks. Its steps are diagonal Gaussians or flows of them.

    Args:
      data_dim: D, the number of values per step.
      latent_dim: J.
      hidden_dim: the number of units of each recurrent network.
      posterior: the form of q.
      transition: the prior's step, which q uses if nothing more is observed.
      param_dtype: the dtype of the parameters.
    """
    is_structured = posterior != "mean_field"
    readers = {"backward": GatedRecurrentUnit(hidden_dim, is_reversed=True, param_dtype=param_dtype)}
    if not is_structured:
        readers["forward"] = GatedRecurrentUnit(hidden_dim, param_dtype=param_dtype)
    combiner = Combiner(latent_dim, param_dtype)
    flow = InverseAutoregressiveFlow(latent_dim, param_dtype) if posterior == "flow" else None

    def init(key: jax.Array) -> Params:
        combiner_key, *keys = jax.random.split(key, 1 + len(readers))
        one_step = jnp.zeros((1, 2 * data_dim)), jnp.ones(1, bool)
        phi = {name: of.init(each, *one_step)["params"] for each, (name, of) in zip(keys, readers.items(), strict=True)}
        states = [jnp.zeros(hidden_dim)] * len(readers)
        previous = (jnp.zeros(latent_dim),) if is_structured else ()
        phi["combiner"] = combiner.init(combiner_key, states, *previous)["params"]
        return phi if flow is None else phi | {"flow": flow.init(jax.random.fold_in(key, 1))}

    def combined(params: Params, *read: Any) -> tuple[jax.Array, jax.Array]:
        return combiner.apply({"params": params["encoder"]["combiner"]}, *read)  # type: ignore[return-value]

    def step(params: Params, z: jax.Array, inputs: tuple) -> dist.Distribution:
        """Return the networks' step if more is observed, and otherwise the prior's step."""
        read, is_informed = inputs
        if is_structured:
            read = combined(params, read, z)
        found = zip(read, transition(params["decoder"], z), strict=True)
        mean, scale = (jnp.where(is_informed[..., None], q, p) for q, p in found)
        base = dist.Normal(mean, scale).to_event(1)
        return base if flow is None else flow.transform_where(is_informed, params["encoder"]["flow"], base)

    def encode(params: Params, x: jax.Array) -> Markov:
        phi, is_informed = params["encoder"], still_to_come(x)
        values, mask = zeros_and_mask(x)
        # 1 marks missing values: D ones at every observed step would act as a bias that learns D times as fast.
        inputs = jnp.concatenate([values, 1 - mask], axis=-1)
        read = tuple(jnp.asarray(of.apply({"params": phi[name]}, inputs, is_informed)) for name, of in readers.items())
        if not is_structured:  # the steps of a mean field do not depend on draws
            read = combined(params, read)
        return Markov(step, params, params["decoder"]["start"], (read, is_informed))

    return Recognition(init, encode)
