"""Latent paths given what was observed of a sequence, which go on by the prior where nothing more was."""

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
"""How latents are drawn given x.

"posterior": from q(z|x): fast, and as good as q is. A q that was trained on whole sequences knows nothing of gaps.
"particle": by a particle filter whose particles q moves: p(z|x) itself in the limit of many, if q is never too narrow.
"bootstrap": by one whose particles the prior moves, without the encoder: p(z|x) in the limit, whatever q is."""


class Draws(NamedTuple):
    """How many paths are drawn, and how.

    Attributes:
      method: of `Method`.
      num_samples: S.
      num_particles: K; of no meaning to "posterior".
    """

    method: Method
    num_samples: int
    num_particles: int


def checked_draws(
    params: Params, key: jax.Array, xs: Datapoint, model: Model, method: Method, num_samples: int, num_particles: int
) -> Draws:
    """Return what is to be drawn, checked.

    Raises:
      ValueError: an unknown method, a count that is not positive, or `decode` does not work step by step where it must.
      TypeError: a count that is no integer, or a key that is none.
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
    """Return draws of p(z|x) of one sequence, `[S, T, J]`.

    From the last observed step on, z moves by the prior, whatever q has there.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      x: one sequence `[T, D]`, or a `Given` of one.
      model: the four functions, of T steps.
      draws: how many, and how.
      only_last: whether no step before the last observed one matters: a filter then need not look back, and those steps
        are not draws of anything.
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
    """Return the prior of a model of sequences, which was checked."""
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

    Backward simulation (Godsill, Doucet & West 2004): z_t^k is drawn with probability proportional to
    v_t^k p(z_{t+1} | z_t^k). Paths by their ancestors alone would share their first steps.
    """
    length, num_particles = particles.log_weights.shape

    def step(following: jax.Array, at: tuple) -> tuple[jax.Array, jax.Array]:
        time, z, log_weights, inputs = at
        moves = prior.step(prior.params, z, inputs).expand((num_particles,))
        log_moves = jax.vmap(lambda following: jnp.asarray(moves.log_prob(following)))(following)
        log_chances = log_weights + jnp.where(time + 1 < end, log_moves, 0)
        chosen = jax.random.categorical(jax.random.fold_in(key, time), log_chances)
        return z[chosen], z[chosen]

    inputs = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), prior.inputs)  # of the move to the step after
    first = jnp.zeros((num_samples, *particles.z.shape[2:]), particles.z.dtype)
    steps = jnp.arange(length), particles.z, particles.log_weights, inputs
    return jnp.moveaxis(jax.lax.scan(step, first, steps, reverse=True)[1], 0, 1)


def _continued(prior: Markov, key: jax.Array, paths: jax.Array, end: jax.Array) -> jax.Array:
    """Return paths `[S, T, J]` that from the step `end` on are drawn by the prior's transitions."""
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
