"""Variational auto-encoders with the networks of Appendix C.

    decoder   h = tanh(W3 z + b3)      Bernoulli:  logits = W4 h + b4                               (C.1)
                                       Gaussian:   mean = W4 h + b4,  log sigma^2 = W5 h + b5       (C.2)
    encoder   h = tanh(W3 x + b3)      Gaussian:   mean = W4 h + b4,  log sigma^2 = W5 h + b5       (C.2)

W4 and W5 are one matrix here (a fused head), whose product is split.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.arguments import check_choice, check_counts, describe, float_dtype
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model, Params
from aevb.models.families import family
from aevb.networks import MLP, InverseAutoregressiveFlow, WeightInit

Posterior: TypeAlias = Literal["gaussian", "full_covariance", "flow"]


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `mlp_vae`."""

    data_shape: tuple[int, ...]
    latent_dim: int
    hidden_dims: tuple[int, ...]
    likelihood: Likelihood
    posterior: Posterior
    weight_init: WeightInit
    compute_dtype: str | None
    param_dtype: str


@family("mlp")
def mlp_vae(
    data_shape: Sequence[int],
    latent_dim: int,
    hidden_dim: int | Sequence[int] = 500,
    likelihood: str = "bernoulli",
    posterior: Posterior = "gaussian",
    squash_mean: bool = False,
    weight_init: WeightInit = "normal_0.01",
    compute_dtype: str | None = None,
    param_dtype: str = "float32",
) -> Model:
    """Return the variational auto-encoder of the paper's Appendix C, with tanh MLPs and the prior p(z) = N(0, I).

    Args:
      data_shape: the shape of one datapoint, which is flattened for the networks.
      latent_dim: J, the size of z.
      hidden_dim: the number of units of the hidden layer. A sequence gives one number per layer; the decoder mirrors
        the encoder.
      likelihood: "bernoulli" (C.1), "gaussian" with a log-variance per value (C.2), or another of `aevb.likelihoods`.
      posterior: the family of q(z|x). "gaussian" has a diagonal covariance, as in the paper (eq. 9);
        "full_covariance" outputs a Cholesky factor; "flow" passes the diagonal Gaussian through two inverse
        autoregressive layers (Kingma et al. 2016). The last two have no registered KL: use `kl="sampled"`.
      squash_mean: whether to pass the mean of the Gaussian likelihood through a sigmoid, as the paper does for Frey
        Face. This is equivalent to `likelihood="squashed_gaussian"`.
      weight_init: the initialization. The paper draws all parameters from "N(0, 0.01)", which can mean a standard
        deviation of 0.01 ("normal_0.01") or a variance of 0.01 ("normal_0.1"). "glorot" and "glorot_uniform" draw
        weights by fan-in and fan-out from a normal or a uniform distribution, with biases 0. The default is that of the
        first author's code of the time, and the slowest of the three at the start; after 3x10^6 samples of MNIST they
        are within about a nat of each other (RESULTS.md).
      compute_dtype: the dtype of the matrix products, such as "bfloat16"; parameters and densities keep `param_dtype`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": ..., "decoder": ...}`. Equal arguments give the same model.

    Raises:
      ValueError: a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    hidden_dims = tuple(hidden_dim) if isinstance(hidden_dim, Sequence) else (hidden_dim,)
    if not isinstance(data_shape, Sequence):
        raise TypeError(
            f"data_shape must be a sequence of sizes, like the shape of an array, got {describe(data_shape)}"
        )
    _check_sizes("data_shape", data_shape)
    _check_sizes("latent_dim", [latent_dim])
    _check_sizes("hidden_dim", hidden_dims)
    check_choice("posterior", posterior, get_args(Posterior))
    check_choice("weight_init", weight_init, get_args(WeightInit))
    if squash_mean and likelihood not in ("gaussian", "squashed_gaussian"):
        raise ValueError(f'squash_mean is for likelihood="gaussian", not {likelihood!r}')
    if posterior == "flow" and latent_dim < 2:
        raise ValueError(f'posterior="flow" needs latent_dim of at least 2, got {latent_dim}')
    return _build(
        _Specification(
            tuple(data_shape),
            latent_dim,
            hidden_dims,
            LIKELIHOODS.get("squashed_gaussian" if squash_mean else likelihood),
            posterior,
            weight_init,
            None if compute_dtype is None else float_dtype("compute_dtype", compute_dtype),
            float_dtype("param_dtype", param_dtype),
        )
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    mlp = functools.partial(
        MLP, weight_init=spec.weight_init, compute_dtype=spec.compute_dtype, param_dtype=spec.param_dtype
    )
    data_dim = math.prod(spec.data_shape)
    encoder = mlp(spec.hidden_dims, _posterior_outputs(spec))
    decoder = mlp(spec.hidden_dims[::-1], data_dim * spec.likelihood.num_outputs)
    flow = InverseAutoregressiveFlow(spec.latent_dim, spec.param_dtype) if spec.posterior == "flow" else None

    def init(key: jax.Array) -> Params:
        encoder_key, decoder_key, flow_key = jax.random.split(key, 3)
        params = {
            "encoder": encoder.init(encoder_key, jnp.zeros(data_dim))["params"],
            "decoder": decoder.init(decoder_key, jnp.zeros(spec.latent_dim))["params"],
        }
        if flow is not None:
            params["encoder"] = {"base": params["encoder"], "flow": flow.init(flow_key)}
        return params

    def encode(params: Params, x: jax.Array) -> dist.Distribution:
        weights = params["encoder"] if flow is None else params["encoder"]["base"]
        outputs = jnp.asarray(encoder.apply({"params": weights}, jnp.reshape(x, (data_dim,))))
        mean, log_variance, *rest = jnp.split(outputs, [spec.latent_dim, 2 * spec.latent_dim])
        if spec.posterior == "full_covariance":
            factor = _cholesky_factor(log_variance, rest[0])
            return dist.MultivariateNormal(mean, scale_tril=factor)
        base = dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)
        return base if flow is None else flow.transform(params["encoder"]["flow"], base)

    def decode(params: Params, z: jax.Array) -> dist.Distribution:
        outputs = jnp.asarray(decoder.apply({"params": params["decoder"]}, z))
        outputs = outputs.reshape((spec.likelihood.num_outputs, *spec.data_shape))
        return spec.likelihood.of(outputs).to_event(len(spec.data_shape))

    def prior(params: Params) -> dist.Distribution:
        dtype = jax.tree.leaves(params["decoder"])[0].dtype
        return dist.Normal(jnp.zeros(spec.latent_dim, dtype), jnp.ones(spec.latent_dim, dtype)).to_event(1)

    return Model(init, encode, decode, prior)


def _posterior_outputs(spec: _Specification) -> int:
    below_diagonal = spec.latent_dim * (spec.latent_dim - 1) // 2
    return 2 * spec.latent_dim + (below_diagonal if spec.posterior == "full_covariance" else 0)


def _cholesky_factor(log_variance: jax.Array, below_diagonal: jax.Array) -> jax.Array:
    """Return a lower triangular `[J, J]` with diagonal exp(log_variance / 2), from `[J]` and `[J (J - 1) / 2]`."""
    size = log_variance.shape[0]
    rows, columns = jnp.tril_indices(size, -1)
    return jnp.diag(jnp.exp(0.5 * log_variance)).at[rows, columns].set(below_diagonal)


def _check_sizes(name: str, sizes: Sequence[int]) -> None:
    if not sizes:
        raise ValueError(f"{name} must not be empty")
    for size in sizes:
        check_counts(1, **{name: size})
