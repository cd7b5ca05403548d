"""Adjustment of sequences and models of sequences to the same number of steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import check_counts, describe
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.distributions import Markov, Observed
from aevb.distributions.chain import family_name
from aevb.model import Datapoint, Given, Model, Params, bind, check_model, check_params, likelihood_of, prior_of
from aevb.models.families import of_length, recipe_of
from aevb.support import check_data


def cut(values: Any, steps: Any, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut sequences into beginnings, as the input of a forecast, and the following steps, to compare it with.

    Args:
      values: sequences `[N, T, D]`, NaN after the end of each.
      steps: the length of the beginnings, an integer or `[N]`, each from 0 to T.
      horizon: H.

    Returns:
      The beginnings `[N, T, D]`, NaN from `steps` on, and the next H steps `[N, H, D]`, NaN after the end of each.

    Raises:
      ValueError: `steps` are out of range, or the shapes do not match.
      TypeError: a count is not an integer.
    """
    check_counts(1, horizon=horizon)
    values, steps = np.asarray(values), np.asarray(steps)
    if values.ndim != 3 or steps.shape not in ((), values.shape[:1]):
        raise ValueError(f"values must be [N, T, D] and steps [] or [N], got shapes {values.shape} and {steps.shape}")
    if steps.dtype.kind not in "iu":
        raise TypeError(f"steps must be integers, got {describe(steps)}")
    if np.any((steps < 0) | (steps > values.shape[1])):
        raise ValueError(f"steps must be from 0 to the {values.shape[1]} of values, got {steps.min()} to {steps.max()}")
    values = values if values.dtype.kind == "f" else values.astype(np.float32)
    steps = np.broadcast_to(steps, values.shape[:1])
    past = np.where((np.arange(values.shape[1]) < steps[:, None])[..., None], values, np.nan)
    longer = np.pad(values, ((0, 0), (0, horizon), (0, 0)), constant_values=np.nan)
    return past, np.take_along_axis(longer, (steps[:, None] + np.arange(horizon))[..., None], axis=1)


def prepared(params: Params, xs: Datapoint, model: Model, num_more: int = 0) -> tuple[Datapoint, Model]:
    """Return checked sequences and a model with the same number of steps, at least T + `num_more`.

    A model that was built by name is rebuilt for exactly T + `num_more` steps. Any other model must have at least as
    many, and the sequences are padded to its number of steps.

    Raises:
      ValueError: `xs` is not `[N, T, D]`, `check_data` fails, or the model has too few steps.
      TypeError: the prior is not a `Markov`, the likelihood is not `Observed`, or as for `aevb.elbo`.
    """
    check_model(model)
    check_params(model, params)
    num_rows(xs, "xs")
    xs = jax.tree.map(jnp.asarray, as_arrays(xs))
    values = value_of(xs)
    if getattr(values, "ndim", None) != 3 or 0 in values.shape:
        hint = "; pass a single sequence as xs[None]" if getattr(values, "ndim", 0) == 2 else ""
        raise ValueError(f"xs must be sequences [N, T, D], with N and T at least 1, got {describe(values)}{hint}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.float32)  # floats can be NaN after an end
    needed = values.shape[1] + num_more
    if model.recipe is not None and len(recipe_of(model)[1].get("data_shape") or ()) == 2:
        model = of_length(model, needed)
    length = _num_steps(params, rows(xs, 0), model)
    if length < needed:
        raise ValueError(
            f"the model has {length} steps, but {needed} are needed: build it for {needed} steps with the same "
            f"parameters, or build it by name, so that aevb.sequences can do so"
        )
    values = jnp.pad(values, ((0, 0), (0, length - values.shape[1]), (0, 0)), constant_values=jnp.nan)
    xs = with_value(xs, values)
    check_data(params, xs, model, "xs")
    return xs, model


def value_of(xs: Datapoint) -> Any:
    """Return the part of datapoints that is modelled."""
    return xs.value if isinstance(xs, Given) else xs


def with_value(xs: Datapoint, values: Any) -> Datapoint:
    """Return datapoints with another value, and the same condition if there is one."""
    return xs._replace(value=values) if isinstance(xs, Given) else values


def _num_steps(params: Params, x: Datapoint, model: Model) -> int:
    """Return T of the model's paths."""
    found = []

    def look(params: Params, x: Datapoint) -> None:
        bound = bind(model, x)[0]
        prior = prior_of(bound, params)
        found.append((prior, likelihood_of(bound, params, prior.sample(jax.random.key(0)))))

    jax.eval_shape(look, params, x)
    prior, likelihood = found[0]
    if not isinstance(prior, Markov):
        raise TypeError(f"the prior of a model of sequences must be an aevb.Markov, got {family_name(prior)}")
    if not isinstance(likelihood, Observed):
        raise TypeError(
            f"the likelihood of a model of sequences must be an aevb.Observed, so that NaN marks values not observed, "
            f"got {family_name(likelihood)}"
        )
    if likelihood.event_shape[:1] != prior.event_shape[:1]:
        raise ValueError(
            f"z has {prior.event_shape[0]} steps, but x, which must have as many on its leading axis, has shape "
            f"{likelihood.event_shape}"
        )
    return prior.event_shape[0]
