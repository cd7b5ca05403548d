"""Members of different latent sizes in one shape, so that one program trains them all.

A member of J latents is held in the networks of J' > J with zeros in what it does not have: the encoder's outputs for
the other latents give q(z_j|x) = N(0, 1) = p(z_j), which costs no KL divergence, and the decoder's first layer
multiplies those z_j by zero. Gradients there are dropped, so that zeros stay zeros: what is padded contributes exactly
nothing, and the rest is what the member alone would be. So is its noise, because a draw depends on its position alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aevb.model import Params
from aevb.training import TrainState


class PaddedState(NamedTuple):
    """What `padded` keeps.

    Attributes:
      present: of the shapes of the parameters, 1 where the member has one and 0 where it is padded.
      inner: the state of the optimizer itself.
    """

    present: Params
    inner: Any


def padded(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` with the updates of what is padded dropped; nothing is, until `Padding.pad` says so."""

    def init(params: Any) -> PaddedState:
        return PaddedState(jax.tree.map(jnp.ones_like, params), optimizer.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        present = jax.tree.map(jnp.multiply, updates, state.present)
        changes, inner = optimizer.update(present, state.inner, params)
        return jax.tree.map(jnp.multiply, changes, state.present), PaddedState(state.present, inner)

    return optax.GradientTransformation(init, update)


class Padding(NamedTuple):
    """The way between a member of `latent_dim` and the networks of `padded_dim`, both by `aevb.mlp_vae`.

    The posterior must be the diagonal Gaussian, and the algorithm one that carries nothing from step to step.

    Attributes:
      optimizer: of the member alone; the population's is `padded(optimizer)`.
      latent_dim: J of the member.
      padded_dim: J of the networks.
    """

    optimizer: optax.GradientTransformation
    latent_dim: int
    padded_dim: int

    def pad(self, state: TrainState) -> TrainState:
        """A state of the member, zeros around it."""
        present = jax.tree.map(jnp.ones_like, state.params)
        params, present = (self._of_params(tree, self._pad) for tree in (state.params, present))
        inner = self._of_optimizer_state(state.optimizer_state, state.params, self._pad)
        return state._replace(params=params, optimizer_state=PaddedState(present, inner))

    def cut(self, state: TrainState) -> TrainState:
        """The state of the member alone, out of a padded one."""
        params = self._of_params(state.params, self._cut)
        inner = self._of_optimizer_state(state.optimizer_state.inner, state.params, self._cut)
        return state._replace(params=params, optimizer_state=inner)

    def _of_params(self, params: Params, change: Any) -> Params:
        return jax.tree.map(change, params, _roles(params))

    def _of_optimizer_state(self, state: Any, params: Params, change: Any) -> Any:
        return optax.tree.map_params(self.optimizer, change, state, _roles(params))

    def _pad(self, leaf: jax.Array, role: str) -> jax.Array:
        extra = self.padded_dim - self.latent_dim
        if role == "outputs":  # means, then log-variances
            halves = leaf.reshape(*leaf.shape[:-1], 2, self.latent_dim)
            return jnp.pad(halves, [(0, 0)] * leaf.ndim + [(0, extra)]).reshape(*leaf.shape[:-1], -1)
        return jnp.pad(leaf, [(0, extra), (0, 0)]) if role == "inputs" else leaf

    def _cut(self, leaf: jax.Array, role: str) -> jax.Array:
        if role == "outputs":
            halves = leaf.reshape(*leaf.shape[:-1], 2, self.padded_dim)
            return halves[..., : self.latent_dim].reshape(*leaf.shape[:-1], -1)
        return leaf[: self.latent_dim] if role == "inputs" else leaf


def _roles(params: Params) -> Any:
    """Of the shape of `params`: "outputs" has the latents' means and log-variances last, "inputs" the latents first."""
    roles = jax.tree.map(lambda _: "other", params)
    head = max(roles["encoder"], key=lambda name: int(name.removeprefix("Dense_")))
    roles["encoder"][head] = dict.fromkeys(roles["encoder"][head], "outputs")
    roles["decoder"]["Dense_0"]["kernel"] = "inputs"
    return roles
