"""Draws of p(z|y), where y is what was seen of a datapoint: a part of it, or all of it through noise."""

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
"""How z is drawn given what was seen.

"hmc": by several chains of Hamiltonian Monte Carlo. In the limit these are draws of p(z|y), and R-hat says whether they
have come near it.
"refined": from q(z|y) after each dimension of z was moved and stretched by gradient steps that raise the bound on
log p(y) of this very datapoint (Kim et al. 2018). Of a diagonal Gaussian q that is the best diagonal Gaussian.
"encoder": from q(z|y) as it is. An encoder that was never shown gaps or noise does not know what to make of them."""

NUM_SAMPLES = 200
"""Draws of z for each datapoint, by default."""

CHUNK_SIZE = 100
"""Datapoints at a time in the compiled program, by default."""

_NUM_PRIOR_DRAWS = 400
_NUM_CENTRE_DRAWS = 64
_NUM_GRADIENT_DRAWS = 8
_LEARNING_RATE, _LAST_RATE = 0.05, 0.1  # of the steps on q, in units of z; what is left of it at the last one


class Options(NamedTuple):
    """How z is drawn; static.

    Attributes:
      method: of `Method`.
      noise: the channel that y went through, or `None`.
      num_samples: S.
      num_chains: C, of Hamiltonian Monte Carlo.
      num_warmup: transitions of each chain before any counts.
      num_transitions: of each chain after these.
      num_steps: gradient steps on q.
    """

    method: Method
    noise: Channel | None
    num_samples: int
    num_chains: int
    num_warmup: int
    num_transitions: int
    num_steps: int


class PosteriorDraws(NamedTuple):
    """Draws of p(z|y) of each datapoint, NumPy arrays.

    Attributes:
      z: leaves `[N, S, ...]`; of a `Chain` a dict by level. Chain after chain, by "hmc".
      r_hat: `[N]`, the largest split R-hat over the coordinates of z and log p(y, z): above about 1.1 the chains
        disagree, and their draws are none of p(z|y). `None` without chains.
      acceptance: `[N]`, the mean acceptance probability of the chains; `None` without.
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
    """Return draws of z given what was seen of every datapoint: what is NaN was not, the rest perhaps through noise.

    A datapoint's noise depends on `key` and on its position alone, so that `chunk_size`, which bounds memory, changes
    the result by no more than rounding does.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      xs: what was seen, leaves `[N, ...]`, or a `Given` whose condition is known whole.
      model: the four functions. NaN and noise are for likelihoods of independent values, `aevb.Observed` or not.
      num_samples: S; by "hmc" a multiple of `num_chains`.
      method: "hmc", "refined" or "encoder"; the first two are for z without a discrete level.
      noise: `flips(p)` or `gaussian(sd)`, what `xs` went through.
      num_chains: C; half of them start at draws of q, the others each at the best of 400 draws of the prior.
      num_warmup: transitions of each chain before any counts, by which the step size is adapted.
      num_transitions: of each chain after these; S / C of them are kept, evenly spaced.
      num_steps: gradient steps of "refined".
      chunk_size: datapoints at a time in the one compiled program.
      on_chunk: called after every chunk with the number of datapoints done.

    Raises:
      ValueError: `xs` are empty, of another shape, or outside of what can be seen; or an option is out of range.
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
    """Return options, checked.

    Raises:
      ValueError: one is out of range.
      TypeError: a count is no integer.
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
                f"num_samples={num_samples} of {options.num_chains} chains are more than their "
                f"{options.num_transitions} transitions: raise num_transitions or num_chains"
            )
    return options


def checked_for(params: Params, key: jax.Array, xs: Datapoint, model: Model, options: Options) -> Datapoint:
    """Return datapoints as `seen.checked` does, checked also against the method."""
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
    """Return what `compiled` does, for a platform."""
    # As in marginal_likelihood: chains are many small kernels, which take longer to optimize than to run.
    compiler_options: dict[str, Any] | None = {"xla_backend_optimization_level": 1} if platform == "cpu" else None
    return jax.jit(program, static_argnames=("options",), compiler_options=compiler_options)


def _draw_chunk(
    params: Params, key: jax.Array, xs: Datapoint, positions: jax.Array, model: Model, options: Options
) -> PosteriorDraws:
    return jax.vmap(lambda x, position: draw_one(params, jax.random.fold_in(key, position), x, model, options))(
        xs, positions
    )


def draw_one(params: Params, key: jax.Array, x: Datapoint, model: Model, options: Options) -> PosteriorDraws:
    """Return draws of p(z|y) of one datapoint, leaves `[S, ...]`."""
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
    """Return the kept states of the chains, `[S, J]`, chain after chain."""
    warmup_key, *keys = jax.random.split(key, 3)
    num_chains, num_kept = options.num_chains, options.num_samples // options.num_chains
    half = options.num_transitions // 2
    log_density = log_joint(params, y, model)
    chains = parallel.warm_up(params, warmup_key, y, model, num_chains, options.num_warmup, True, _NUM_PRIOR_DRAWS)

    def run_half(carry: tuple, inputs: tuple) -> tuple[tuple, parallel.SampleStatistics]:
        (chains, kept), (key, first) = carry, inputs

        def keep(kept: jax.Array, index: jax.Array, states: Any) -> jax.Array:
            # The last state of each stretch stays.
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
    """Return draws `[S, J]` of q after an affine map of each dimension, found by gradient steps from the identity.

    With z = c + a + exp(b) (u - c), u ~ q, and c near the mean of q, the bound is E[log p(y, z)] + sum b plus the
    entropy of q, which stays: q may be of any family, and no gradient passes through its draws.
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
