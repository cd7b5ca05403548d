"""Gaussian models with linear means, whose bounds and gradients are all known: levels of latents, and paths.

The exact quantities are sums over one joint Gaussian of all latents and data, differentiated by JAX. They share no code
with the library.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from aevb import Chain, Given, Markov, Model, Observed
from aevb.distributions import zeros_and_mask


def normal(mean: Any, scale: Any) -> dist.Distribution:
    return dist.Normal(mean, scale).to_event(1)


def gaussian(mean: jax.Array, covariance: jax.Array) -> dist.Distribution:
    return dist.MultivariateNormal(mean, scale_tril=jnp.linalg.cholesky(covariance))


def log_density(value: jax.Array, mean: jax.Array, covariance: jax.Array) -> jax.Array:
    residual = value - mean
    log_determinant = jnp.linalg.slogdet(2 * jnp.pi * covariance)[1]
    return -0.5 * (log_determinant + residual @ jnp.linalg.solve(covariance, residual))


def expected_log_density(
    q_mean: jax.Array, q_covariance: jax.Array, mean: jax.Array, covariance: jax.Array
) -> jax.Array:
    """E_{v ~ N(q_mean, q_covariance)}[log N(v; mean, covariance)]."""
    spread = jnp.trace(jnp.linalg.solve(covariance, q_covariance))
    return log_density(q_mean, mean, covariance) - 0.5 * spread


def entropy(covariance: jax.Array) -> jax.Array:
    return 0.5 * jnp.linalg.slogdet(2 * jnp.pi * jnp.e * covariance)[1]


def exact_elbo(x: jax.Array, q: tuple[jax.Array, jax.Array], joint: tuple[jax.Array, jax.Array]) -> jax.Array:
    """E_q[log p(x, z)] + H[q] for Gaussian q(z) and p(z, x), both `(mean, covariance)`."""
    q_mean, q_covariance = q
    size = len(q_mean)
    whole = jnp.zeros_like(joint[1]).at[:size, :size].set(q_covariance)
    return expected_log_density(jnp.concatenate([q_mean, x]), whole, *joint) + entropy(q_covariance)


# Two levels: p(z2|c) = N(E c, I), p(z1|z2) = N(A z2, s1^2 I), p(x|z1) = N(B z1, s^2 I)

SCALE_Z1, SCALE_X = 0.7, 0.5
SIZE_Z2, SIZE_Z1, SIZE_X, SIZE_C = 2, 3, 4, 2
_Z2, _Z1, _X = slice(0, 2), slice(2, 5), slice(5, 9)


class TwoLevels(NamedTuple):
    """A model of two levels, with the exact bound of its q.

    Attributes:
      model: The model; its datapoints are `Given(x, c)`.
      params: Its parameters, float64 NumPy arrays.
      exact: `(params, datapoint) -> []`, the exact ELBO.
      log_marginal: `(params, datapoint) -> []`, log p(x|c).
    """

    model: Model
    params: Any
    exact: Callable[[Any, Any], jax.Array]
    log_marginal: Callable[[Any, Any], jax.Array]


@functools.cache
def two_levels(order: str, tight: bool) -> TwoLevels:
    """Return a model whose latents are drawn "up", from x to z1 to z2, or "down"; `tight` for the exact posterior."""
    rng = np.random.RandomState(0)
    decoder = {
        "A": rng.randn(SIZE_Z1, SIZE_Z2),
        "B": rng.randn(SIZE_X, SIZE_Z1),
        "E": rng.randn(SIZE_Z2, SIZE_C),
    }
    with jax.enable_x64(True):
        covariance = np.asarray(_joint(decoder, jnp.zeros(SIZE_C))[1])
    first, second = (_Z1, _Z2) if order == "up" else (_Z2, _Z1)
    gain_first, covariance_first = _conditional(covariance, [first], [_X])
    gain_second, covariance_second = _conditional(covariance, [second], [_Z1] if order == "up" else [_Z2, _X])
    if not tight:  # smaller gains, and diagonal covariances that are too narrow
        gain_first, gain_second = 0.9 * gain_first, 0.7 * gain_second
        covariance_first, covariance_second = (
            0.64 * np.diag(np.diag(each)) for each in (covariance_first, covariance_second)
        )
    factors = [np.linalg.cholesky(each) for each in (covariance_first, covariance_second)]
    encoder = {
        "first": {"gain": gain_first, "offset": np.zeros(len(gain_first)), "factor": factors[0]},
        "second": {"gain": gain_second, "factor": factors[1]},
    }
    family = gaussian if tight else _diagonal

    def encode(params: Any, x: jax.Array, c: jax.Array) -> Chain:
        means, encoder = _means(params["decoder"], c), params["encoder"]
        name_first, name_second = ("z1", "z2") if order == "up" else ("z2", "z1")
        x_residual = x - means[_X]
        first_mean = means[first] + encoder["first"]["gain"] @ x_residual + encoder["first"]["offset"]

        def second_level(z: dict) -> dist.Distribution:
            seen = z[name_first] - means[first]
            if order == "down":
                seen = jnp.concatenate([seen, x_residual])
            return family(means[second] + encoder["second"]["gain"] @ seen, _square(encoder["second"]["factor"]))

        levels = {name_first: family(first_mean, _square(encoder["first"]["factor"])), name_second: second_level}
        return Chain(**levels)

    def decode(params: Any, z: dict, c: jax.Array) -> dist.Distribution:
        del c
        return normal(params["decoder"]["B"] @ z["z1"], SCALE_X)

    def prior(params: Any, c: jax.Array) -> Chain:
        decoder = params["decoder"]
        return Chain(z2=normal(decoder["E"] @ c, 1.0), z1=lambda z: normal(decoder["A"] @ z["z2"], SCALE_Z1))

    def exact(params: Any, datapoint: Given) -> jax.Array:
        x, c = datapoint
        means, encoder = _means(params["decoder"], c), params["encoder"]
        x_residual = x - means[_X]
        mean_first = means[first] + encoder["first"]["gain"] @ x_residual + encoder["first"]["offset"]
        of_first = encoder["second"]["gain"][:, : len(mean_first)]
        constant = means[second] - of_first @ means[first]
        if order == "down":
            constant = constant + encoder["second"]["gain"][:, len(mean_first) :] @ x_residual
        v_first, v_second = (_square(encoder[name]["factor"]) for name in ("first", "second"))
        if not tight:
            v_first, v_second = (jnp.diag(jnp.diag(v)) for v in (v_first, v_second))
        mean_second = of_first @ mean_first + constant
        cross = of_first @ v_first
        q_first_second = jnp.block([[v_first, cross.T], [cross, cross @ of_first.T + v_second]])
        mean = jnp.concatenate([mean_first, mean_second])
        # In the order of the joint distribution: z2, z1.
        if order == "up":
            permutation = np.r_[SIZE_Z1 : SIZE_Z1 + SIZE_Z2, 0:SIZE_Z1]
            mean, q_first_second = mean[permutation], q_first_second[np.ix_(permutation, permutation)]
        return exact_elbo(x, (mean, q_first_second), _joint(params["decoder"], c))

    def log_marginal(params: Any, datapoint: Given) -> jax.Array:
        mean, covariance = _joint(params["decoder"], datapoint.condition)
        return log_density(datapoint.value, mean[_X], covariance[_X, _X])

    params = {"encoder": encoder, "decoder": decoder}
    init = lambda key: jax.tree.map(jnp.asarray, params)
    return TwoLevels(Model(init, encode, decode, prior), params, exact, log_marginal)


def _means(decoder: Any, c: jax.Array) -> jax.Array:
    z2 = decoder["E"] @ c
    z1 = decoder["A"] @ z2
    return jnp.concatenate([z2, z1, decoder["B"] @ z1])


def _joint(decoder: Any, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, b = decoder["A"], decoder["B"]
    noise = jnp.block(
        [
            [jnp.eye(SIZE_Z2), jnp.zeros((SIZE_Z2, SIZE_Z1 + SIZE_X))],
            [a, SCALE_Z1 * jnp.eye(SIZE_Z1), jnp.zeros((SIZE_Z1, SIZE_X))],
            [b @ a, SCALE_Z1 * b, SCALE_X * jnp.eye(SIZE_X)],
        ]
    )
    return _means(decoder, c), noise @ noise.T


def _conditional(covariance: np.ndarray, of: list[slice], given: list[slice]) -> tuple[np.ndarray, np.ndarray]:
    a, b = (np.concatenate([np.arange(9)[part] for part in parts]) for parts in (of, given))
    gain = covariance[np.ix_(a, b)] @ np.linalg.inv(covariance[np.ix_(b, b)])
    return gain, covariance[np.ix_(a, a)] - gain @ covariance[np.ix_(b, a)]


def _square(factor: jax.Array) -> jax.Array:
    factor = jnp.tril(factor)
    return factor @ factor.T


def _diagonal(mean: jax.Array, covariance: jax.Array) -> dist.Distribution:
    return normal(mean, jnp.sqrt(jnp.diag(covariance)))


# A linear-Gaussian state space: z_t = F z_{t-1} + noise, x_t = H z_t + noise, partly unobserved

STATE, OBSERVED = 3, 4


class StateSpace(NamedTuple):
    """A model of paths. Datapoints are `[T, 4]`, NaN where nothing was observed.

    Attributes:
      model: The model. Its encoder is the exact smoother at `params`, displaced by "shift" and "widen".
      params: Its parameters.
      log_marginal: `(params, x) -> []`, log p of the observed values, by the Kalman filter.
    """

    model: Model
    params: Any
    log_marginal: Callable[[Any, jax.Array], jax.Array]


def smoother_step(encoder: Any, z: jax.Array, inputs: tuple) -> dist.Distribution:
    """The exact posterior step, displaced by the encoder's parameters unless no more observations follow."""
    gain, offset, scale_tril, is_informed = inputs
    shift = jnp.where(is_informed[..., None], encoder["shift"], 0)
    widen = jnp.where(is_informed, encoder["widen"], 1)[..., None, None]
    mean = jnp.einsum("...ij,...j->...i", gain, z) + offset + shift
    return dist.MultivariateNormal(mean, scale_tril=widen * scale_tril)


def transition(decoder: Any, z: jax.Array, time: jax.Array) -> dist.Distribution:
    """The prior's step, in the family of `smoother_step`, for which a KL is registered."""
    del time
    scale_tril = jnp.diag(jnp.exp(0.5 * decoder["log_q"]))
    return dist.MultivariateNormal(z @ jnp.transpose(decoder["F"]), scale_tril=scale_tril)


@functools.cache
def state_space(length: int) -> StateSpace:
    rng = np.random.RandomState(1)
    decoder = {
        "F": 0.95 * np.linalg.qr(rng.randn(STATE, STATE))[0],
        "H": rng.randn(OBSERVED, STATE),
        "log_q": np.log(0.3 + rng.rand(STATE)),
        "log_r": np.log(0.2 + rng.rand(OBSERVED)),
        "start": np.ones(STATE),
    }
    params = {"encoder": {"shift": np.zeros(STATE), "widen": np.ones(())}, "decoder": decoder}

    def prior(params: Any) -> Markov:
        return Markov(transition, params["decoder"], params["decoder"]["start"], jnp.arange(length))

    def decode(params: Any, z: jax.Array) -> Observed:
        return Observed(
            dist.Normal(z @ jnp.transpose(params["decoder"]["H"]), jnp.exp(0.5 * params["decoder"]["log_r"]))
        )

    def encode(params: Any, x: jax.Array) -> Markov:
        return Markov(smoother_step, params["encoder"], params["decoder"]["start"], _messages(params["decoder"], x))

    init = lambda key: jax.tree.map(jnp.asarray, params)
    return StateSpace(Model(init, encode, decode, prior), params, _kalman)


def _messages(decoder: Any, x: jax.Array) -> tuple:
    """The exact posterior of each step given the one before and all observations from there on, backwards."""
    decoder = jax.tree.map(jnp.asarray, decoder)
    filled, seen = zeros_and_mask(x)
    transition_matrix, readout = decoder["F"], decoder["H"]
    precision_q, precision_r = jnp.diag(jnp.exp(-decoder["log_q"])), jnp.exp(-decoder["log_r"])

    def back(message: tuple, at: tuple) -> tuple:
        precision, information = message
        value, mask = at
        weights = precision_r * mask
        precision = readout.T @ (readout * weights[:, None]) + precision
        information = readout.T @ (weights * value) + information
        covariance = jnp.linalg.inv(precision_q + precision)
        gain = covariance @ precision_q @ transition_matrix
        before = transition_matrix.T @ precision_q @ (transition_matrix - gain), gain.T @ information
        return before, (gain, covariance @ information, jnp.linalg.cholesky(covariance))

    nothing = jnp.zeros((STATE, STATE), x.dtype), jnp.zeros(STATE, x.dtype)
    _, steps = jax.lax.scan(back, nothing, (filled, seen), reverse=True)
    still_to_come = jnp.flip(jnp.cumsum(jnp.flip(jnp.any(seen > 0, axis=-1)))) > 0
    return (*steps, still_to_come)


def _kalman(params: Any, x: jax.Array) -> jax.Array:
    decoder = jax.tree.map(jnp.asarray, params["decoder"])
    filled, seen = zeros_and_mask(x)
    f, h, q, r = decoder["F"], decoder["H"], jnp.diag(jnp.exp(decoder["log_q"])), jnp.exp(decoder["log_r"])

    def step(belief: tuple, at: tuple) -> tuple:
        mean, covariance = belief
        value, mask = at
        mean, covariance = f @ mean, f @ covariance @ f.T + q
        readout = h * mask[:, None]
        innovation = mask * (value - h @ mean)
        spread = readout @ covariance @ readout.T + jnp.diag(jnp.where(mask > 0, r, 1.0))
        log_density_here = log_density(innovation, jnp.zeros_like(innovation), spread)
        unseen = 0.5 * jnp.sum(1 - mask) * jnp.log(2 * jnp.pi)
        gain = jnp.linalg.solve(spread, readout @ covariance).T
        return (mean + gain @ innovation, covariance - gain @ readout @ covariance), log_density_here + unseen

    start = decoder["start"], jnp.zeros((STATE, STATE), x.dtype)
    return jnp.sum(jax.lax.scan(step, start, (filled, seen))[1])


def path_elbo(params: Any, x: jax.Array) -> jax.Array:
    """The exact ELBO of a state space with a possibly displaced smoother, for short paths `[T, 4]`."""
    decoder, length = params["decoder"], len(x)
    gain, offset, scale_tril, is_informed = _messages(decoder, x)
    encoder = params["encoder"]
    q_steps = [
        (
            gain[t],
            offset[t] + jnp.where(is_informed[t], encoder["shift"], 0),
            jnp.square(jnp.where(is_informed[t], encoder["widen"], 1)) * scale_tril[t] @ scale_tril[t].T,
        )
        for t in range(length)
    ]
    p_step = (decoder["F"], jnp.zeros(STATE), jnp.diag(jnp.exp(decoder["log_q"])))
    q = _path(q_steps, decoder["start"])
    z_mean, z_covariance = _path([p_step] * length, decoder["start"])
    readout = jnp.kron(jnp.eye(length), decoder["H"])
    seen = ~np.isnan(np.asarray(x)).reshape(-1)
    readout, noise = readout[seen], jnp.tile(jnp.exp(decoder["log_r"]), length)[seen]
    cross = readout @ z_covariance
    joint_covariance = jnp.block([[z_covariance, cross.T], [cross, cross @ readout.T + jnp.diag(noise)]])
    joint = jnp.concatenate([z_mean, readout @ z_mean]), joint_covariance
    return exact_elbo(jnp.asarray(x).reshape(-1)[seen], q, joint)


def _path(steps: list[tuple], start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and covariance of a whole path from the gains, offsets and covariances of its steps."""
    mean, means, rows = start, [], []
    covariance = jnp.zeros((len(start), len(start)))
    for gain, offset, noise in steps:
        mean = gain @ mean + offset
        rows = [[*row, row[-1] @ gain.T] for row in rows]
        covariance = gain @ covariance @ gain.T + noise
        rows.append([covariance])
        means.append(mean)
    size = len(steps)
    blocks: list[list[Any]] = [[None] * size for _ in range(size)]
    for i, row in enumerate(rows):
        for j, block in enumerate(row, start=i):
            blocks[i][j], blocks[j][i] = block, block.T
    return jnp.concatenate(means), jnp.block(blocks)


@functools.cache
def recording(length: int, padding: int = 0) -> np.ndarray:
    """Return the data of a path, `[T + padding, 4]`, with a gap, a missing entry and NaN after its end."""
    rng = np.random.RandomState(2)
    x = 2 * rng.randn(length + padding, OBSERVED)
    x[length // 3 : length // 3 + 3] = np.nan
    x[1, 1] = np.nan
    x[length:] = np.nan
    return x
