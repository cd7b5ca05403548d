"""Particle filters: unbiased estimates of p(x) of a sequence, one step after the other (Maddison et al. 2017).

K particles z_t^k move by the proposal's step, are weighted by how well they explain x_t, and are resampled in
proportion to their weights, so that what explains the data badly is given up early:

    z_t^k ~ q(z_t | z_{t-1}^k, x),     w_t^k = p(x_t | z_t^k) p(z_t^k | z_{t-1}^k) / q(z_t^k | z_{t-1}^k, x)
    p(x) ~= prod_t sum_k v_{t-1}^k w_t^k,     v_t^k ~ v_{t-1}^k w_t^k, or 1/K after resampling

The log of that product is below log p(x) on average (Jensen): the filtering variational objective, FIVO, where q is the
recognition model, and the bootstrap filter where it is the prior. One weight for a whole path, as the importance
weighted bound has, degenerates exponentially in T; the variance of a filter grows like T / K.
"""

import math
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax.core import Tracer
from numpyro.distributions import Distribution

from aevb.arguments import check_choice, check_counts, describe, describe_shapes
from aevb.distributions import Markov, Observed
from aevb.distributions.chain import family_name
from aevb.model import Datapoint, Model, Params, bind, check_latents, likelihood_of, posterior_of, prior_of
from aevb.support import check_value

Proposal: TypeAlias = Literal["posterior", "prior"]

RESAMPLE_BELOW = 0.5
"""Resample where the effective sample size is below this fraction of K (Maddison et al. 2017, Algorithm 1)."""


class Particles(NamedTuple):
    """The particles of every step, weighted for p(z_t | x_1, ..., x_t): before any resampling.

    Attributes:
      z: `[T, K, ...]`.
      log_weights: `[T, K]`, normalized.
    """

    z: jax.Array
    log_weights: jax.Array


class Filtered(NamedTuple):
    """What a filter finds at each step.

    Attributes:
      log_predictive: `[T]`, nats, estimates of log p(x_t | x_1, ..., x_{t-1}). Their sum is the log of an unbiased
        estimate of p(x), and so are sums of the first ones, of p(x_1, ..., x_t).
      effective_sample_size: `[T]`, between 1 and K: how many particles of equal weight are worth as much, before
        resampling.
      particles: all of them, where they were to be kept.
    """

    log_predictive: jax.Array
    effective_sample_size: jax.Array
    particles: Particles | None = None


def run_filter(
    params: Params,
    key: jax.Array,
    x: Datapoint,
    model: Model,
    num_samples: int,
    proposal: Proposal = "posterior",
    resample_below: float = RESAMPLE_BELOW,
    kl_weight: Any = None,
    differentiable: bool = False,
    keeps_particles: bool = False,
) -> Filtered:
    """Run one particle filter over a sequence (Maddison et al. 2017, Algorithm 1), with systematic resampling.

    Steps after the last observed one cost nothing, whatever q is there, because the model integrates to one over them;
    in a gap the weights are p/q of z alone, which is 1 where q is the prior's step.

    The gradient passes through z and the weights. It does not pass through the choice of those who are resampled, whose
    score-function term is left out: it is biased, and varies much less.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed; the noise of a step depends on it and on the step's position alone.
      x: one sequence, leaves `[T, ...]`, or a `Given`.
      model: the four functions. Its prior and, unless it is not used, its posterior are `Markov`; `decode` works step
        by step on a path of any length.
      num_samples: K, particles, all in memory.
      proposal: whether particles move by q(z|x) or by p(z); by the latter `encode` is not called.
      resample_below: the fraction of K below which an effective sample size leads to resampling: 1 is always, 0 never,
        which is importance sampling.
      kl_weight: the exponent b of p/q in each weight; `None` is 1.
      differentiable: whether z must be a differentiable function of noise.
      keeps_particles: whether the particles of all steps are returned.

    Raises:
      TypeError: prior or posterior is no `Markov`, or cannot be reparameterized where it must.
      ValueError: `x`, z and `decode` do not go step by step together, or an argument is out of range.
    """
    check_counts(1, num_samples=num_samples)
    check_choice("proposal", proposal, get_args(Proposal))
    if not 0 <= resample_below <= 1:
        raise ValueError(f"resample_below is a fraction of the particles, between 0 and 1, got {resample_below}")
    check_value(params, x, model)
    bound, value = bind(model, x)
    prior = _path("prior", prior_of(bound, params))
    posterior = prior if proposal == "prior" else _path("encode", posterior_of(bound, params, value))
    check_latents(posterior, prior)
    _check_shapes(params, bound, prior)
    check_by_step(params, x, model)
    if differentiable and not posterior.has_rsample:
        raise TypeError("the steps of q(z|x) cannot be reparameterized: FIVO can be evaluated, but not ascended")
    value = jax.tree.map(jnp.asarray, value)
    length, *event = posterior.event_shape
    uniform = jnp.full(num_samples, -math.log(num_samples))

    def advance(carry: tuple[jax.Array, jax.Array], at: tuple[jax.Array, ...]) -> tuple[Any, Filtered]:
        previous, log_v = carry
        time, counts, x_t, p_inputs, q_inputs = at
        draw_key, choose_key = jax.random.split(jax.random.fold_in(key, time))
        q, p = _step(posterior, time, previous, q_inputs), _step(prior, time, previous, p_inputs)
        z: Any
        z, intermediates = q.sample_with_intermediates(draw_key)
        log_w = jax.vmap(lambda z: jnp.asarray(likelihood_of(bound, params, z[None]).log_prob(x_t)))(z)
        if proposal == "posterior":
            log_q = jnp.asarray(q.log_prob(z, intermediates) if intermediates else q.log_prob(z))
            divergence = log_q - jnp.asarray(p.log_prob(z))
            log_w -= divergence if kl_weight is None else kl_weight * divergence
        log_v += jnp.where(counts, log_w, 0)
        log_mean = jax.nn.logsumexp(log_v)
        # Where no particle is possible the estimate is 0, and stays so whatever comes after.
        log_v = jnp.where(jnp.isneginf(log_mean), uniform, log_v - log_mean)
        size = jnp.clip(jnp.exp(-jax.nn.logsumexp(2 * log_v)), 1, num_samples)
        resamples = size < resample_below * num_samples
        chosen = jnp.where(resamples, systematic(choose_key, log_v), jnp.arange(num_samples))
        kept = Particles(jnp.asarray(z), log_v) if keeps_particles else None
        return (z[chosen], jnp.where(resamples, uniform, log_v)), Filtered(log_mean, size, kept)

    alone = jax.tree.map(lambda leaf: leaf[:, None], value)  # each step as a sequence of one
    steps = (jnp.arange(length), _is_before_the_end(value), alone, prior.inputs, posterior.inputs)
    template = jax.eval_shape(lambda: posterior.sample(jax.random.key(0)))
    first = (jnp.zeros((num_samples, *event), template.dtype), uniform)
    return jax.lax.scan(advance, first, steps)[1]


def systematic(key: jax.Array, log_weights: jax.Array) -> jax.Array:
    """Return the indices of K particles, each chosen K times its weight on average, from one uniform number.

    Args:
      key: a typed key, consumed.
      log_weights: `[K]`, normalized.

    Returns:
      `[K]` integers, in ascending order, that nothing is differentiated through.
    """
    size = len(log_weights)
    cumulative = jnp.cumsum(jnp.exp(jax.lax.stop_gradient(log_weights)))
    positions = (jnp.arange(size) + jax.random.uniform(key, dtype=cumulative.dtype)) / size
    chosen = jnp.searchsorted(cumulative / cumulative[-1], positions, side="right")
    return jnp.minimum(chosen, size - 1)  # where rounding brings a position to 1


def check_by_step(params: Params, x: Datapoint, model: Model) -> None:
    """Raise `ValueError` if `decode`, whose arguments are known, lets one step of x depend on z of another.

    Such a decoder gives every step alone another density than within a path, which no shape shows. NaN in z does, where
    the likelihood is `Observed` and z continuous.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, x))):
        return
    with jax.ensure_compile_time_eval():  # also where something else is being traced
        mixes = bool(_mixes_steps(params, jax.random.key(0), x, model))
    if mixes:
        raise ValueError(
            "decode does not work step by step, which a particle filter needs: its likelihood of one step of x changes "
            "with z of another"
        )


@jax.jit
def _mixes_steps(params: Params, key: jax.Array, x: Datapoint, model: Model) -> jax.Array:
    # The key is an argument so that z is traced: numpyro refuses a NaN that it sees.
    model, _ = bind(model, x)
    prior = prior_of(model, params)
    if not isinstance(prior, Markov) or prior.event_shape[0] == 1:
        return jnp.bool_(False)
    z = jnp.asarray(prior.sample(key))
    likelihood = likelihood_of(model, params, z)
    is_known = isinstance(likelihood, Observed) and likelihood.event_shape[:1] == prior.event_shape[:1]
    if not is_known or not jnp.issubdtype(z.dtype, jnp.floating):
        return jnp.bool_(False)
    value = likelihood.sample(key)

    def is_reached(z: jax.Array) -> jax.Array:
        likelihood: Any = model.decode(params, z)
        return jnp.isnan(likelihood.log_probs(value))

    reached = is_reached(z.at[1:].set(jnp.nan))[0] | is_reached(z.at[:-1].set(jnp.nan))[-1]
    return reached & ~jnp.any(is_reached(z))


def _path(function: str, distribution: Distribution) -> Markov:
    if isinstance(distribution, Markov):
        return distribution
    hint = '; proposal="prior" does without the encoder' if function == "encode" else ""
    found = f"{function} must return an aevb.Markov, got {family_name(distribution)}"
    raise TypeError(f"a particle filter is for latents along time: {found}{hint}")


def _check_shapes(params: Params, model: Model, prior: Markov) -> None:
    """Raise `ValueError` unless x has as many steps as z, and one step of z decodes to one step of x."""
    template = jax.eval_shape(lambda: prior.sample(jax.random.key(0)))
    whole = _event_shape(params, model, template)
    length = prior.event_shape[0]
    if any(not shape or shape[0] != length for shape in _leaves(whole)):
        raise ValueError(
            f"a particle filter weighs x step by step: z has {length} steps, and x, which must have as many on its "
            f"leading axis, has {describe_shapes(whole)}"
        )
    wanted = jax.tree.map(lambda shape: (1, *shape[1:]), whole, is_leaf=_is_shape)
    needed = "decode must work step by step on a path of any length: decode(params, z[:1]) must have"
    try:
        found = _event_shape(params, model, jax.ShapeDtypeStruct((1, *template.shape[1:]), template.dtype))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{needed} {describe_shapes(wanted)}, but it fails: {describe(reason)}") from None
    if found != wanted:
        raise ValueError(f"{needed} {describe_shapes(wanted)}, but it has {describe_shapes(found)}")


def _event_shape(params: Params, model: Model, z: Any) -> Any:
    found = []
    jax.eval_shape(lambda params, z: found.append(likelihood_of(model, params, z).event_shape), params, z)
    return found[0]


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=_is_shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(size, int) for size in value)


def _is_before_the_end(x: Any) -> jax.Array:
    """Return `[T]`, whether anything at a step or after it was observed."""
    seen: Any = False
    for leaf in jax.tree.leaves(x):
        is_number = ~jnp.isnan(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.ones(leaf.shape, bool)
        seen |= jnp.any(is_number, axis=tuple(range(1, leaf.ndim)))
    return jnp.flip(jnp.cumsum(jnp.flip(seen))) > 0


def _step(path: Markov, time: jax.Array, previous: jax.Array, inputs: Any) -> Distribution:
    """Return the distribution of the next state of each particle, from their states before it, `[K, ...]`."""
    previous = jnp.where(time == 0, path.start.astype(previous.dtype), previous)
    # A step that does not look at `previous` has no axis for the particles.
    return path.step(path.params, previous, inputs).expand(previous.shape[:1])
