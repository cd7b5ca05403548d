"""Latents in levels: a joint distribution of named levels, each conditioned on the levels before it."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, ExpandedDistribution, Independent

from aevb.arguments import describe
from aevb.distributions.functions import check_static, is_pytree, over_leading_axes
from aevb.distributions.markov import Markov

Level: TypeAlias = Distribution | Callable[[dict[str, Any]], Distribution]


class Chain(Distribution):
    """A distribution p(a) p(b|a) p(c|a, b)... over named levels. A draw is a dict with one entry per level.

        Chain(z2=Normal(...).to_event(1), z1=lambda z: Normal(f(z["z2"]), 1.0).to_event(1))

    It can serve as a prior, a posterior and, for several modalities, a likelihood. Levels are paired by name: a
    posterior may draw them in a different order from the prior (from the data upwards, or from the top down).

    To pass through `jax.jit`, `jax.vmap` or a scan, a level that is a function must not close over arrays: use
    `jax.tree_util.Partial(function, arrays)`, which calls `function(arrays, z)`.
    """

    def __init__(self, **levels: Level):
        """Define each level by a distribution, or by a function from a dict of the earlier levels to a distribution."""
        if not levels:
            raise TypeError("a Chain needs at least one level: Chain(z=Normal(...).to_event(1))")
        for name, level in levels.items():
            if not callable(level) and not isinstance(level, Distribution):
                raise TypeError(
                    f"level {name!r} of a Chain must be a distribution or a function, got {describe(level)}"
                )
        self.levels = levels
        super().__init__()

    def at(self, z: dict[str, Any]) -> dict[str, Distribution]:
        """Return the distribution of each level, given the earlier levels of one draw `z`."""
        return self._walk(lambda name, distribution: distribution, z)

    def means(self) -> dict[str, Any]:
        """Return the mean of each level, given the means of the earlier levels."""
        return self._walk(lambda name, distribution: distribution.mean)

    @property
    def event_shape(self) -> Any:
        """The shapes of the levels, as a dict."""
        return jax.tree.map(lambda leaf: leaf.shape, self._traced[0])

    @property
    def has_rsample(self) -> bool:
        """Whether every level can be reparameterized."""
        return not self.levels_without_rsample

    @property
    def levels_without_rsample(self) -> dict[str, str]:
        """The families of the levels that cannot be reparameterized, by the name of the level."""
        return self._traced[1]

    def sample_with_intermediates(self, key: Any, sample_shape: tuple[int, ...] = ()) -> tuple[Any, Any]:
        def one(key: jax.Array) -> tuple[dict, dict]:
            keys, kept = dict(zip(self.levels, jax.random.split(key, len(self.levels)), strict=True)), {}

            def draw(name: str, distribution: Distribution) -> Any:
                value, kept[name] = distribution.sample_with_intermediates(keys[name])
                return value

            return self._walk(draw), kept

        return over_leading_axes(one, len(sample_shape))(jax.random.split(key, sample_shape) if sample_shape else key)

    def sample_by_keys(self, keys: dict[str, jax.Array]) -> dict[str, Any]:
        """Return one draw with a separate key for each level. The same key gives a level the same noise."""
        return self._walk(lambda name, distribution: distribution.sample(keys[name]))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        densities = self.log_probs(value, intermediates)
        by_level = [jnp.sum(densities[name], axis=-1) if self._is_path(name) else densities[name] for name in densities]
        return functools.reduce(jnp.add, by_level)

    def log_probs(self, value: dict[str, Any], intermediates: Any = None) -> dict[str, jax.Array]:
        """Return the log density of each level given the earlier ones, `[...]` for draws `[..., event]`, in nats.

        For a level that is a path, the log densities of its steps are returned, `[..., T]`.
        """

        def one(value: dict, kept: dict) -> dict[str, jax.Array]:
            return {name: _density(of, value[name], kept.get(name)) for name, of in self.at(value).items()}

        template = jax.tree.leaves(self._traced[0])[0]
        return over_leading_axes(one, jnp.ndim(jax.tree.leaves(value)[0]) - template.ndim)(value, intermediates or {})

    def tree_flatten(self) -> tuple[tuple, tuple]:
        data, static = [], []
        for name, level in self.levels.items():
            if is_pytree(level):
                data.append(level)
                static.append(None)
            else:
                check_static(level, f"level {name!r} of a Chain")
                static.append(level)
        return tuple(data), (tuple(self.levels), tuple(static))

    @classmethod
    def tree_unflatten(cls, aux_data: tuple, params: tuple) -> "Chain":
        names, static = aux_data
        data = iter(params)
        chain = cls.__new__(cls)
        chain.levels = {name: next(data) if level is None else level for name, level in zip(names, static, strict=True)}
        Distribution.__init__(chain)
        return chain

    @functools.cached_property
    def _traced(self) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, str], frozenset[str]]:
        """The shapes of a draw, the levels that cannot be reparameterized, and the levels that are paths."""
        fixed, paths = {}, set()

        def look(name: str, distribution: Distribution) -> Any:
            if not distribution.has_rsample:
                fixed[name] = family_name(distribution)
            if isinstance(distribution, Markov):
                paths.add(name)
            return distribution.sample(jax.random.key(0))

        return jax.eval_shape(lambda: self._walk(look)), fixed, frozenset(paths)

    def _is_path(self, name: str) -> bool:
        return name in self._traced[2]

    def _walk(self, visit: Callable[[str, Distribution], Any], z: dict[str, Any] | None = None) -> dict[str, Any]:
        """Visit each level, given the earlier levels' values in `z` or else what the visits returned for them."""
        visited: dict[str, Any] = {}
        for name in self.levels:
            before = {earlier: (visited if z is None else z)[earlier] for earlier in visited}
            visited[name] = visit(name, self._level(name, before))
        return visited

    def _level(self, name: str, before: dict[str, Any]) -> Distribution:
        level: Any = self.levels[name]
        if not isinstance(level, Distribution):
            try:
                level = level(before)
            except KeyError as error:
                if error.args and error.args[0] in self.levels:
                    message = f"level {name!r} of a Chain uses {error.args[0]!r}, which does not come before it"
                    raise ValueError(message) from None
                error.add_note(f"in level {name!r} of a Chain, which is given {', '.join(before) or 'nothing'}")
                raise
        if not isinstance(level, Distribution):
            raise TypeError(f"level {name!r} of a Chain must be a numpyro distribution, got {describe(level)}")
        if level.batch_shape:
            raise ValueError(
                f"level {name!r} of a Chain has the batch shape {level.batch_shape}: end it with "
                f".to_event({len(level.batch_shape)})"
            )
        return level


def _density(distribution: Distribution, value: Any, intermediates: Any) -> jax.Array:
    if isinstance(distribution, Markov):
        return distribution.log_probs(value, intermediates)
    if intermediates:
        return jnp.asarray(distribution.log_prob(value, intermediates))
    return jnp.asarray(distribution.log_prob(value))


def family_name(distribution: Any) -> str:
    """Return the name of the family inside `Independent` and `ExpandedDistribution`."""
    while isinstance(distribution, Independent | ExpandedDistribution):
        distribution = distribution.base_dist
    return type(distribution).__name__
