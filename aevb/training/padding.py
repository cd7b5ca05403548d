"""Members of different latent sizes in one shape, so that one program trains them all.

A member of J latents is held in the networks of J' > J with zeros in what it does not have: the encoder's outputs for
the other latents give q(z_j|x) = N(0, 1) = p(z_j), which costs no KL divergence, and the decoder's first layer
multiplies those z_j by zero. Gradients there are dropped, so that zeros stay zeros: what is padded contributes exactly
nothing, and the rest is what the member alone would be. So is its noise, because a draw depends on its position alone.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aevb.algorithms.base import TrainState
from aevb.model import Model, Params
from aevb.models import recipe_of


class PaddedState(NamedTuple):
    """What `padded` keeps.

    Attributes:
      present: of the shapes of the parameters, 1 where the member has one and 0 where it is padded.
      inner: the state of the optimizer itself.
    """

    present: Params
    inner: Any


def padded(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return `optimizer` with the updates of what is padded dropped; nothing is, until `Padding.pad` says so."""

    def init(params: Any) -> PaddedState:
        return PaddedState(jax.tree.map(jnp.ones_like, params), optimizer.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        present = jax.tree.map(jnp.multiply, updates, state.present)
        changes, inner = optimizer.update(present, state.inner, params)
        return jax.tree.map(jnp.multiply, changes, state.present), PaddedState(state.present, inner)

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The axis of a parameter that runs over latents: `[..., blocks * J, ...]`. A `number` of -1 is none."""

    number: int
    blocks: int


class Padding:
    """The way between a member and networks of more latents, for algorithms that carry nothing from step to step."""

    def __init__(self, optimizer: optax.GradientTransformation, model: Model, padded_model: Model):
        """Find out which axes of which parameters run over latents: those whose sizes differ.

        Args:
          optimizer: of the member alone; the population's is `padded(optimizer)`.
          model: the member's, by `aevb.mlp_vae` with a diagonal Gaussian posterior.
          padded_model: the same with as many latents, or more.

        Raises:
          ValueError: the models are others.
        """
        self._optimizer = optimizer
        self._latent_dim, self._padded_dim = _latent_dims(model, padded_model)
        shapes, padded_shapes = (jax.eval_shape(each.init, jax.random.key(0)) for each in (model, padded_model))
        self._axes = jax.tree.map(self._axis, shapes, padded_shapes)

    def pad(self, state: TrainState) -> TrainState:
        """Return a state of the member with zeros around it."""
        present = jax.tree.map(jnp.ones_like, state.params)
        params, present = (self._of_params(tree, self._pad) for tree in (state.params, present))
        inner = self._of_optimizer_state(state.optimizer_state, self._pad)
        return state._replace(params=params, optimizer_state=PaddedState(present, inner))

    def cut(self, state: TrainState) -> TrainState:
        """Return the state of the member alone, out of a padded one."""
        inner = self._of_optimizer_state(state.optimizer_state.inner, self._cut)
        return state._replace(params=self._of_params(state.params, self._cut), optimizer_state=inner)

    def _axis(self, one: jax.ShapeDtypeStruct, other: jax.ShapeDtypeStruct) -> _Axis:
        differing = [axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]]
        if not differing:
            return _Axis(-1, 1)
        (axis,) = differing
        return _Axis(axis, one.shape[axis] // self._latent_dim)

    def _of_params(self, params: Params, change: Any) -> Params:
        return jax.tree.map(change, params, self._axes)

    def _of_optimizer_state(self, state: Any, change: Any) -> Any:
        return optax.tree.map_params(self._optimizer, change, state, self._axes)

    def _pad(self, leaf: jax.Array, axis: _Axis) -> jax.Array:
        return leaf if axis.number < 0 else self._in_blocks(leaf, axis, self._latent_dim, self._with_zeros)

    def _cut(self, leaf: jax.Array, axis: _Axis) -> jax.Array:
        return leaf if axis.number < 0 else self._in_blocks(leaf, axis, self._padded_dim, self._without_zeros)

    def _in_blocks(self, leaf: jax.Array, axis: _Axis, size: int, change: Any) -> jax.Array:
        """Change `size` latents of each block: of means by themselves and of log-variances by themselves."""
        last = jnp.moveaxis(leaf, axis.number, -1)
        changed = change(last.reshape(*last.shape[:-1], axis.blocks, size))
        return jnp.moveaxis(changed.reshape(*last.shape[:-1], -1), -1, axis.number)

    def _with_zeros(self, blocks: jax.Array) -> jax.Array:
        return jnp.pad(blocks, [(0, 0)] * (blocks.ndim - 1) + [(0, self._padded_dim - self._latent_dim)])

    def _without_zeros(self, blocks: jax.Array) -> jax.Array:
        return blocks[..., : self._latent_dim]


def _latent_dims(model: Model, padded_model: Model) -> tuple[int, int]:
    (family, arguments), (other_family, others) = recipe_of(model), recipe_of(padded_model)
    latent_dim, padded_dim = (each.pop("latent_dim", None) for each in (arguments, others))
    if family != "mlp" or arguments.get("posterior") != "gaussian":
        raise ValueError("only an mlp_vae with a diagonal Gaussian posterior can be padded")
    if (family, arguments) != (other_family, others) or latent_dim > padded_dim:
        raise ValueError("the padded model must be the member's with as many latents, or more")
    return latent_dim, padded_dim
