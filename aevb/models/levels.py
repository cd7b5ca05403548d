"""Models with levels of latents z1, ..., zL, the lowest first, for any networks.

prior        p(zL) = N(0, I),   p(z_l | z_{l+1}) a diagonal Gaussian from a network,   p(x | z1)
bottom_up    q(z1 | x),   q(z_{l+1} | z_l)                                              (Burda et al. 2016)
ladder       d_1 = f(x),   d_{l+1} = f(d_l),   q(zL | x) from d_L,   and below it       (Sonderby et al. 2016)
q(z_l | z_{l+1}, x) proportional to p(z_l | z_{l+1}) N(z_l; mean and variance from d_l)
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.tree_util import Partial

from aevb.arguments import check_counts, describe
from aevb.distributions import Chain
from aevb.distributions.gaussian import diagonal_gaussian
from aevb.likelihoods import Likelihood
from aevb.model import Model, Params

Inference: TypeAlias = Literal["bottom_up", "ladder"]


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of L levels, the lowest first.

    Attributes:
      features: L networks. The input of the first is x; the inputs of the others are the level below, or in a ladder
        the features below. A tanh is applied to their outputs.
      posteriors: L networks, from features to a mean and a log-variance, `[2 J_l]`.
      priors: L - 1 networks, from z_{l+1} to the mean and log-variance of p(z_l | z_{l+1}), `[2 J_l]`.
      likelihood: a network from z1 to the outputs of the likelihood.
      x_shape: the shape of x as the input of the first network.
      arranged: a function that brings the outputs of `likelihood` into the shape `[num_outputs, *data_shape]`.
    """

    features: tuple[nn.Module, ...]
    posteriors: tuple[nn.Module, ...]
    priors: tuple[nn.Module, ...]
    likelihood: nn.Module
    x_shape: tuple[int, ...]
    arranged: Callable[[jax.Array], jax.Array]


def model_of_levels(
    networks: Networks,
    latent_dims: Sequence[int],
    inference: Inference,
    likelihood: Likelihood,
    num_axes: int,
    param_dtype: str,
) -> Model:
    """Return a model with levels of latents.

    Args:
      networks: the networks of the levels.
      latent_dims: J_l of each level, the lowest first.
      inference: how q draws the levels; see `hierarchical_vae`.
      likelihood: the likelihood of x.
      num_axes: the number of axes of x.
      param_dtype: the dtype of the parameters.

    Returns:
      A `Model` whose params are `{"encoder": {"z1": ..., ...}, "decoder": {"likelihood": ..., "z1": ..., ...}}`, with
      the networks of q and of p for each level. In a ladder, q also uses those of p.
    """
    names = _names(latent_dims)
    above = dict(itertools.pairwise(names))
    below = {name: lower for lower, name in above.items()}
    features = dict(zip(names, networks.features, strict=True))
    posteriors = dict(zip(names, networks.posteriors, strict=True))
    priors = dict(zip(names, networks.priors, strict=False))

    def init(key: jax.Array) -> Params:
        return _initial(key, networks, latent_dims, inference)

    def features_of(name: str, weights: Params, seen: jax.Array) -> jax.Array:
        return jnp.tanh(_applied(features[name], weights["features"], seen))

    def posterior_of(name: str, weights: Params, found: jax.Array) -> jax.Array:
        return _applied(posteriors[name], weights["posterior"], found)

    # Levels are `Partial`s of functions defined once, so that a Chain passes through `jax.jit` and `jax.vmap`.

    def given_above(name: str) -> Callable[..., dist.Distribution]:
        return lambda weights, z: diagonal_gaussian(_applied(priors[name], weights, z[above[name]]))

    def given_below(name: str) -> Callable[..., dist.Distribution]:
        def level(weights: Params, z: dict[str, jax.Array]) -> dist.Distribution:
            return diagonal_gaussian(posterior_of(name, weights, features_of(name, weights, z[below[name]])))

        return level

    def combined(name: str) -> Callable[..., dist.Distribution]:
        def level(of_x: jax.Array, weights: Params, z: dict[str, jax.Array]) -> dist.Distribution:
            return product_of_gaussians(of_x, _applied(priors[name], weights, z[above[name]]))

        return level

    downwards = {name: given_above(name) for name in names[:-1]}
    upwards = {name: given_below(name) for name in names[1:]}
    ladder = {name: combined(name) for name in names[:-1]}

    def encode(params: Params, x: jax.Array) -> Chain:
        phi, theta = params["encoder"], params["decoder"]
        found = features_of(names[0], phi[names[0]], jnp.reshape(x, networks.x_shape))
        outputs = {names[0]: posterior_of(names[0], phi[names[0]], found)}
        if inference == "bottom_up":
            levels = {name: Partial(upwards[name], phi[name]) for name in upwards}
            return Chain(**{names[0]: diagonal_gaussian(outputs[names[0]])}, **levels)
        for name in names[1:]:
            found = features_of(name, phi[name], found)
            outputs[name] = posterior_of(name, phi[name], found)
        levels = {name: Partial(ladder[name], outputs[name], theta[name]) for name in reversed(ladder)}
        return Chain(**{names[-1]: diagonal_gaussian(outputs[names[-1]])}, **levels)

    def decode(params: Params, z: dict[str, jax.Array]) -> dist.Distribution:
        outputs = _applied(networks.likelihood, params["decoder"]["likelihood"], z[names[0]])
        return likelihood.of(networks.arranged(outputs)).to_event(num_axes)

    def prior(params: Params) -> Chain:
        theta, size, dtype = params["decoder"], latent_dims[-1], jnp.dtype(param_dtype)
        highest = dist.Normal(jnp.zeros(size, dtype), jnp.ones(size, dtype)).to_event(1)
        levels = {name: Partial(downwards[name], theta[name]) for name in reversed(downwards)}
        return Chain(**{names[-1]: highest}, **levels)

    return Model(init, encode, decode, prior)


def _names(latent_dims: Sequence[int]) -> list[str]:
    """Return the names z1, ..., zL."""
    return [f"z{number}" for number in range(1, len(latent_dims) + 1)]


def _initial(key: jax.Array, networks: Networks, latent_dims: Sequence[int], inference: Inference) -> Params:
    """Return the initial parameters; see `model_of_levels` for their structure."""
    phi_key, theta_key = jax.random.split(key)
    names = _names(latent_dims)
    phi: dict[str, Any] = {}
    seen = jnp.zeros(networks.x_shape)
    parts = zip(networks.features, networks.posteriors, latent_dims, jax.random.split(phi_key, len(names)), strict=True)
    for name, (features, posterior, size, own_key) in zip(names, parts, strict=True):
        keys = jax.random.split(own_key)
        found, of_features = features.init_with_output(keys[0], seen)
        phi[name] = {"features": of_features["params"], "posterior": posterior.init(keys[1], found)["params"]}
        seen = found if inference == "ladder" else jnp.zeros(size)
    keys = jax.random.split(theta_key, len(names))
    theta = {"likelihood": networks.likelihood.init(keys[0], jnp.zeros(latent_dims[0]))["params"]}
    for name, prior, size_above, own_key in zip(names, networks.priors, latent_dims[1:], keys[1:], strict=False):
        theta[name] = prior.init(own_key, jnp.zeros(size_above))["params"]
    return {"encoder": phi, "decoder": theta}


def product_of_gaussians(one: jax.Array, other: jax.Array) -> dist.Distribution:
    """Return the normalized product of two diagonal Gaussians. Its precision is the sum of theirs.

    The computation uses log-variances: the product is finite in single precision for any two of magnitude up to 80.

    Args:
      one: the mean and log-variance of the first Gaussian, `[2 J]`.
      other: the mean and log-variance of the second Gaussian, `[2 J]`.
    """
    (mean, log_variance), (other_mean, other_log_variance) = jnp.split(one, 2), jnp.split(other, 2)
    weight = jax.nn.sigmoid(other_log_variance - log_variance)  # precision / (precision + other precision)
    log_precision = jnp.logaddexp(-log_variance, -other_log_variance)
    return dist.Normal(other_mean + weight * (mean - other_mean), jnp.exp(-0.5 * log_precision)).to_event(1)


def sizes_of_levels(latent_dim: Any, hidden_dim: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the checked sizes of the levels and numbers of units of each level's networks.

    Raises:
      ValueError: there are fewer than two levels, a size is not positive, or the numbers of hidden sizes and of levels
        differ.
      TypeError: a size is not an integer.
    """
    sizes = tuple(latent_dim) if isinstance(latent_dim, Sequence) and not isinstance(latent_dim, str) else (latent_dim,)
    check_counts(1, **{f"latent_dim[{level}]": size for level, size in enumerate(sizes)})
    if len(sizes) < 2:
        shown = list(sizes) if isinstance(latent_dim, Sequence) else describe(latent_dim)
        raise ValueError(
            f"latent_dim must be the sizes of two or more levels, the lowest first, such as [100, 50], got {shown}: "
            f"use another family for a single level"
        )
    hidden = tuple(hidden_dim) if isinstance(hidden_dim, Sequence) else (hidden_dim,)
    check_counts(1, **{f"hidden_dim[{level}]": size for level, size in enumerate(hidden)})
    if len(hidden) not in (1, len(sizes)):
        raise ValueError(
            f"hidden_dim must be one number, or one per level for {len(sizes)} levels, the lowest first, got "
            f"{list(hidden)}"
        )
    return sizes, hidden if len(hidden) == len(sizes) else hidden * len(sizes)


def _applied(network: nn.Module, weights: Params, inputs: jax.Array) -> jax.Array:
    return jnp.asarray(network.apply({"params": weights}, inputs))
