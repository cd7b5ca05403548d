"""Draws of p(z|y), where y is the observed part of a datapoint, or all of it seen through noise."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from aevb.arguments import check_choice, check_counts
from aevb.data.rows import num_rows, rows
from aevb.hmc import check_continuous
from aevb.marginal_likelihood import chains as parallel
from aevb.marginal_likelihood.estimate import log_joint, over_vectors
from aevb.model import Datapoint, Latents, Model, Params, bind, latent_template, posterior_of, prior_of
from aevb.posterior.batches import OnChunk, chunked
from aevb.posterior.channels import Channel
from aevb.posterior.seen import as_seen, checked

Method: TypeAlias = Literal["hmc", "refined", "encoder"]
"""The method by which z is drawn given the observed values.

"hmc": by several Hamiltonian Monte Carlo chains. In the limit these are draws of p(z|y), and R-hat shows whether they
have come close.
"refined": from q(z|y) after each dimension of z was shifted and scaled by gradient steps that increase the bound on
log p(y) for each datapoint separately (Kim et al. 2018). For a diagonal Gaussian q the result is the best diagonal
Gaussian.
"encoder": from q(z|y) directly. An encoder that was not trained on gaps or noise may be far off on such data."""

NUM_SAMPLES = 200
"""The default number of draws of z per datapoint."""

CHUNK_SIZE = 100
"""The default number of datapoints per call of the compiled program."""

_NUM_PRIOR_DRAWS = 400
_NUM_CENTRE_DRAWS = 64
_NUM_GRADIENT_DRAWS = 8
_LEARNING_RATE, _LAST_RATE = 0.05, 0.1  # for the steps on q, in units of z; the fraction left at the last step


class Options(NamedTuple):
    """Static options for drawing z.

    Attributes:
      method: a `Method`.
      noise: the channel through which y was seen, or `None`.
      num_samples: S.
      num_chains: C, the number of Hamiltonian Monte Carlo chains.
      num_warmup: the number of transitions per chain before any draw counts.
      num_transitions: the number of transitions per chain after warm-up.
      num_steps: the number of gradient steps on q.
    """

    method: Method
    noise: Channel | None
    num_samples: int
    num_chains: int
    num_warmup: int
    num_transitions: int
    num_steps: int


class PosteriorDraws(NamedTuple):
    """Draws of p(z|y) for each datapoint, as NumPy arrays.

    Attributes:
      z: leaves `[N, S, ...]`; for a `Chain`, a dict by level. For "hmc", the draws of one Markov chain follow those of
        another.
      r_hat: `[N]`, the largest split R-hat over the coordinates of z and log p(y, z). Above about 1.1 the chains
        disagree, and their draws do not represent p(z|y). `None` without chains.
      acceptance: `[N]`, the mean acceptance probability of the chains; `None` without chains.
    """

    z: Any
    r_hat: Any
    acceptance: Any


def draw(
    params: Params,
    key: jax.Array,
    xs: Datapoint,
    model: Model,
    num_samples: int = NUM_SAMPLES,
    *,
    method: Method = "hmc",
    noise: Channel | None = None,
    num_chains: int = 4,
    num_warmup: int = 200,
    num_transitions: int = 200,
    num_steps: int = 200,
    chunk_size: int = CHUNK_SIZE,
    on_chunk: OnChunk | None = None,
) -> PosteriorDraws:
    """Draw z given the observed values of every datapoint. NaN was not seen; other values may be noisy.

    The noise of a datapoint depends only on `key` and its position, so `chunk_size`, which limits memory, changes the
    result only by rounding.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: the observed data, leaves `[N, ...]`, or a `Given` with a complete condition.
      model: the four functions. NaN and noise need a likelihood of independent values, `aevb.Observed` or not.
      num_samples: S; for "hmc" a multiple of `num_chains`.
      method: "hmc", "refined" or "encoder". The first two need z without a discrete level.
      noise: the channel through which `xs` were seen, `flips(p)` or `gaussian(sd)`.
      num_chains: C. Half of the chains start at draws of q, each of the others at the best of 400 draws of the prior.
      num_warmup: the number of transitions per chain before any draw counts, in which the step size is adapted.
      num_transitions: the number of transitions per chain after warm-up, of which S / C are kept, evenly spaced.
      num_steps: the number of gradient steps of "refined".
      chunk_size: the number of datapoints per call of the compiled program.
      on_chunk: called after every chunk with the number of datapoints done.

    Raises:
      ValueError: `xs` are empty, have another shape, or lie outside the support of p(y|z); or an option is out of
        range.
      TypeError: z is discrete and `method` moves it, `noise` is not known for the likelihood, or as for `aevb.elbo`.
    """
    check_counts(1, chunk_size=chunk_size)
    options = checked_options(method, noise, num_samples, num_chains, num_warmup, num_transitions, num_steps)
    xs = checked_for(params, key, xs, model, options)
    program = compiled(_draw_chunk)
    return chunked(
        lambda chunk: program(params, key, rows(xs, chunk), chunk, model, options),
        np.arange(num_rows(xs)),
        chunk_size,
        on_chunk,
    )


def checked_options(method: Method, noise: Channel | None, num_samples: int, *counts: int) -> Options:
    """Check the options and return them.

    Raises:
      ValueError: an option is out of range.
      TypeError: a count is not an integer.
    """
    check_choice("method", method, get_args(Method))
    names = ("num_chains", "num_warmup", "num_transitions", "num_steps")
    check_counts(1, num_samples=num_samples, **dict(zip(names, counts, strict=True)))
    options = Options(method, noise, int(num_samples), *map(int, counts))
    if method == "hmc":
        check_counts(4, num_transitions=options.num_transitions)
        if options.num_samples % options.num_chains:
            raise ValueError(f"num_samples must be a multiple of num_chains={options.num_chains}, got {num_samples}")
        if options.num_samples // options.num_chains > options.num_transitions // 2 * 2:
            raise ValueError(
                f"num_samples={num_samples} draws from {options.num_chains} chains need more than their "
                f"{options.num_transitions} transitions per chain: increase num_transitions or num_chains"
            )
    return options


def checked_for(params: Params, key: jax.Array, xs: Datapoint, model: Model, options: Options) -> Datapoint:
    """Do the same as `seen.checked`, and also check the datapoints against the method."""
    xs = checked(params, key, xs, model, options.noise)
    if options.method != "encoder":

        def look(row: Datapoint) -> None:
            check_continuous(prior_of(bind(model, row)[0], params), f'method="{options.method}"')

        jax.eval_shape(look, rows(xs, 0))
    return xs


def compiled(program: Callable[..., Any]) -> Callable[..., Any]:
    """Return `program(params, key, xs, positions, model, options, ...)`, compiled for the default device."""
    return compiled_for(jax.default_backend(), program)


@functools.cache
def compiled_for(platform: str, program: Callable[..., Any]) -> Callable[..., Any]:
    """Do the same as `compiled`, for a platform."""
    # As in marginal_likelihood, chains are many small kernels, which take longer to optimize than to run.
    compiler_options: dict[str, Any] | None = {"xla_backend_optimization_level": 1} if platform == "cpu" else None
    return jax.jit(program, static_argnames=("options",), compiler_options=compiler_options)


def _draw_chunk(
    params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, options: Options
) -> PosteriorDraws:
    return jax.vmap(lambda x, position: draw_one(params, jax.random.fold_in(key, position), x, model, options))(
        xs, positions
    )


def draw_one(params: Params, key: jax.Array, x: Datapoint, model: Model, options: Options) -> PosteriorDraws:
    """Return draws of p(z|y) for one datapoint, leaves `[S, ...]`."""
    seen = as_seen(model, options.noise)
    if options.method == "encoder":
        bound, value = bind(seen, x)
        z: Latents = posterior_of(bound, params, value).sample(key, (options.num_samples,))
        return PosteriorDraws(z, None, None)
    template = latent_template(bind(seen, x)[0], params)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), template)
    _, unravel = ravel_pytree(zeros)
    bound, value = over_vectors(params, key, x, seen, f'method="{options.method}"')
    by_method = _by_chains if options.method == "hmc" else _by_refined
    found = by_method(params, key, value, bound, options)
    return found._replace(z=jax.vmap(unravel)(found.z))


def _by_chains(params: Params, key: jax.Array, y: Datapoint, model: Model, options: Options) -> PosteriorDraws:
    """Return the kept states of the chains, `[S, J]`, one chain after another."""
    warmup_key, *keys = jax.random.split(key, 3)
    num_chains, num_kept = options.num_chains, options.num_samples // options.num_chains
    half = options.num_transitions // 2
    log_density = log_joint(params, y, model)
    chains = parallel.warm_up(params, warmup_key, y, model, num_chains, options.num_warmup, True, _NUM_PRIOR_DRAWS)

    def run_half(carry: tuple, inputs: tuple) -> tuple[tuple, parallel.SampleStatistics]:
        (chains, kept), (key, first) = carry, inputs

        def keep(kept: jax.Array, index: jax.Array, states: Any) -> jax.Array:
            # Each slot keeps the last state of its interval.
            return kept.at[(first + index) * num_kept // (2 * half)].set(states.position)

        chains, kept, statistics = parallel.sample(key, chains, log_density, half, keep, kept)
        return (chains, kept), statistics

    nothing = jnp.zeros((num_kept, *chains.states.position.shape), chains.states.position.dtype)
    inputs = jnp.stack(keys), jnp.arange(2) * half
    (_, kept), statistics = jax.lax.scan(run_half, (chains, nothing), inputs)
    first, second = (jax.tree.map(lambda leaf, part=part: leaf[part], statistics.moments) for part in range(2))
    z = jnp.swapaxes(kept, 0, 1).reshape(options.num_samples, -1)
    return PosteriorDraws(z, parallel.r_hat(first, second), jnp.mean(statistics.acceptance))


def _by_refined(params: Params, key: jax.Array, y: Datapoint, model: Model, options: Options) -> PosteriorDraws:
    """Return draws of q, `[S, J]`, after an affine map of each dimension, found by gradient steps from the identity.

    With z = c + a + exp(b) (u - c), u ~ q, and c near the mean of q, the bound is E[log p(y, z)] + sum b plus the
    entropy of q, which is constant. Hence q may have any family, and no gradient passes through its draws.
    """
    posterior, log_density = posterior_of(model, params, y), log_joint(params, y, model)
    centre_key, steps_key, draw_key = jax.random.split(key, 3)
    centre = jnp.mean(jnp.asarray(posterior.sample(centre_key, (_NUM_CENTRE_DRAWS,))), axis=0)

    def moved(shift_and_stretch: tuple[jax.Array, jax.Array], draws: jax.Array) -> jax.Array:
        shift, log_stretch = shift_and_stretch
        return centre + shift + jnp.exp(log_stretch) * (draws - centre)

    def loss(parameters: tuple[jax.Array, jax.Array], key: jax.Array) -> jax.Array:
        draws = jnp.asarray(posterior.sample(key, (_NUM_GRADIENT_DRAWS,)))
        return -jnp.mean(jax.vmap(log_density)(moved(parameters, draws))) - jnp.sum(parameters[1])

    optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, options.num_steps, _LAST_RATE))

    def step(carry: tuple, index: jax.Array) -> tuple[tuple, None]:
        parameters, state = carry
        gradient = jax.grad(loss)(parameters, jax.random.fold_in(steps_key, index))
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), None

    start = jnp.zeros_like(centre), jnp.zeros_like(centre)
    (parameters, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(options.num_steps))
    draws = jnp.asarray(posterior.sample(draw_key, (options.num_samples,)))
    return PosteriorDraws(moved(parameters, draws), None, None)
