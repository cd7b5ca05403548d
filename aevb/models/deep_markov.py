"""Deep Markov models (Krishnan et al. 2017, Structured Inference Networks for Nonlinear State Space Models).

prior        p(z_t | z_{t-1}) = N(mean(z_{t-1}), scale(z_{t-1})^2), a gated transition; z_0 is learned
likelihood   p(x_t | z_t), a network of each step's state
posterior    q(z_t | z_{t-1}, x_t, ..., x_T), from a recurrent network that reads x backwards

The bound for a sequence, with the analytic KL of each step given the one before it:

    L(x) = sum_t E_q[ log p(x_t | z_t) ] - E_q[ KL(q(z_t | z_{t-1}, x) || p(z_t | z_{t-1})) ]
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.arguments import check_choice, check_counts, check_shape, float_dtype
from aevb.distributions import Markov, Observed
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model, Params
from aevb.models.families import family
from aevb.models.recognition import RecurrentPosterior, recurrent_recognition
from aevb.networks.recurrent import Emission, GatedTransition


@dataclasses.dataclass(frozen=True)
class Specification:
    """The checked and normalized arguments of `deep_markov_vae`."""

    data_shape: tuple[int, ...]
    latent_dim: int
    emission_dim: int
    transition_dim: int
    rnn_dim: int
    likelihood: Likelihood
    posterior: RecurrentPosterior
    param_dtype: str


@family("deep_markov", sequences=True)
def deep_markov_vae(
    data_shape: Sequence[int],
    latent_dim: int = 32,
    emission_dim: int = 100,
    transition_dim: int = 64,
    rnn_dim: int = 128,
    likelihood: str = "bernoulli",
    posterior: RecurrentPosterior = "structured",
    param_dtype: str = "float32",
) -> Model:
    """Return a deep Markov model of sequences `[T, D]`. Its latents are paths `[T, J]`.

    NaN marks values that were not observed: the padding of shorter sequences, gaps, and single values. The bound is on
    log p of the observed values, and does not change when a sequence is padded further. The parameters do not depend on
    T, so that they are also valid for the same model of any other length.

    Args:
      data_shape: `[T, D]`, where T is the length of the longest sequence.
      latent_dim: J, the size of each step's state.
      emission_dim: the number of units of the two hidden layers between z_t and x_t.
      transition_dim: the number of units of the hidden layers between z_{t-1} and z_t.
      rnn_dim: the number of units of each recurrent network of q.
      likelihood: the likelihood of every value of x given its step's state: "bernoulli", "gaussian" with a variance
        from the network, or another of `aevb.likelihoods`.
      posterior: "structured" is q(z_t | z_{t-1}, x_t, ..., x_T), which conditions on the same variables as the exact
        posterior. "mean_field" is q(z_t | x), in which the steps are independent given x. "flow" is "structured" with
        two inverse autoregressive layers that make the dimensions of a step dependent; it has no registered KL, so use
        `kl="sampled"`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": ..., "decoder": {"transition": ..., "emission": ..., "start": z_0}}`. Its
      prior and posterior are `aevb.Markov`; its likelihood is `aevb.Observed`. Equal arguments give the same model.

    Raises:
      ValueError: the shape is not `[T, D]`, a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    return networks(
        specification(data_shape, latent_dim, emission_dim, transition_dim, rnn_dim, likelihood, posterior, param_dtype)
    )


def specification(
    data_shape: Sequence[int],
    latent_dim: int,
    emission_dim: int,
    transition_dim: int,
    rnn_dim: int,
    likelihood: str,
    posterior: RecurrentPosterior,
    param_dtype: str,
) -> Specification:
    """Return the checked arguments of `deep_markov_vae`. Errors are those of `deep_markov_vae`."""
    check_sequence_shape(data_shape)
    check_counts(1, latent_dim=latent_dim, emission_dim=emission_dim, transition_dim=transition_dim, rnn_dim=rnn_dim)
    check_choice("posterior", posterior, get_args(RecurrentPosterior))
    if posterior == "flow" and latent_dim < 2:
        raise ValueError(f'posterior="flow" needs latent_dim of at least 2, got {latent_dim}')
    return Specification(
        tuple(data_shape),
        latent_dim,
        emission_dim,
        transition_dim,
        rnn_dim,
        LIKELIHOODS.get(likelihood),
        posterior,
        float_dtype("param_dtype", param_dtype),
    )


@functools.cache
def networks(spec: Specification, num_classes: int = 0) -> Model:
    """Return a model whose networks read the C values of a label in addition to each state and each step of x.

    With C > 0, `encode` takes x concatenated with the label, `[T, D + C]`, and callers of `encode`, `decode` or `prior`
    add the label, `[C]`, to the decoder's parameters as "label".
    """
    length, data_dim = spec.data_shape
    gated = GatedTransition(spec.latent_dim, spec.transition_dim, spec.param_dtype)
    emission = Emission(spec.emission_dim, (data_dim, spec.likelihood.num_outputs), spec.param_dtype)

    def read(theta: Params, z: jax.Array) -> jax.Array:
        if not num_classes:
            return z
        label = jnp.broadcast_to(theta["label"], (*z.shape[:-1], num_classes))
        return jnp.concatenate([z, label], axis=-1)

    def transition(theta: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return gated.apply({"params": theta["transition"]}, read(theta, z))  # type: ignore[return-value]

    recognition = recurrent_recognition(
        data_dim + num_classes, spec.latent_dim, spec.rnn_dim, spec.posterior, transition, spec.param_dtype
    )

    def init(key: jax.Array) -> Params:
        encoder_key, transition_key, emission_key = jax.random.split(key, 3)
        inputs = jnp.zeros(spec.latent_dim + num_classes, spec.param_dtype)
        theta = {
            "transition": gated.init(transition_key, inputs)["params"],
            "emission": emission.init(emission_key, inputs)["params"],
            "start": inputs[: spec.latent_dim],
        }
        return {"encoder": recognition.init(encoder_key), "decoder": theta}

    def decode(params: Params, z: jax.Array) -> Observed:
        theta = params["decoder"]
        return Observed(spec.likelihood.of(jnp.asarray(emission.apply({"params": theta["emission"]}, read(theta, z)))))

    def step(theta: Params, z: jax.Array, time: Any) -> dist.Distribution:
        del time
        return dist.Normal(*transition(theta, z)).to_event(1)

    def prior(params: Params) -> Markov:
        return Markov(step, params["decoder"], params["decoder"]["start"], jnp.arange(length))

    return Model(init, recognition.encode, decode, prior)


def check_sequence_shape(data_shape: Any) -> None:
    """Raise `TypeError` or `ValueError` unless `data_shape` is `[T, D]`, the shape of a sequence."""
    check_shape("data_shape", data_shape)
    if len(data_shape) != 2:
        raise ValueError(
            f"data_shape must be [T, D], T steps of D values each, got {list(data_shape)}: a series of numbers has "
            f"D = 1"
        )
