"""Densities and KL divergences by level, for any two distributions over the same latents."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from numpyro.distributions import Distribution, constraints, kl_divergence

from aevb.distributions.chain import Chain, family_name
from aevb.distributions.functions import over_leading_axes
from aevb.distributions.markov import Markov
from aevb.distributions.observed import Observed

ONE_LEVEL = "z"
"""The name of the level of latents with only one level."""


def log_densities(distribution: Distribution, z: Any, intermediates: Any = None) -> dict[str, jax.Array]:
    """Return the log density of each level at draws `z` `[L, ...]`, in nats: `[L]`, or by step `[L, T]` for a path."""
    if isinstance(distribution, Chain):
        return distribution.log_probs(z, intermediates)
    if isinstance(distribution, Markov):
        return {ONE_LEVEL: distribution.log_probs(z, intermediates)}
    density = distribution.log_prob(z, intermediates) if intermediates else distribution.log_prob(z)
    return {ONE_LEVEL: jnp.asarray(density)}


def total(by_level: Mapping[str, jax.Array]) -> jax.Array:
    """Return the sum over levels, `[L]`, of values at draws, `[L]` or by step `[L, T]` per level."""
    return functools.reduce(jnp.add, (jnp.sum(v, axis=-1) if v.ndim > 1 else v for v in by_level.values()))


def sampled_kl(posterior: Mapping[str, jax.Array], prior: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return log q - log p of each level, from the `log_densities` of both at the same draws of q."""
    terms = {}
    for name, log_q in posterior.items():
        log_p = prior[name]
        if log_q.ndim != log_p.ndim:  # one density is given by step, the other only for the whole path
            log_q, log_p = (jnp.sum(each, axis=-1) if each.ndim > 1 else each for each in (log_q, log_p))
        terms[name] = log_q - log_p
    return terms


def closed_form_kl(
    posterior: Distribution, prior: Distribution, z: Any, intermediates: Any = None
) -> dict[str, jax.Array]:
    """Return KL(q || p) in nats for the levels where it has a closed form, at draws `z` `[L, ...]` of q.

    For latents of one level, it does not depend on the draws, `[]`. For a path, it is given by step and conditioned on
    the step before, `[L, T]`. For a level of a `Chain`, it is conditioned on the level's ancestors, `[L]`, if q draws
    all its ancestors in p before it. Otherwise those ancestors depend on the level itself, there is no closed form, and
    the level is left out.

    The `intermediates` of the draws spare the computation of q's steps. Pass them only if the gradient may reach phi
    through the draws.

    Raises:
      ValueError: a level should have a closed form, but none is registered with numpyro for the two families.
    """
    if isinstance(posterior, Chain) and isinstance(prior, Chain):
        names = [name for name in prior.levels if _before(prior, name) <= _before(posterior, name)]

        def one(z: dict[str, Any], kept: dict[str, Any]) -> dict[str, jax.Array]:
            q, p = posterior.at(z), prior.at(z)
            where = {name: f" for level {name!r}" for name in names}
            return {name: _registered(q[name], p[name], z[name], kept.get(name), where[name]) for name in names}

        return jax.vmap(one)(z, intermediates or {})
    return {ONE_LEVEL: _registered(posterior, prior, z, intermediates, "")}


class LevelSupport(NamedTuple):
    """The possible values of one level.

    Attributes:
      level: the name of the level.
      constraint: the numpyro constraint on values with a density.
      may_be_missing: whether NaN marks values that were not observed.
    """

    level: str
    constraint: Any
    may_be_missing: bool


def supports(distribution: Distribution, value: Any) -> list[LevelSupport]:
    """Return the support of each level, given the earlier levels in `value`."""
    if isinstance(distribution, Chain):
        return [supports(level, None)[0]._replace(level=name) for name, level in distribution.at(value).items()]
    return [LevelSupport(ONE_LEVEL, distribution.support, isinstance(distribution, Observed))]


def of_level(value: Any, level: str) -> Any:
    """Return the part of a draw that belongs to one level."""
    return value[level] if isinstance(value, dict) else value


def is_discrete(distribution: Distribution) -> dict[str, bool]:
    """Return whether the values of each level are discrete, by name."""
    if isinstance(distribution, Chain):
        found = {}

        def look(z: Any) -> None:
            found.update({name: is_discrete(level)[ONE_LEVEL] for name, level in distribution.at(z).items()})

        jax.eval_shape(lambda: look(distribution.sample(jax.random.key(0))))
        return found
    return {ONE_LEVEL: bool(getattr(distribution.support, "is_discrete", False))}


class Raveled(Distribution):
    """A distribution over pytrees as one over vectors `[J]`, for Hamiltonian Monte Carlo and AIS."""

    def __init__(self, base: Distribution, template: Any):
        """Wrap `base`, whose draws have the shapes of `template`."""
        vector, self.unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), template))
        self.base = base
        super().__init__((), vector.shape)

    @property
    def support(self) -> Any:
        return constraints.real_vector

    def sample_with_intermediates(self, key: Any, sample_shape: tuple[int, ...] = ()) -> tuple[jax.Array, Any]:
        z, kept = self.base.sample_with_intermediates(key, sample_shape)
        return over_leading_axes(lambda z: ravel_pytree(z)[0], len(sample_shape))(z), kept

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        return self.sample_with_intermediates(key, sample_shape)[0]

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        z = over_leading_axes(self.unravel, jnp.ndim(value) - 1)(value)
        return jnp.asarray(self.base.log_prob(z, intermediates) if intermediates else self.base.log_prob(z))


def _registered(posterior: Distribution, prior: Distribution, z: Any, intermediates: Any, where: str) -> jax.Array:
    try:
        if isinstance(posterior, Markov) and isinstance(prior, Markov):
            by_step = kl_divergence(posterior.conditionals(z, intermediates), prior.conditionals(z))
            leading = z.shape[: z.ndim - len(posterior.event_shape)]
            return jnp.broadcast_to(by_step, (*leading, posterior.event_shape[0]))
        return kl_divergence(posterior, prior)
    except NotImplementedError:
        names = f"{_named(posterior)} from {_named(prior)}"
        raise ValueError(
            f'no closed-form KL divergence of {names} is registered{where}: use kl="sampled", for fit and evaluate '
            f'estimator=aevb.Estimator(kl="sampled")'
        ) from None


def _named(distribution: Distribution) -> str:
    if isinstance(distribution, Markov):
        return f"steps that are {family_name(distribution.first)}"
    return family_name(distribution)


def _before(chain: Chain, name: str) -> set[str]:
    names = list(chain.levels)
    return set(names[: names.index(name)])
