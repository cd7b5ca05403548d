"""Latents along time: a distribution over paths in which every step depends on the one before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, Independent, Normal, constraints

from aevb.arguments import describe
from aevb.distributions.functions import check_static


class GaussianSteps(NamedTuple):
    """The parameters of the steps of drawn paths, `[..., T, J]` each, if the steps are diagonal Gaussians."""

    loc: jax.Array
    scale: jax.Array


class Markov(Distribution):
    """A distribution over paths z `[T, J]`: z_t ~ step(params, z_{t-1}, inputs_t), z_0 = start.

    A path is one event. Drawing a path is a scan; the densities along a given path are computed in one batched call.
    That call is not needed for a path just drawn if its steps are diagonal Gaussians: the draw's intermediates are then
    their parameters, `GaussianSteps`.

        Markov(step, params["decoder"], start=jnp.zeros(J), inputs=jnp.arange(T))

    `step` must broadcast over leading axes: for drawing, it is called with one step, z `[..., J]`, and the inputs of
    one time; for densities, with a whole path, z `[..., T, J]`, and all inputs `[T, ...]`. It returns a distribution
    with the event shape `[J]`. To pass through `jax.jit` or `jax.vmap`, it must not close over arrays: pass them in
    `params`.
    """

    pytree_data_fields = ("params", "start", "inputs")
    pytree_aux_fields = ("step",)

    def __init__(self, step: Callable[[Any, jax.Array, Any], Distribution], params: Any, start: jax.Array, inputs: Any):
        """Define the steps.

        Args:
          step: a function `(params, previous, inputs) -> distribution`.
          params: a pytree of arrays, passed to every step.
          start: `[J]`, z_0, on which the first step depends and which is not part of the path.
          inputs: a pytree of arrays `[T, ...]`, with one entry per step; `jnp.arange(T)` if the steps need no inputs.

        Raises:
          TypeError: `step` is not a function, or `inputs` are not arrays `[T, ...]`.
          ValueError: the `inputs` have different lengths.
        """
        if not callable(step):
            raise TypeError(f"step of a Markov must be a function, got {describe(step)}")
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(inputs)}
        if not lengths or () in lengths:
            raise TypeError(
                f"inputs of a Markov must be arrays [T, ...], got {describe(inputs)}: pass jnp.arange(T) if the steps "
                f"need no inputs"
            )
        if len(lengths) > 1:
            raise ValueError(f"inputs of a Markov must all have the same length, got {sorted(lengths)}")
        self.step, self.params, self.start, self.inputs = step, params, jnp.asarray(start), inputs
        super().__init__((), (len(jax.tree.leaves(inputs)[0]), *jnp.shape(start)))

    @property
    def support(self) -> Any:
        first: Any = self.first.support
        return constraints.independent(first, 1)

    @property
    def has_rsample(self) -> bool:
        return self.first.has_rsample

    def sample_with_intermediates(self, key: Any, sample_shape: tuple[int, ...] = ()) -> tuple[jax.Array, Any]:
        """Return paths and their `GaussianSteps`, or else the intermediates of their steps, as flows have them."""

        def draw(previous: jax.Array, at: tuple[jax.Array, Any]) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            key, inputs = at
            step = self._step(previous, inputs)
            # A step that does not use `previous` has no axes for the draws.
            drawn, kept = step.expand(sample_shape).sample_with_intermediates(key)
            z, base = jnp.asarray(drawn), step.base_dist if isinstance(step, Independent) else step
            if type(base) is Normal:
                kept = GaussianSteps(*(jnp.broadcast_to(jnp.asarray(leaf), z.shape) for leaf in (base.loc, base.scale)))
            return z, (z, kept)

        length, *event = self.event_shape
        first = jnp.broadcast_to(self.start, (*sample_shape, *event)).astype(self._drawn_dtype)
        drawn = jax.lax.scan(draw, first, (jax.random.split(key, length), self.inputs))[1]
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, len(sample_shape)), drawn)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def conditionals(self, z: jax.Array, intermediates: Any = None) -> Distribution:
        """Return the distributions of all z_t given z_{t-1} along paths `[..., T, J]`, with batch shape `[..., T]`.

        If the paths' intermediates are `GaussianSteps`, they are used, and the steps are not computed again.
        """
        if isinstance(intermediates, GaussianSteps):
            return Normal(*intermediates).to_event(len(self.event_shape) - 1)
        axis = z.ndim - len(self.event_shape)
        start = jnp.broadcast_to(self.start, (*z.shape[:axis], 1, *self.event_shape[1:])).astype(z.dtype)
        previous = jnp.concatenate([start, jax.lax.slice_in_dim(z, 0, self.event_shape[0] - 1, axis=axis)], axis=axis)
        return self._step(previous, self.inputs)

    def log_probs(self, z: jax.Array, intermediates: Any = None) -> jax.Array:
        """Return the log density `[..., T]` of every step of paths `[..., T, J]`, in nats."""
        steps = self.conditionals(z, intermediates)
        if not intermediates or isinstance(intermediates, GaussianSteps):
            return jnp.asarray(steps.log_prob(z))
        return jnp.asarray(steps.log_prob(z, intermediates))

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        return jnp.sum(self.log_probs(value, intermediates), axis=-1)

    def tree_flatten(self) -> tuple[tuple, tuple]:
        check_static(self.step, "step of a Markov")
        return super().tree_flatten()

    @property
    def first(self) -> Distribution:
        """The distribution of the first step, traced without computing it, to determine its family."""
        found = []
        jax.eval_shape(lambda: found.append(self._step(self.start, jax.tree.map(lambda leaf: leaf[0], self.inputs))))
        return found[0]

    @property
    def _drawn_dtype(self) -> Any:
        inputs = lambda: jax.tree.map(lambda leaf: leaf[0], self.inputs)
        return jax.eval_shape(lambda: self._step(self.start, inputs()).sample(jax.random.key(0))).dtype

    def _step(self, previous: jax.Array, inputs: Any) -> Distribution:
        distribution = self.step(self.params, previous, inputs)
        if not isinstance(distribution, Distribution):
            raise TypeError(f"step of a Markov must return a numpyro distribution, got {describe(distribution)}")
        if distribution.event_shape != self.event_shape[1:]:
            raise ValueError(
                f"step of a Markov must return a distribution of event shape {self.event_shape[1:]}, that of start, "
                f"but its event shape is {distribution.event_shape}: end it with .to_event({len(self.event_shape) - 1})"
            )
        return distribution
