"""Densities and KL divergences by level, of any two distributions over the same latents."""

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
"""The name of the level of latents that have only one."""


def log_densities(distribution: Distribution, z: Any, intermediates: Any = None) -> dict[str, jax.Array]:
    """Return the log density of each level at draws `z` `[L, ...]`, in nats: `[L]` each, of a path by step `[L, T]`."""
    if isinstance(distribution, Chain):
        return distribution.log_probs(z, intermediates)
    if isinstance(distribution, Markov):
        return {ONE_LEVEL: distribution.log_probs(z, intermediates)}
    density = distribution.log_prob(z, intermediates) if intermediates else distribution.log_prob(z)
    return {ONE_LEVEL: jnp.asarray(density)}


def total(by_level: Mapping[str, jax.Array]) -> jax.Array:
    """Return the sum over levels of what is known at draws: `[L]` from `[L]` or, by step, `[L, T]` each."""
    return functools.reduce(jnp.add, (jnp.sum(v, axis=-1) if v.ndim > 1 else v for v in by_level.values()))


def sampled_kl(posterior: Mapping[str, jax.Array], prior: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return log q - log p of each level, from the `log_densities` of both at the same draws of q."""
    terms = {}
    for name, log_q in posterior.items():
        log_p = prior[name]
        if log_q.ndim != log_p.ndim:  # a path by step, and one whose steps are not known apart
            log_q, log_p = (jnp.sum(each, axis=-1) if each.ndim > 1 else each for each in (log_q, log_p))
        terms[name] = log_q - log_p
    return terms


def closed_form_kl(posterior: Distribution, prior: Distribution, z: Any) -> dict[str, jax.Array]:
    """Return KL(q || p) in closed form of those levels that have one, in nats, at draws `z` `[L, ...]` of q.

    Of latents of one level it does not depend on the draws, `[]`. A step of a path has it given the step before,
    `[L, T]`. A level of a `Chain` has it given its ancestors, `[L]`, where all that it depends on in p is drawn before
    it in q; elsewhere p's ancestors of the level depend on the level itself, there is no closed form, and the level is
    left out.

    Raises:
      ValueError: a level ought to have one, and none is registered with numpyro for the two families.
    """
    if isinstance(posterior, Chain) and isinstance(prior, Chain):
        names = [name for name in prior.levels if _before(prior, name) <= _before(posterior, name)]

        def one(z: dict[str, Any]) -> dict[str, jax.Array]:
            q, p = posterior.at(z), prior.at(z)
            return {name: _registered(q[name], p[name], z[name], f" for level {name!r}") for name in names}

        return jax.vmap(one)(z)
    return {ONE_LEVEL: _registered(posterior, prior, z, "")}


class LevelSupport(NamedTuple):
    """What the values of one level may be.

    Attributes:
      level: its name.
      constraint: numpyro's, of the values that have a density.
      may_be_missing: whether NaN is what was not observed.
    """

    level: str
    constraint: Any
    may_be_missing: bool


def supports(distribution: Distribution, value: Any) -> list[LevelSupport]:
    """Return the support of each level, at `value` of the ones before it."""
    if isinstance(distribution, Chain):
        return [supports(level, None)[0]._replace(level=name) for name, level in distribution.at(value).items()]
    return [LevelSupport(ONE_LEVEL, distribution.support, isinstance(distribution, Observed))]


def of_level(value: Any, level: str) -> Any:
    """Return the part of a draw that is one level's."""
    return value[level] if isinstance(value, dict) else value


def is_discrete(distribution: Distribution) -> dict[str, bool]:
    """Tell of each level, by name, whether its values are discrete."""
    if isinstance(distribution, Chain):
        found = {}

        def look(z: Any) -> None:
            found.update({name: is_discrete(level)[ONE_LEVEL] for name, level in distribution.at(z).items()})

        jax.eval_shape(lambda: look(distribution.sample(jax.random.key(0))))
        return found
    return {ONE_LEVEL: bool(getattr(distribution.support, "is_discrete", False))}


class Raveled(Distribution):
    """A distribution over pytrees as one over vectors `[J]`: what Hamiltonian Monte Carlo and AIS are about."""

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


def _registered(posterior: Distribution, prior: Distribution, z: Any, where: str) -> jax.Array:
    try:
        if isinstance(posterior, Markov) and isinstance(prior, Markov):
            by_step = kl_divergence(posterior.conditionals(z), prior.conditionals(z))
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
