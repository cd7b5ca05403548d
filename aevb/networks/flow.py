"""Inverse autoregressive flow (Kingma et al. 2016)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.model import Params

NUM_LAYERS = 2  # even: see `transform_where`


class InverseAutoregressiveFlow:
    """Inverse autoregressive layers, with the order of the dimensions reversed between them."""

    def __init__(self, latent_dim: int, param_dtype: str):
        """Define the layers for J >= 2 dimensions, and the dtype of their parameters."""
        # Imported late: only flows need numpyro.nn.
        from numpyro.distributions.flows import InverseAutoregressiveTransform
        from numpyro.distributions.transforms import PermuteTransform
        from numpyro.nn import AutoregressiveNN

        self._affine, self._permute = InverseAutoregressiveTransform, PermuteTransform
        hidden_dims = [max(32, 2 * latent_dim)]
        with jax.ensure_compile_time_eval():  # masks stay constants even if the model is built during tracing
            self._networks = [AutoregressiveNN(latent_dim, hidden_dims) for _ in range(NUM_LAYERS)]
        self._latent_dim, self._param_dtype = latent_dim, param_dtype

    def init(self, key: jax.Array) -> Params:
        """Return initial parameters, which are small so that the flow starts near the identity."""
        keys = jax.random.split(key, NUM_LAYERS)
        shape = (self._latent_dim,)
        params = [net[0](layer_key, shape)[1] for net, layer_key in zip(self._networks, keys, strict=True)]
        return jax.tree.map(lambda w: 0.1 * w.astype(self._param_dtype), params)

    def transform(self, params: Params, base: dist.Distribution) -> dist.Distribution:
        """Return `base` passed through the layers."""
        return dist.TransformedDistribution(base, self._layers(params, lambda outputs: outputs)[:-1])

    def transform_where(self, condition: jax.Array, params: Params, base: dist.Distribution) -> dist.Distribution:
        """Return `base` passed through the layers where `condition` `[...]` holds, and unchanged elsewhere.

        Elsewhere a layer shifts by 0 and scales by exp(0), so that draws and densities are those of `base`, bit for
        bit.
        """
        gated = lambda outputs: jnp.where(condition[..., None], outputs, 0)
        # Each layer reverses the dimensions. The number of layers is even, so the original order is restored.
        return dist.TransformedDistribution(base, self._layers(params, gated))

    def _layers(self, params: Params, gate: Callable[[jax.Array], jax.Array]) -> list[Any]:
        """Return affine layers, each followed by a reversal. `gate` modifies the outputs of their networks."""

        def outputs(apply: Callable[..., Any], weights: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
            shift, log_scale = apply(weights, z)
            return gate(shift), gate(log_scale)

        layers = []
        for (_, apply), weights in zip(self._networks, params, strict=True):
            layers += [self._affine(functools.partial(outputs, apply, weights)), self._reverse()]
        return layers

    def _reverse(self) -> Any:
        return self._permute(jnp.arange(self._latent_dim)[::-1])
