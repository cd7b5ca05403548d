"""Pad members of different latent sizes to one shape, so that one program trains them all.

A member with J latents is held in networks for J' > J latents, padded with zeros. The encoder's outputs for the other
latents give q(z_j|x) = N(0, 1) = p(z_j), which adds no KL divergence, and the decoder's first layer multiplies those
z_j by zero. Gradients of the padding are dropped, so zeros remain zeros. The padding thus contributes exactly nothing,
and the member trains as it would alone, with the same noise, because a draw depends only on its position.
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
    """The state of a `padded` optimizer.

    Attributes:
      latent_dim: `[]` int32, the number of latents of the member, which are the first ones.
      inner: the state of the wrapped optimizer.
    """

    latent_dim: jax.Array
    inner: Any


def padded(optimizer: optax.GradientTransformation, model: Model) -> optax.GradientTransformation:
    """Return `optimizer` without the updates of padding. Initially there is none; `Padding.pad` sets it.

    The padding follows from one integer per member. Masks in the shapes of the parameters would be a third of the
    state, read in every step.

    Args:
      optimizer: the optimizer of a single member.
      model: the padded model, built by `aevb.mlp_vae` with a diagonal Gaussian posterior.

    Raises:
      ValueError: the model is not such a model.
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
    """The axis of a parameter that runs over latents: `[..., blocks * J, ...]`. A `number` of -1 means none."""

    number: int
    blocks: int


def _is_present(leaf: jax.Array, axis: _Axis, latent_dim: jax.Array) -> jax.Array:
    """Return 1 for parameters of the member and 0 for padding, in a shape that broadcasts to `leaf`."""
    size = leaf.shape[axis.number]
    within_block = jnp.arange(size) % (size // axis.blocks)
    shape = [size if number == axis.number else 1 for number in range(leaf.ndim)]
    return (within_block < latent_dim).astype(leaf.dtype).reshape(shape)


def _latent_axes(model: Model, larger: Model, latent_dim: int) -> Any:
    """Return the axis of each parameter that runs over latents: the one with different sizes in the two models."""

    def axis(one: jax.ShapeDtypeStruct, other: jax.ShapeDtypeStruct) -> _Axis:
        differing = [number for number in range(one.ndim) if one.shape[number] != other.shape[number]]
        if not differing:
            return _Axis(-1, 1)
        (number,) = differing
        return _Axis(number, one.shape[number] // latent_dim)

    shapes, larger_shapes = (jax.eval_shape(lambda each=each: each.init(jax.random.key(0))) for each in (model, larger))
    return jax.tree.map(axis, shapes, larger_shapes)


class Padding:
    """Conversion between a member and networks with more latents, for algorithms without a carry between steps."""

    def __init__(self, optimizer: optax.GradientTransformation, model: Model, padded_model: Model):
        """Find the axes of parameters that run over latents: those with different sizes in the two models.

        Args:
          optimizer: the optimizer of the member; that of the population is `padded(optimizer, padded_model)`.
          model: the member's model, built by `aevb.mlp_vae` with a diagonal Gaussian posterior.
          padded_model: the same model with at least as many latents.

        Raises:
          ValueError: the models are not such models.
        """
        self._optimizer = optimizer
        self._latent_dim, self._padded_dim = _latent_dims(model, padded_model)
        self._axes = _latent_axes(model, padded_model, self._latent_dim)

    def pad(self, state: TrainState) -> TrainState:
        """Return a state of the member, padded with zeros."""
        inner = self._of_optimizer_state(state.optimizer_state, self._pad)
        of_member = PaddedState(jnp.int32(self._latent_dim), inner)
        return state._replace(params=self._of_params(state.params, self._pad), optimizer_state=of_member)

    def cut(self, state: TrainState) -> TrainState:
        """Return the state of the member without its padding."""
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
        """Apply `change` to the `size` latents of each block: means and log-variances are separate blocks."""
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
        raise ValueError("the padded model must be the member's model with at least as many latents")
    return latent_dim, padded_dim
