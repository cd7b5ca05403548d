"""The parameters of a hidden Markov model, and checks of arguments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import Distribution

from aevb.arguments import describe
from aevb.data.sequences import lengths_of
from aevb.hidden_markov.emissions import Emission, EmissionParams, check_emission, is_factorised, is_supported

_TOLERANCE = 1e-3  # for the sum of probabilities in single precision


class Parameters(NamedTuple):
    """The parameters of a model with K states. For R restarts, every leaf has R on its leading axis.

    Attributes:
      log_initial: log p(s_1 = k), `[K]`.
      log_transition: log p(s_t = j | s_{t-1} = i), `[K, K]`, one row per i; -inf for impossible transitions.
      emission: the parameters of p(x_t | s_t), as defined by the `Emission`.
    """

    log_initial: jax.Array
    log_transition: jax.Array
    emission: EmissionParams


def checked(params: Any, x: Any, emission: Any, lengths: Any) -> tuple[jax.Array, jax.Array]:
    """Check parameters and sequences, and return the sequences and their lengths, `[N]`."""
    check_params(params, emission)
    check_sequences(x, emission, params.emission)
    x = jnp.asarray(x)
    return x, lengths_for(x, lengths)


def check_params(params: Any, emission: Any) -> None:
    """Check the shapes of `params` for one model, and the values that are not traced.

    Raises:
      TypeError: `params` is not `Parameters`, or `emission` is not an `Emission`.
      ValueError: the shapes do not match, or values are not log-probabilities.
    """
    check_emission(emission)
    if not isinstance(params, Parameters):
        raise TypeError(f"params must be aevb.hidden_markov.Parameters, got {describe(params)}")
    initial, transition = jnp.shape(params.log_initial), jnp.shape(params.log_transition)
    if len(initial) != 1 or transition != initial * 2:
        hint = "; for restarts, use jax.vmap or select one" if len(initial) == 2 and len(transition) == 3 else ""
        raise ValueError(
            f"log_initial and log_transition must have shapes [K] and [K, K], got {initial} and {transition}{hint}"
        )
    for name, values in (("log_initial", params.log_initial), ("log_transition", params.log_transition)):
        if isinstance(values, Tracer):
            continue
        sums = np.exp(np.asarray(values, np.float64)).sum(-1)
        worst = np.ravel(sums)[np.argmax(np.abs(sums - 1))]
        if not abs(worst - 1) < _TOLERANCE:
            raise ValueError(f"{name} must be logarithms of probabilities that sum to 1, got a sum of {worst:.4g}")
    batch_shape = _traced_distribution(emission, params.emission).batch_shape
    if batch_shape != initial:
        raise ValueError(
            f"the emission's distribution must have the batch shape {initial}, one entry per state, and end with "
            f".to_event(1), but its batch shape is {batch_shape}"
        )


def check_sequences(x: Any, emission: Emission, emission_params: EmissionParams, name: str = "x") -> None:
    """Raise unless `x` contains sequences that the states can emit.

    Raises:
      TypeError: `x` is not an array of floating point numbers.
      ValueError: `x` is not `[N, T, D]`, or has values that no state can emit.
    """
    check_array(x, name)
    distribution = _traced_distribution(emission, emission_params)
    if distribution.event_shape != x.shape[2:]:
        raise ValueError(
            f"{name} has {x.shape[2]} values per step, but the emission's distribution has the event shape "
            f"{distribution.event_shape}"
        )
    if isinstance(x, Tracer) or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(emission_params)):
        return
    if not is_factorised(distribution):
        missing = np.isnan(np.asarray(x))
        if np.any(missing.any(-1) & ~missing.all(-1)):
            raise ValueError(
                f"{name} has partly missing steps, but under the emission the values of a step are dependent"
            )
    steps = jnp.asarray(x).reshape(-1, x.shape[2])
    fine = np.asarray(is_supported(emission, emission_params, steps))
    if not fine.all():
        value = np.asarray(steps)[np.unravel_index(np.argmin(fine), fine.shape)]
        raise ValueError(f"{name} has values that no state can emit, such as {value}")


def lengths_for(x: Any, lengths: Any) -> Any:
    """Return the lengths `[N]` of sequences, from `lengths` if given, else from the observed values.

    Raises:
      TypeError: the lengths are not integers.
      ValueError: the lengths have another shape, are out of range, or end before the last observed step.
    """
    observed = lengths_of(x)
    if lengths is None:
        return observed
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got {describe(lengths)}")
    if lengths.shape != x.shape[:1]:
        raise ValueError(f"lengths must have the shape {x.shape[:1]}, one per sequence, got {lengths.shape}")
    if not isinstance(x, Tracer) and not isinstance(lengths, Tracer):
        wrong = np.flatnonzero((np.asarray(lengths) < np.asarray(observed)) | (np.asarray(lengths) > x.shape[1]))
        if wrong.size:
            raise ValueError(
                f"lengths must be from the last observed step to {x.shape[1]}, but sequence {wrong[0]} has length "
                f"{lengths[wrong[0]]} and was observed up to step {observed[wrong[0]]}"
            )
    return lengths


def _traced_distribution(emission: Emission, params: EmissionParams) -> Distribution:
    """Return the emission's distribution, traced without computing it, for its shapes."""
    found: list[Distribution] = []
    jax.eval_shape(lambda params: found.append(emission.distribution(params)), params)
    if not isinstance(found[0], Distribution):
        raise TypeError(f"distribution of an Emission must return a numpyro distribution, got {describe(found[0])}")
    return found[0]


def check_array(x: Any, name: str) -> None:
    """Raise unless `x` is a non-empty floating point array `[N, T, D]` without infinities."""
    if not isinstance(x, np.ndarray | jax.Array) or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be an array of floating point numbers [N, T, D], with NaN after the end of each sequence and "
            f"for values not observed, got {describe(x)}"
        )
    if x.ndim != 3 or not x.size:
        hint = "; pass a single sequence as x[None]" if x.ndim == 2 else ""
        raise ValueError(f"{name} must have the shape [N, T, D], got {x.shape}{hint}")
    if not isinstance(x, Tracer) and np.isinf(np.asarray(x)).any():
        raise ValueError(f"{name} has infinite values")
