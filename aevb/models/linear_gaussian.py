"""Linear-Gaussian state space models with learned parameters: the model of the Kalman filter.

    z_t = A z_{t-1} + noise,   noise ~ N(0, Q),      x_t = C z_t + d + noise,   noise ~ N(0, R),      t = 1..T

A, C, d, z_0 and the diagonals of Q and R are learned. The posterior is known exactly. It is a Gaussian for each step
given the one before it, computed from messages that run backwards and summarize the observations from t on:

    M_t = P_t + C' R^-1 C        from x_t, and from later steps through P_t      precision about z_t
    m_t = p_t + C' R^-1 (x_t - d)                                                the same times z_t
    S_t = (Q^-1 + M_t)^-1,   G_t = S_t Q^-1 A
    q(z_t | z_{t-1}, x) = N(G_t z_{t-1} + S_t m_t, S_t)
    P_{t-1} = G_t' M_t A,   p_{t-1} = G_t' m_t
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.arguments import check_choice, check_counts, float_dtype
from aevb.distributions import Markov, Observed
from aevb.distributions.observed import still_to_come, zeros_and_mask
from aevb.model import Model, Params
from aevb.models.deep_markov import check_sequence_shape
from aevb.models.families import family
from aevb.models.recognition import recurrent_recognition

StateSpacePosterior: TypeAlias = Literal["exact", "recurrent"]

_FIRST_DECAY = 0.9  # A is initialized to this multiple of the identity: states persist for about ten steps


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `linear_gaussian_state_space`."""

    data_shape: tuple[int, ...]
    latent_dim: int
    posterior: StateSpacePosterior
    rnn_dim: int
    param_dtype: str


@family("linear_gaussian", sequences=True)
def linear_gaussian_state_space(
    data_shape: Sequence[int],
    latent_dim: int = 8,
    posterior: StateSpacePosterior = "exact",
    rnn_dim: int = 64,
    param_dtype: str = "float32",
) -> Model:
    """Return a linear-Gaussian state space model of sequences `[T, D]`. Its latents are paths `[T, J]`.

    As in `deep_markov_vae`, NaN marks values that were not observed, and the parameters do not depend on T.

    With the exact posterior, the bound equals log p(x). With `kl="sampled"`, every single draw gives it and its
    gradient without noise, up to rounding. Training is then maximum likelihood. There is no phi: `params["encoder"]` is
    empty.

    Args:
      data_shape: `[T, D]`, where T is the length of the longest sequence.
      latent_dim: J, the size of each step's state.
      posterior: "exact", the smoother for the current theta; or "recurrent", the structured recognition model of
        `deep_markov_vae`, for comparison.
      rnn_dim: the number of units of the recurrent network, if there is one.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": ..., "decoder": {"transition": A, "transition_log_variance": [J],
      "emission": C, "offset": d, "log_variance": [D], "start": z_0}}`. Equal arguments give the same model.

    Raises:
      ValueError: the shape is not `[T, D]`, a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    check_sequence_shape(data_shape)
    check_counts(1, latent_dim=latent_dim, rnn_dim=rnn_dim)
    check_choice("posterior", posterior, get_args(StateSpacePosterior))
    return _build(
        _Specification(tuple(data_shape), latent_dim, posterior, rnn_dim, float_dtype("param_dtype", param_dtype))
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    (length, data_dim), size, dtype = spec.data_shape, spec.latent_dim, spec.param_dtype
    is_exact = spec.posterior == "exact"
    recognition = recurrent_recognition(data_dim, size, spec.rnn_dim, "structured", _mean_and_scale, dtype)

    def init(key: jax.Array) -> Params:
        encoder_key, emission_key = jax.random.split(key)
        theta = {
            "transition": _FIRST_DECAY * jnp.eye(size, dtype=dtype),
            "transition_log_variance": jnp.zeros(size, dtype),
            "emission": jax.random.normal(emission_key, (data_dim, size), dtype) / size**0.5,
            "offset": jnp.zeros(data_dim, dtype),
            "log_variance": jnp.zeros(data_dim, dtype),
            "start": jnp.zeros(size, dtype),
        }
        return {"encoder": {} if is_exact else recognition.init(encoder_key), "decoder": theta}

    def encode(params: Params, x: jax.Array) -> Markov:
        theta = params["decoder"]
        return Markov(_smoothed_step, (), theta["start"], _messages(theta, x))

    def decode(params: Params, z: jax.Array) -> Observed:
        theta = params["decoder"]
        mean = z @ theta["emission"].T + theta["offset"]
        return Observed(dist.Normal(mean, jnp.exp(0.5 * theta["log_variance"])))

    def prior(params: Params) -> Markov:
        theta = params["decoder"]
        step = _correlated_step if is_exact else _step
        return Markov(step, theta, theta["start"], jnp.arange(length))

    return Model(init, encode if is_exact else recognition.encode, decode, prior)


def _mean_and_scale(theta: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return z @ theta["transition"].T, jnp.exp(0.5 * theta["transition_log_variance"])


def _step(theta: Params, z: jax.Array, time: Any) -> dist.Distribution:
    del time
    return dist.Normal(*_mean_and_scale(theta, z)).to_event(1)


def _correlated_step(theta: Params, z: jax.Array, time: Any) -> dist.Distribution:
    """Return the same as `_step`, but in the family of the exact posterior, for which a KL is registered."""
    del time
    mean, scale = _mean_and_scale(theta, z)
    return dist.MultivariateNormal(mean, scale_tril=jnp.diag(scale))


def _smoothed_step(params: tuple, z: jax.Array, inputs: tuple) -> dist.Distribution:
    del params
    gain, offset, scale_tril = inputs
    return dist.MultivariateNormal(jnp.einsum("...ij,...j->...i", gain, z) + offset, scale_tril=scale_tril)


def _messages(theta: Params, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return G_t `[T, J, J]`, S_t m_t `[T, J]` and a Cholesky factor of S_t `[T, J, J]` of the exact posterior."""
    transition, emission = theta["transition"], theta["emission"]
    variances = jnp.exp(theta["transition_log_variance"])
    values, mask = zeros_and_mask(x - theta["offset"])
    weights = mask * jnp.exp(-theta["log_variance"])  # R^-1 of the observed values
    seen = jnp.einsum("di,td,dj->tij", emission, weights, emission), (weights * values) @ emission

    def back(message: tuple, at: tuple) -> tuple:
        precision, information = (later + here for later, here in zip(message, at, strict=True))
        covariance = jnp.linalg.inv(jnp.diag(1 / variances) + precision)
        covariance = 0.5 * (covariance + covariance.T)
        gain = covariance @ (transition / variances[:, None])
        before = gain.T @ precision @ transition
        step = gain, covariance @ information, jnp.linalg.cholesky(covariance)
        return (0.5 * (before + before.T), gain.T @ information), step

    nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), seen)
    gain, offset, scale_tril = jax.lax.scan(back, nothing, seen, reverse=True)[1]
    # If nothing more is observed, the step is exactly the prior's, without rounding errors.
    is_informed = still_to_come(x)[:, None, None]
    gain = jnp.where(is_informed, gain, transition)
    return gain, offset, jnp.where(is_informed, scale_tril, jnp.diag(jnp.sqrt(variances)))
