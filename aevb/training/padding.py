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
from aevb.models import build, recipe_of


class PaddedState(NamedTuple):
    """What `padded` keeps.

    Attributes:
      latent_dim: `[]` int32, how many latents the member has: the first ones.
      inner: the state of the optimizer itself.
    """

    latent_dim: jax.Array
    inner: Any


def padded(optimizer: optax.GradientTransformation, model: Model) -> optax.GradientTransformation:
    """Return `optimizer` with the updates of what is padded dropped; nothing is, until `Padding.pad` says so.

    What is padded follows from one integer of each member: masks in the shapes of the parameters would be a third of
    the state, read in every step.

    Args:
      optimizer: of a member alone.
      model: the padded one, by `aevb.mlp_vae` with a diagonal Gaussian posterior.

    Raises:
      ValueError: the model is another.
    """
    latent_dim = _latent_dims(model, model)[0]
    family, arguments = recipe_of(model)
    larger = build(family, **(arguments | {"latent_dim": latent_dim + 1}))
    axes = _latent_axes(model, larger, latent_dim)

    def init(params: Any) -> PaddedState:
        return PaddedState(jnp.int32(latent_dim), optimizer.init(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def present(leaf: jax.Array, axis: _Axis) -> jax.Array:
            return leaf if axis.number < 0 else leaf * _is_present(leaf, axis, state.latent_dim)

        changes, inner = optimizer.update(jax.tree.map(present, updates, axes), state.inner, params)
        return jax.tree.map(present, changes, axes), PaddedState(state.latent_dim, inner)

    return optax.GradientTransformation(init, update)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The axis of a parameter that runs over latents: `[..., blocks * J, ...]`. A `number` of -1 is none."""

    number: int
    blocks: int


def _is_present(leaf: jax.Array, axis: _Axis, latent_dim: jax.Array) -> jax.Array:
    """Return 1 where the member has a parameter and 0 where it is padded, in a shape that broadcasts to `leaf`."""
    size = leaf.shape[axis.number]
    within_block = jnp.arange(size) % (size // axis.blocks)
    shape = [size if number == axis.number else 1 for number in range(leaf.ndim)]
    return (within_block < latent_dim).astype(leaf.dtype).reshape(shape)


def _latent_axes(model: Model, larger: Model, latent_dim: int) -> Any:
    """Return the axis of each parameter that runs over latents: the one whose size differs between two models."""

    def axis(one: jax.ShapeDtypeStruct, other: jax.ShapeDtypeStruct) -> _Axis:
        differing = [number for number in range(one.ndim) if one.shape[number] != other.shape[number]]
        if not differing:
            return _Axis(-1, 1)
        (number,) = differing
        return _Axis(number, one.shape[number] // latent_dim)

    shapes, larger_shapes = (jax.eval_shape(lambda each=each: each.init(jax.random.key(0))) for each in (model, larger))
    return jax.tree.map(axis, shapes, larger_shapes)


class Padding:
    """The way between a member and networks of more latents, for algorithms that carry nothing from step to step."""

    def __init__(self, optimizer: optax.GradientTransformation, model: Model, padded_model: Model):
        """Find out which axes of which parameters run over latents: those whose sizes differ.

        Args:
          optimizer: of the member alone; the population's is `padded(optimizer, padded_model)`.
          model: the member's, by `aevb.mlp_vae` with a diagonal Gaussian posterior.
          padded_model: the same with as many latents, or more.

        Raises:
          ValueError: the models are others.
        """
        self._optimizer = optimizer
        self._latent_dim, self._padded_dim = _latent_dims(model, padded_model)
        self._axes = _latent_axes(model, padded_model, self._latent_dim)

    def pad(self, state: TrainState) -> TrainState:
        """Return a state of the member with zeros around it."""
        inner = self._of_optimizer_state(state.optimizer_state, self._pad)
        of_member = PaddedState(jnp.int32(self._latent_dim), inner)
        return state._replace(params=self._of_params(state.params, self._pad), optimizer_state=of_member)

    def cut(self, state: TrainState) -> TrainState:
        """Return the state of the member alone, out of a padded one."""
        inner = self._of_optimizer_state(state.optimizer_state.inner, self._cut)
        return state._replace(params=self._of_params(state.params, self._cut), optimizer_state=inner)

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
