"""Models of observed data: values that are NaN were not seen, and the others may have been seen through noise."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, Independent

from aevb.arguments import check_key, describe
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.distributions import Chain, Observed
from aevb.distributions.chain import family_name
from aevb.distributions.levels import ONE_LEVEL
from aevb.distributions.observed import filled
from aevb.model import (
    Datapoint,
    Given,
    Model,
    Params,
    bind,
    check_latents,
    check_model,
    likelihood_of,
    posterior_of,
    prior_of,
)
from aevb.posterior.channels import Channel
from aevb.support import check_data

_NUM_MEAN_DRAWS = 64  # draws of the prior, for the mean that replaces NaN for encoders that cannot handle it


@functools.lru_cache(maxsize=64)
def as_seen(model: Model, noise: Channel | None = None) -> Model:
    """Return the model of the observed data y, with the same parameters, z and prior, and the likelihood p(y|z).

    Under p(y|z), NaN means not observed, as under `aevb.Observed`. The returned model can be passed to every function
    that takes a model; bounds and estimates of log p(x) are then those of log p(y).

    The encoder is that of `model`. If the likelihood of `model` is `Observed`, the encoder receives NaN as in training.
    Otherwise NaN is replaced by the mean of data drawn from the model, and q is only a starting point. Noisy values are
    passed to the encoder unchanged.

    Args:
      model: the four functions. The likelihood must be factorised, for several modalities each of them.
      noise: the channel through which all values were seen, if any.

    Raises:
      TypeError: p(y|z) is not known for the likelihood. This is raised by `decode`.
    """

    def at(condition: tuple) -> Model:
        return bind(model, Given(None, condition[0]) if condition else None)[0]

    def encode(params: Params, y: Datapoint, *condition: Any) -> Distribution:
        return posterior_of(at(condition), params, _completed(at(condition), params, y))

    def decode(params: Params, z: Any, *condition: Any) -> Distribution:
        return _by_level(lambda level: _seen(level, noise), likelihood_of(at(condition), params, z))

    return Model(model.init, encode, decode, model.prior)


def checked(params: Params, key: jax.Array, xs: Datapoint, model: Model, noise: Channel | None) -> Datapoint:
    """Check observed datapoints against the model and return them on the device.

    Raises:
      ValueError: the datapoints are empty, have another shape or lie outside the support of p(y|z), or a modality
        depends on another that is partly missing.
      TypeError: `noise` is not a channel or not known for the likelihood, or as for `aevb.elbo`.
    """
    check_model(model)
    check_key(key)
    if noise is not None and not isinstance(noise, Channel):
        raise TypeError(f"noise must be posterior.flips(p), posterior.gaussian(sd) or None, got {describe(noise)}")
    if num_rows(xs, "xs") == 0:
        raise ValueError("xs are empty: nothing was seen")
    xs = jax.tree.map(jnp.asarray, as_arrays(xs))
    row = rows(xs, 0)
    bind(model, row)  # the original model, whose signature shows whether it takes a condition
    check_data(params, xs, as_seen(model, noise), "xs")
    if dependent := _dependent_level(params, row, model):
        has_gaps = any(bool(jnp.any(jnp.isnan(leaf))) for leaf in jax.tree.leaves(value_of(xs)))
        if noise is not None or has_gaps:
            what = "seen through noise" if noise is not None else "missing in part"
            raise ValueError(f"level {dependent!r} of p(x|z) depends on the values before it, which are {what}")

    def check(row: Datapoint) -> None:
        bound, value = bind(as_seen(model, noise), row)
        check_latents(posterior_of(bound, params, value), prior_of(bound, params))

    jax.eval_shape(check, row)
    return xs


def value_of(xs: Datapoint) -> Any:
    """Return the modelled part of datapoints."""
    return xs.value if isinstance(xs, Given) else xs


def with_value(xs: Datapoint, value: Any) -> Datapoint:
    """Return datapoints with another value and the same condition, if any."""
    return xs._replace(value=value) if isinstance(xs, Given) else value


def by_value(likelihood: Distribution) -> dict[str, Distribution]:
    """Return p(x|z) elementwise, by level: without event axes if the values are independent.

    Levels of a `Chain` that depend on others are left out.
    """
    if isinstance(likelihood, Chain):
        return {name: _factors(level) for name, level in likelihood.levels.items() if isinstance(level, Distribution)}
    return {ONE_LEVEL: _factors(likelihood)}


def _by_level(function: Callable[[Distribution], Distribution], likelihood: Distribution) -> Distribution:
    """Return the likelihood with `function` applied to each of its modalities."""

    def applied(level: Any) -> Any:
        return function(level) if isinstance(level, Distribution) else lambda before: function(level(before))

    if isinstance(likelihood, Chain):
        return Chain(**{name: applied(level) for name, level in likelihood.levels.items()})
    return function(likelihood)


def _seen(likelihood: Distribution, noise: Channel | None) -> Distribution:
    """Return p(y|z) of one modality. NaN contributes nothing under it if its values are independent."""
    factors = _factors(likelihood)
    if noise is not None:
        if factors.event_shape:
            raise TypeError(f"noise needs a likelihood of independent values, got {family_name(likelihood)}")
        return Observed(noise.seen(factors))
    return likelihood if factors.event_shape or isinstance(likelihood, Observed) else Observed(factors)


def _factors(likelihood: Distribution) -> Distribution:
    if isinstance(likelihood, Observed):
        return likelihood.base
    while isinstance(likelihood, Independent):
        likelihood = likelihood.base_dist
    return likelihood


def _completed(bound: Model, params: Params, y: Any) -> Any:
    """Return one datapoint in a form that the encoder can handle: NaN stays only if the likelihood is `Observed`."""
    prior = prior_of(bound, params)
    draws = prior.sample(jax.random.key(0), (_NUM_MEAN_DRAWS,))
    likelihood = likelihood_of(bound, params, jax.tree.map(lambda leaf: leaf[0], draws))
    means = jax.vmap(lambda z: _means(likelihood_of(bound, params, z)))(draws)

    def complete(level: Distribution, value: Any, means: jax.Array) -> jax.Array:
        if isinstance(level, Observed):
            return value
        mean = jnp.mean(means, axis=0)
        fill = jnp.where(jnp.isnan(mean), filled(value, _factors(level).support), mean)  # a class has no mean
        return jnp.where(jnp.isnan(value), fill, value).astype(value.dtype)

    if isinstance(likelihood, Chain):
        levels = likelihood.at(y)
        return {name: complete(levels[name], value, means[name]) for name, value in y.items()}
    return complete(likelihood, y, means)


def _means(likelihood: Distribution) -> Any:
    return likelihood.means() if isinstance(likelihood, Chain) else likelihood.mean


def _dependent_level(params: Params, row: Datapoint, model: Model) -> str | None:
    """Return the name of a modality that depends on others, or `None`."""
    found = []

    def look(params: Params, row: Datapoint) -> None:
        bound = bind(model, row)[0]
        likelihood = likelihood_of(bound, params, prior_of(bound, params).sample(jax.random.key(0)))
        levels = likelihood.levels if isinstance(likelihood, Chain) else {}
        found.extend(name for name, level in levels.items() if not isinstance(level, Distribution))

    jax.eval_shape(look, params, row)
    return next(iter(found), None)
