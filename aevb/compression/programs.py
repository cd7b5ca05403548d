"""Programs that return the distributions of any model as integers; `CompiledModel` compiles them."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb.compression import tables
from aevb.compression.coders import LOCATION, NUM_LEVELS
from aevb.compression.grids import POSITION
from aevb.compression.probabilities import X
from aevb.distributions.chain import Chain, family_name
from aevb.distributions.intensities import LARGEST, OverIntensities
from aevb.likelihoods.discretized_logistic import DiscretizedLogistic
from aevb.model import (
    Model,
    Params,
    check_latents,
    data_shape,
    latent_template,
    likelihood_of,
    posterior_of,
    prior_of,
)

ONE_LEVEL = "z"
"""The name of the level in a model with only one."""

_LARGEST_POSITION = 64 << POSITION
_LARGEST_LOCATION = 1 << 20
_LARGEST_LOGIT = 1 << 14
_SMALLEST_LOG_MASS = -(1 << 22)


class Numbers(NamedTuple):
    """The output of a program for one datapoint.

    Attributes:
      values: the integer parameters, int32. For a Gaussian, these are means and indices of scales, `[J]` each.
      is_finite: whether the distribution's floating-point parameters are finite.
      bits: a hash of the bits of the floating-point parameters.
    """

    values: tuple[jax.Array, ...]
    is_finite: jax.Array
    bits: jax.Array


class Family(NamedTuple):
    """A family of likelihoods that can be coded.

    Attributes:
      name: the name of its coder: `Bernoulli`, `DiscretizedLogistic` or `ByMass`.
      num_values: the number of possible values of x.
      num_outputs: the number of integer parameters per value of x.
    """

    name: str
    num_values: int
    num_outputs: int


BERNOULLI = Family("Bernoulli", 2, 1)
LOGISTIC = Family("DiscretizedLogistic", NUM_LEVELS, 2)
BY_MASS = Family("ByMass", NUM_LEVELS, NUM_LEVELS)


class Layout(NamedTuple):
    """The variables of a model.

    Attributes:
      shapes: the shapes of x and of each level, in the order of q, `((name, shape), ...)`.
      is_chain: whether the latents are a dict by level instead of one array.
      family: the family of the likelihood.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    is_chain: bool
    family: Family


def layout_of(model: Model, params: Params) -> Layout:
    """Return the variables of a model. Only shapes are evaluated.

    Raises:
      ValueError: the variables cannot be coded.
    """
    shape, template = data_shape(model, params), latent_template(model, params)
    is_chain = isinstance(template, dict)
    levels: dict[str, Any] = template if isinstance(template, dict) else {ONE_LEVEL: template}
    shapes: dict[str, Any] = {name: getattr(each, "shape", None) for name, each in levels.items()}
    if not _is_shape(shape) or not all(map(_is_shape, shapes.values())):
        raise ValueError("compression needs datapoints that are one array, and latents that are one array per level")
    found = []

    def look(params: Params) -> None:
        posterior = posterior_of(model, params, jnp.zeros(shape))
        z = posterior.sample(jax.random.key(0))
        check_latents(posterior, prior_of(model, params))
        levels = list(posterior.levels) if isinstance(posterior, Chain) else [ONE_LEVEL]
        family = family_of(likelihood_of(model, params, z))
        found.append(Layout(((X, shape), *((name, shapes[name]) for name in levels)), is_chain, family))

    jax.eval_shape(look, params)
    return found[0]


def numbers_of(params: Params, variables: dict[str, Any], model: Model, of: str, name: str, is_chain: bool) -> Numbers:
    """Return q of a level, or p of a level or of x, for one datapoint. Variables that it is not given are not used."""
    if of == "q":
        return gaussian(posterior_of(model, params, variables[X]), name, variables)
    if name != X:
        return gaussian(prior_of(model, params), name, variables)
    z = {level: value for level, value in variables.items() if level != X}
    return likelihood(likelihood_of(model, params, z if is_chain else z[ONE_LEVEL]))


@functools.partial(jax.jit, static_argnames=("model", "of", "name", "is_chain"))
def numbers_of_batch(
    params: Params, variables: dict[str, Any], model: Model, of: str, name: str, is_chain: bool
) -> Numbers:
    """Return `numbers_of` for a batch of datapoints."""
    return jax.vmap(lambda one: numbers_of(params, one, model, of, name, is_chain))(variables)


def gaussian(distribution: Any, level: str, z: dict[str, Any]) -> Numbers:
    """Return the Gaussian of a level, given the levels before it.

    Raises:
      ValueError: the distribution is not a diagonal Gaussian.
    """
    if isinstance(distribution, Chain):
        distribution = distribution.at(z)[level]
    base: Any = _base(distribution)
    if type(base) is not dist.Normal:
        raise ValueError(
            f"compression needs latents that are diagonal Gaussians in q and in p, but {level} is "
            f"{family_name(distribution)}"
        )
    shape: Any = distribution.event_shape
    parameters: tuple[Any, Any] = (base.loc, base.scale)
    loc, scale = (jnp.ravel(jnp.broadcast_to(each, shape)) for each in parameters)
    mean = _rounded(loc * 2.0**POSITION, -_LARGEST_POSITION, _LARGEST_POSITION)
    index = _scale_index(jnp.log2(scale), 4)
    return Numbers((mean, index), jnp.all(jnp.isfinite(loc) & (scale > 0) & jnp.isfinite(scale)), _bits(loc, scale))


def family_of(distribution: Any) -> Family:
    """Return the family of a likelihood.

    Raises:
      ValueError: the likelihood has no probability mass that can be coded.
    """
    base = _base(distribution)
    if isinstance(base, dist.BernoulliLogits | dist.BernoulliProbs):
        return BERNOULLI
    if type(base) is DiscretizedLogistic:
        return LOGISTIC
    if isinstance(base, OverIntensities):
        return BY_MASS
    raise ValueError(
        f"the model's likelihood, {family_name(distribution)}, is not a probability mass that can be coded: "
        f"compression supports bernoulli on binarized images, discretized_logistic, spiked_logistic, beta_binomial and "
        f"categorical"
    )


def likelihood(distribution: Any) -> Numbers:
    """Return the distribution of x: parameters `[D]` each, or base-2 log-masses `[D, 256]`."""
    family, base = family_of(distribution), _base(distribution)
    shape: Any = distribution.event_shape
    if family is BERNOULLI:
        own_logits: Any = base.logits
        logits = jnp.ravel(jnp.broadcast_to(own_logits, shape))
        # A probability of 0 or 1 has an infinite logit, which rounding clips to a floor.
        is_finite = jnp.all(~jnp.isnan(logits))
        return Numbers((_rounded(logits * 256, -_LARGEST_LOGIT, _LARGEST_LOGIT),), is_finite, _bits(logits))
    if family is LOGISTIC:
        loc, log_scale = (jnp.ravel(jnp.broadcast_to(each, shape)) for each in (base.loc, base.log_scale))
        location = _rounded(loc * (LARGEST << LOCATION), -_LARGEST_LOCATION, _LARGEST_LOCATION)
        index = _scale_index(log_scale / math.log(2) + math.log2(LARGEST), 10)
        is_finite = jnp.all(jnp.isfinite(loc) & jnp.isfinite(log_scale))
        return Numbers((location, index), is_finite, _bits(loc, log_scale))
    intensities = jnp.arange(NUM_LEVELS, dtype=jnp.result_type(float)) / LARGEST
    of_all = jax.vmap(lambda value: base.log_prob(jnp.broadcast_to(value, base.batch_shape)))(intensities)
    masses = jnp.broadcast_to(of_all, (NUM_LEVELS, *shape)).reshape(NUM_LEVELS, -1).T
    logs = _rounded(masses * (2.0**tables.LOG_UNIT / math.log(2)), _SMALLEST_LOG_MASS, 0)
    return Numbers((logs,), jnp.all(~jnp.isnan(masses)), _bits(masses))


def _base(distribution: Any) -> Any:
    while isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        distribution = distribution.base_dist
    return distribution


def _rounded(values: jax.Array, low: int, high: int) -> jax.Array:
    return jnp.round(jnp.clip(jnp.nan_to_num(values), low, high)).astype(jnp.int32)


def _scale_index(log2_scale: jax.Array, largest: int) -> jax.Array:
    """Return the index i of the scale 2^(largest - i / 16)."""
    return _rounded(tables.SCALES_PER_OCTAVE * (largest - log2_scale), 0, tables.NUM_SCALES - 1)


def _bits(*parameters: jax.Array) -> jax.Array:
    found = jnp.uint32(0)
    for each in parameters:
        wide = each if each.dtype.itemsize >= 4 else each.astype(jnp.float32)
        words = jnp.ravel(jax.lax.bitcast_convert_type(wide, jnp.uint32))
        weights = 2 * jnp.arange(words.size, dtype=jnp.uint32) + 1
        found = found * jnp.uint32(31) + jnp.sum(words * weights, dtype=jnp.uint32)
    return found


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
