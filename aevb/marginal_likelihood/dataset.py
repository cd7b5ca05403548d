"""Estimates of log p(x) over a data set."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np

from aevb.arguments import check_choice, check_counts, check_key, describe, is_integer
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.marginal_likelihood.annealed import annealed_importance_sampling
from aevb.marginal_likelihood.estimate import Estimate, Sandwich
from aevb.marginal_likelihood.importance import importance_sampling
from aevb.marginal_likelihood.mixture import mixture_importance_sampling
from aevb.marginal_likelihood.particle import particle_filter
from aevb.marginal_likelihood.reciprocal import hmc_estimator
from aevb.model import Model, Params, check_model
from aevb.particles import check_by_step
from aevb.precision import at_highest_precision
from aevb.support import check_data

Method: TypeAlias = Literal["is", "hmc", "mixture", "ais", "particle"]

_ESTIMATORS: dict[str, Callable[..., Any]] = {
    "is": importance_sampling,
    "hmc": hmc_estimator,
    "mixture": mixture_importance_sampling,
    "ais": annealed_importance_sampling,
    "particle": particle_filter,
}


class DatasetEstimate(NamedTuple):
    """An estimate of log p(x) over a data set.

    Attributes:
      per_datapoint: an `Estimate` of NumPy arrays `[N]`.
      mean: the mean of log p(x), nats per datapoint.
      standard_error: the standard error of `mean` over datapoints drawn at random, nats; NaN for one datapoint.
      monte_carlo_error: the part of `standard_error` due to the estimator, nats, which more samples would reduce; NaN
        if the estimator does not know it.
    """

    per_datapoint: Estimate
    mean: float
    standard_error: float
    monte_carlo_error: float


@overload
def evaluate(
    params: Params,
    key: jax.Array,
    data: Any,
    model: Model,
    method: Literal["is", "hmc", "mixture", "particle"],
    chunk_size: int | None = ...,
    on_chunk: Callable[[int], None] | None = ...,
    **options: Any,
) -> DatasetEstimate: ...


@overload
def evaluate(
    params: Params,
    key: jax.Array,
    data: Any,
    model: Model,
    method: Literal["ais"],
    chunk_size: int | None = ...,
    on_chunk: Callable[[int], None] | None = ...,
    **options: Any,
) -> Sandwich[DatasetEstimate]: ...


def evaluate(
    params: Params,
    key: jax.Array,
    data: Any,
    model: Model,
    method: Method,
    chunk_size: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
    **options: Any,
) -> DatasetEstimate | Sandwich[DatasetEstimate]:
    """Estimate log p(x) of every datapoint, `chunk_size` datapoints at a time.

    The noise of a datapoint depends only on `key` and its position, so `chunk_size`, which limits memory, changes the
    result only by rounding. In a particle filter, rounding may change which particles are resampled.

    Args:
      params: parameters of `model`.
      key: a typed key, consumed.
      data: the targets of the likelihood, a pytree of arrays `[N, ...]`, after any binarization.
      model: the four functions.
      method: "is" for `importance_sampling`, "hmc" for `hmc_estimator`, "mixture" for `mixture_importance_sampling`,
        "ais" for `annealed_importance_sampling`, or, for sequences, "particle" for `particle_filter`.
      chunk_size: the number of datapoints per call of the compiled program. `None` is 100, except for importance
        sampling on a CPU, for which it is 10 so that the working set fits in its caches.
      on_chunk: called after every chunk with the number of datapoints done.
      **options: options of the estimator, which documents them.

    Returns:
      The values of all datapoints and their mean, averaged in float64. A NaN value makes the mean NaN. For "ais", a
      `Sandwich` of two such estimates.

    Raises:
      ValueError: `data` are empty or outside the likelihood's support, the method is unknown, or as for the estimator.
      TypeError: the estimator has no such option, or as for the estimator.
    """
    check_choice("method", method, tuple(_ESTIMATORS))
    check_model(model)
    check_key(key)
    size = num_rows(data)
    if size == 0:
        raise ValueError("there is nothing to evaluate: the data are empty")
    if chunk_size is None:
        chunk_size = 10 if method == "is" and jax.default_backend() == "cpu" else 100
    check_counts(1, chunk_size=chunk_size)
    chunk_size = min(int(chunk_size), size)
    options = {name: int(value) if is_integer(value) else value for name, value in options.items()}
    data = jax.tree.map(jnp.asarray, as_arrays(data))
    check_data(params, data, model)
    for name, value in options.items():
        if isinstance(value, jax.Array | np.ndarray):
            raise TypeError(f"{name} must be a Python number, got {describe(value)}")
    if method == "particle":
        check_by_step(params, rows(data, 0), model)
    program, chunks = program_for(jax.default_backend()), []
    for first in range(0, size, chunk_size):
        # The last chunk is filled up with the first datapoints, whose values are dropped.
        positions = np.arange(first, first + chunk_size) % size
        chunks.append(
            jax.device_get(program(params, key, data, positions, model, method, tuple(sorted(options.items()))))
        )
        if on_chunk is not None:
            on_chunk(min(first + chunk_size, size))
    values = jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *chunks)
    if isinstance(values, Sandwich):
        return Sandwich(_summarize(values.lower), _summarize(values.upper))
    return _summarize(values)


@functools.cache
def program_for(platform: str) -> Callable[..., Any]:
    """Return the program for one chunk, `(params, key, data, positions, model, method, options)`, on a platform."""
    # The random bits of chains are many small kernels, which LLVM takes longer to optimize than they run. At level 1 an
    # estimator compiles in less than half the time and runs as fast.
    compiler_options: dict[str, Any] | None = {"xla_backend_optimization_level": 1} if platform == "cpu" else None
    return jax.jit(_chunk, static_argnames=("method", "options"), compiler_options=compiler_options)


@at_highest_precision
def _chunk(
    params: Params,
    key: jax.Array,
    data: Any,
    positions: jax.Array,
    model: Model,
    method: Method,
    options: tuple[tuple[str, Any], ...],
) -> Any:
    def datapoint(position: jax.Array) -> Any:
        return _ESTIMATORS[method](
            params, jax.random.fold_in(key, position), rows(data, position), model, **dict(options)
        )

    return jax.vmap(datapoint)(positions)


def _summarize(values: Estimate) -> DatasetEstimate:
    log_marginal, errors = (np.asarray(a, np.float64) for a in values[:2])
    size = len(log_marginal)
    spread = float(np.std(log_marginal, ddof=1)) if size > 1 else float("nan")
    return DatasetEstimate(
        per_datapoint=values,
        mean=float(np.mean(log_marginal)),
        standard_error=spread / size**0.5,
        monte_carlo_error=float(np.sqrt(np.sum(errors**2))) / size,
    )
