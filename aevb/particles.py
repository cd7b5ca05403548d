"""Particle filters: unbiased estimates of p(x) for a sequence, computed step by step (Maddison et al. 2017).

K particles z_t^k move by the proposal's step, are weighted by how well they explain x_t, and are resampled in
proportion to their weights, so that particles which explain the data badly are dropped early:

    z_t^k ~ q(z_t | z_{t-1}^k, x),     w_t^k = p(x_t | z_t^k) p(z_t^k | z_{t-1}^k) / q(z_t^k | z_{t-1}^k, x)
    p(x) ~= prod_t sum_k v_{t-1}^k w_t^k,     v_t^k ~ v_{t-1}^k w_t^k, or 1/K after resampling

The log of that product is below log p(x) on average (Jensen). With the recognition model as q this is the filtering
variational objective, FIVO; with the prior as q it is the bootstrap filter. One weight per path, as in the importance
weighted bound, degenerates exponentially in T; the variance of a filter grows like T / K.
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
"""Resample if the effective sample size is below this fraction of K (Maddison et al. 2017, Algorithm 1)."""


class Particles(NamedTuple):
    """The particles of every step before resampling, weighted to represent p(z_t | x_1, ..., x_t).

    Attributes:
      z: `[T, K, ...]`, the particles.
      log_weights: `[T, K]`, normalized.
    """

    z: jax.Array
    log_weights: jax.Array


class Filtered(NamedTuple):
    """The results of a filter at each step.

    Attributes:
      log_predictive: `[T]`, nats, estimates of log p(x_t | x_1, ..., x_{t-1}). Their sum is the log of an unbiased
        estimate of p(x), and the sum of the first t is that of p(x_1, ..., x_t).
      effective_sample_size: `[T]`, between 1 and K: the equivalent number of equally weighted particles, before
        resampling.
      particles: the particles of all steps; `None` unless they were to be kept.
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

    Steps after the last observed one contribute nothing, for any q, because the model integrates to one over them. In a
    gap the weights are p/q of z alone, which is 1 if q is the prior's step.

    The gradient passes through z and the weights. It leaves out the score-function term of the resampling choices: it
    is biased, but has much lower variance.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed. The noise of a step depends only on the key and the position of the step.
      x: one sequence, leaves `[T, ...]`, or a `Given`.
      model: the four functions. The prior and, if it is used, the posterior are `Markov`; `decode` works step by step
        on a path of any length.
      num_samples: K, the number of particles, all of which are held in memory.
      proposal: whether particles move by q(z|x) or by p(z). For "prior", `encode` is not called.
      resample_below: the fraction of K below which the effective sample size triggers resampling. 1 always resamples;
        0 never does, which is importance sampling.
      kl_weight: the exponent b of p/q in each weight; `None` is 1.
      differentiable: whether z must be a differentiable function of noise.
      keeps_particles: whether to return the particles of all steps.

    Raises:
      TypeError: the prior or the posterior is not a `Markov`, or the posterior cannot be reparameterized and must be.
      ValueError: `x`, z and `decode` do not match step by step, or an argument is out of range.
    """
    check_counts(1, num_samples=num_samples)
    check_choice("proposal", proposal, get_args(Proposal))
    if not 0 <= resample_below <= 1:
        raise ValueError(f"resample_below must be a fraction of the particles between 0 and 1, got {resample_below}")
    check_value(params, x, model)
    bound, value = bind(model, x)
    prior = _path("prior", prior_of(bound, params))
    posterior = prior if proposal == "prior" else _path("encode", posterior_of(bound, params, value))
    check_latents(posterior, prior)
    _check_shapes(params, bound, prior)
    check_by_step(params, x, model)
    if differentiable and not posterior.has_rsample:
        raise TypeError("the steps of q(z|x) cannot be reparameterized: FIVO can be evaluated, but not maximized")
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
        # If no particle is possible, the estimate is 0 and remains so at all later steps.
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
    """Return the indices of K resampled particles, using one uniform number (systematic resampling).

    Each particle is chosen K times its weight on average.

    Args:
      key: a typed key, consumed.
      log_weights: `[K]`, normalized.

    Returns:
      `[K]` integers in ascending order. No gradient passes through them.
    """
    size = len(log_weights)
    cumulative = jnp.cumsum(jnp.exp(jax.lax.stop_gradient(log_weights)))
    positions = (jnp.arange(size) + jax.random.uniform(key, dtype=cumulative.dtype)) / size
    chosen = jnp.searchsorted(cumulative / cumulative[-1], positions, side="right")
    return jnp.minimum(chosen, size - 1)  # rounding may bring a position to 1


def check_by_step(params: Params, x: Datapoint, model: Model) -> None:
    """Raise `ValueError` if `decode` lets one step of x depend on z at another step. Skipped if arguments are traced.

    Such a decoder gives a single step another density than the same step within a path, which shapes do not reveal. NaN
    in z reveals it if the likelihood is `Observed` and z is continuous.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, x))):
        return
    with jax.ensure_compile_time_eval():  # something else may be being traced
        mixes = bool(_mixes_steps(params, jax.random.key(0), x, model))
    if mixes:
        raise ValueError(
            "decode does not work step by step, as a particle filter needs: its likelihood of one step of x depends "
            "on z at another step"
        )


@jax.jit
def _mixes_steps(params: Params, key: jax.Array, x: Datapoint, model: Model) -> jax.Array:
    # The key is an argument so that z is traced: numpyro rejects a NaN in a concrete array.
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
    hint = '; proposal="prior" does not use the encoder' if function == "encode" else ""
    found = f"{function} must return an aevb.Markov, got {family_name(distribution)}"
    raise TypeError(f"a particle filter needs latents along time: {found}{hint}")


def _check_shapes(params: Params, model: Model, prior: Markov) -> None:
    """Raise `ValueError` unless x has as many steps as z, and one step of z decodes to one step of x."""
    template = jax.eval_shape(lambda: prior.sample(jax.random.key(0)))
    whole = _event_shape(params, model, template)
    length = prior.event_shape[0]
    if any(not shape or shape[0] != length for shape in _leaves(whole)):
        raise ValueError(
            f"a particle filter weights x step by step: z has {length} steps, so x must have {length} steps on its "
            f"leading axis, but it has {describe_shapes(whole)}"
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
    """Return whether anything was observed at each step or after it, `[T]`."""
    seen: Any = False
    for leaf in jax.tree.leaves(x):
        is_number = ~jnp.isnan(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.ones(leaf.shape, bool)
        seen |= jnp.any(is_number, axis=tuple(range(1, leaf.ndim)))
    return jnp.flip(jnp.cumsum(jnp.flip(seen))) > 0


def _step(path: Markov, time: jax.Array, previous: jax.Array, inputs: Any) -> Distribution:
    """Return the distribution of the next state of each particle, given their previous states, `[K, ...]`."""
    previous = jnp.where(time == 0, path.start.astype(previous.dtype), previous)
    # A step that does not depend on `previous` has no axis for the particles.
    return path.step(path.params, previous, inputs).expand(previous.shape[:1])
