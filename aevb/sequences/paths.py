"""Latent paths given the observed values of a sequence, continued by the prior after the last observed step."""

from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp

from aevb.arguments import check_choice, check_counts, check_key
from aevb.data.rows import rows
from aevb.data.sequences import lengths_of
from aevb.distributions import Markov
from aevb.model import Datapoint, Model, Params, bind, check_latents, posterior_of, prior_of
from aevb.particles import Particles, check_by_step, run_filter

Method: TypeAlias = Literal["posterior", "particle", "bootstrap"]
"""The method for drawing latents given x.

"posterior" draws from q(z|x). It is fast, and as accurate as q. A q trained on complete sequences has not learned gaps.
"particle" is a particle filter with proposals from q. It draws from p(z|x) in the limit of many particles if q is never
too narrow.
"bootstrap" is a particle filter with proposals from the prior, without the encoder. It draws from p(z|x) in the limit,
whatever q is."""


class Draws(NamedTuple):
    """The number of paths to draw, and the method.

    Attributes:
      method: see `Method`.
      num_samples: S.
      num_particles: K; not used by "posterior".
    """

    method: Method
    num_samples: int
    num_particles: int


def checked_draws(
    params: Params, key: jax.Array, xs: Datapoint, model: Model, method: Method, num_samples: int, num_particles: int
) -> Draws:
    """Return checked options for drawing paths.

    Raises:
      ValueError: the method is unknown, a count is not positive, or a filter needs a `decode` that works step by step.
      TypeError: a count is not an integer, or `key` is not a key.
    """
    check_key(key)
    check_choice("method", method, get_args(Method))
    check_counts(1, num_samples=num_samples, num_particles=num_particles)
    if method != "posterior":
        check_by_step(params, rows(xs, 0), model)
    return Draws(method, int(num_samples), int(num_particles))


def draw_paths(
    params: Params, key: jax.Array, x: Datapoint, model: Model, draws: Draws, only_last: bool = False
) -> jax.Array:
    """Return draws from p(z|x) for one sequence, `[S, T, J]`.

    After the last observed step, z is drawn from the prior's transitions, whatever q is there.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one sequence `[T, D]`, or a `Given` of one.
      model: the four functions of a model with T steps.
      draws: the number of paths and the method.
      only_last: whether only the last observed step and later ones are used. A filter then skips backward simulation,
        and the steps before are not valid draws.
    """
    bound, value = bind(model, x)
    prior, end = markov_prior(bound, params), lengths_of(value)
    known_key, next_key = jax.random.split(key)
    if draws.method == "posterior":
        posterior = posterior_of(bound, params, value)
        check_latents(posterior, prior)
        known = jnp.asarray(posterior.sample(known_key, (draws.num_samples,)))
    else:
        known = _by_particles(params, known_key, x, model, draws, prior, end, only_last)
    return _continued(prior, next_key, known, end)


def markov_prior(model: Model, params: Params) -> Markov:
    """Return the prior of a model of sequences that has been checked."""
    prior = prior_of(model, params)
    assert isinstance(prior, Markov)
    return prior


def _by_particles(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    draws: Draws,
    prior: Markov,
    end: jax.Array,
    only_last: bool,
) -> jax.Array:
    filter_key, choose_key = jax.random.split(key)
    proposal = "prior" if draws.method == "bootstrap" else "posterior"
    found = run_filter(params, filter_key, x, model, draws.num_particles, proposal, keeps_particles=True).particles
    assert found is not None
    if not only_last:
        return _backwards(prior, choose_key, found, end, draws.num_samples)
    last = jnp.maximum(end - 1, 0)
    chosen = jax.random.categorical(choose_key, found.log_weights[last], shape=(draws.num_samples,))
    z = found.z[last][chosen]
    return jnp.broadcast_to(z[:, None], (len(z), len(found.z), *z.shape[1:]))


def _backwards(prior: Markov, key: jax.Array, particles: Particles, end: jax.Array, num_samples: int) -> jax.Array:
    """Return paths `[S, T, J]` through the particles, drawn from the last observed step to the first.

    In backward simulation (Godsill, Doucet & West 2004), z_t^k is drawn with probability proportional to
    v_t^k p(z_{t+1} | z_t^k). Paths that follow the particles' ancestors would share their first steps.
    """
    length, num_particles = particles.log_weights.shape

    def step(following: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        time, z, log_weights, inputs = at
        moves = prior.step(prior.params, z, inputs).expand((num_particles,))
        log_moves = jax.vmap(lambda following: jnp.asarray(moves.log_prob(following)))(following)
        log_chances = log_weights + jnp.where(time + 1 < end, log_moves, 0)
        chosen = jax.random.categorical(jax.random.fold_in(key, time), log_chances)
        return z[chosen], z[chosen]

    inputs = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), prior.inputs)  # for the transition to the next step
    first = jnp.zeros((num_samples, *particles.z.shape[2:]), particles.z.dtype)
    steps = jnp.arange(length), particles.z, particles.log_weights, inputs
    return jnp.moveaxis(jax.lax.scan(step, first, steps, reverse=True)[1], 0, 1)


def _continued(prior: Markov, key: jax.Array, paths: jax.Array, end: jax.Array) -> jax.Array:
    """Return paths `[S, T, J]`, drawn from the prior's transitions from the step `end` on."""
    num_samples, length, *event = paths.shape

    def step(previous: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        time, known, inputs = at
        moves = prior.step(prior.params, previous, inputs).expand((num_samples,))
        drawn = jnp.asarray(moves.sample(jax.random.fold_in(key, time)))
        z = jnp.where(time < end, known, drawn.astype(known.dtype))
        return z, z

    first = jnp.broadcast_to(prior.start, (num_samples, *event)).astype(paths.dtype)
    steps = jnp.arange(length), jnp.moveaxis(paths, 1, 0), prior.inputs
    return jnp.moveaxis(jax.lax.scan(step, first, steps)[1], 0, 1)
