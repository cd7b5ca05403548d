"""Classification by Bayes' rule from the bounds of a model given a label.

p(y | x)  is proportional to  p(y) p(x | y),     log p(x | y) >= L(x | y)

`bayes_rule` does the same for any log p(x | y). `reliability` measures how well the probabilities are calibrated.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb import gradients
from aevb.arguments import check_counts, check_key
from aevb.data.binarization import Binarization, binarize_batch, check_intensities, possible_targets
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.data.stream import Stream, blocks_in_order
from aevb.model import Given, Model, Params, bind, check_arguments, check_model
from aevb.objectives import Estimator, check_estimator, elbo_terms_of, tighter_bound
from aevb.precision import at_highest_precision
from aevb.random_bits import fused
from aevb.support import check_data


class Classification(NamedTuple):
    """The classes of a data set, as NumPy arrays.

    Attributes:
      log_joint: `[N, K]`, log p(y) plus the bound on log p(x|y), in nats: lower bounds on log p(x, y). Their
        log-sum-exp over classes is a lower bound on log p(x).
      probabilities: `[N, K]`, p(y|x) if the bounds are exact; each row sums to one.
      labels: `[N]`, the most probable class.
    """

    log_joint: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray


def classify(
    params: Params,
    key: jax.Array,
    xs: Any,
    model: Model,
    num_classes: int,
    *,
    log_prior: Any = None,
    estimator: Estimator | None = None,
    binarization: Binarization = "grey",
    chunk_size: int = 1000,
    on_chunk: Callable[[int], None] | None = None,
) -> Classification:
    """Classify every datapoint with a model of x given a label, whatever the model was trained for.

    The bound on log p(x|y) is estimated once for each class y, with the same noise for all classes of a datapoint
    (common random numbers). The result depends only on differences between classes, in which everything that the
    classes have in common cancels, noise included. A tighter bound, `aevb.Estimator(K, "sampled", bound="iwae")`,
    brings the result closer to Bayes' rule. The noise of a datapoint depends only on `key` and its position, so
    `chunk_size`, which limits memory, does not change the result.

    Args:
      params: parameters of `model`.
      key: a typed key.
      xs: the data to classify, a pytree of arrays `[N, ...]` without labels, after `binarize_once`; or a `Stream`.
      model: a model whose condition is a label, an integer from 0 to `num_classes - 1`.
      num_classes: K.
      log_prior: `[K]`, log p(y); by default all classes are equally probable.
      estimator: the estimator of the bound; by default the ELBO with one draw of z and the analytic KL.
      binarization: "stochastic" redraws the targets with `key`, one draw for all classes of a datapoint.
      chunk_size: the number of datapoints per call of the compiled program.
      on_chunk: called after every chunk with the number of datapoints done.

    Raises:
      ValueError: `xs` are empty, have another shape or lie outside the likelihood's support; the model refuses a
        class; or `log_prior` does not have K entries or does not sum to one.
      TypeError: the model takes no condition, `xs` have one, or as for `aevb.elbo`.
    """
    check_model(model)
    check_key(key)
    check_estimator(estimator)
    check_counts(2, num_classes=num_classes)
    check_counts(1, chunk_size=chunk_size)
    priors = _checked_prior(log_prior, int(num_classes))
    _check_takes_label(model, xs)
    program = functools.partial(
        _bounds_of_classes,
        model=model,
        num_classes=int(num_classes),
        estimator=estimator or Estimator(),
        binarization=binarization,
    )
    found: list[np.ndarray] = []
    done = 0
    for start, block, size in _blocks(params, xs, model, int(num_classes), binarization):
        in_chunk = min(int(chunk_size), size)
        for first in range(0, size, in_chunk):
            # The last chunk is filled up with the first datapoints, whose values are dropped.
            chosen = np.arange(first, first + in_chunk) % size
            bounds = jax.device_get(program(params, key, rows(block, chosen), start + chosen))
            found.append(bounds[: size - first])
            done += min(in_chunk, size - first)
            if on_chunk is not None:
                on_chunk(done)
    return bayes_rule(np.concatenate(found), priors)


def bayes_rule(log_likelihoods: Any, log_prior: Any = None) -> Classification:
    """Classify every datapoint from log p(x|y), however it was computed.

    Args:
      log_likelihoods: `[N, K]`, log p(x|y) of every datapoint and class, or bounds on it, in nats; -inf where x is
        impossible under a class.
      log_prior: `[K]`, log p(y); by default all classes are equally probable.

    Raises:
      ValueError: `log_likelihoods` have another shape or contain NaN or +inf, a datapoint is impossible under every
        class, or `log_prior` does not have K entries or does not sum to one.
    """
    values = np.asarray(log_likelihoods, np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"log_likelihoods must have the shape [N, K], got {values.shape}")
    if np.isnan(values).any() or np.isposinf(values).any():
        first = int(np.argmax((np.isnan(values) | np.isposinf(values)).any(axis=1)))
        raise ValueError(f"log_likelihoods must be logarithms, but datapoint {first} has {values[first]}")
    log_joint = values + _checked_prior(log_prior, values.shape[1])
    highest = log_joint.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():
        raise ValueError(f"datapoint {int(np.argmin(np.isfinite(highest)))} is impossible under every class")
    weights = np.exp(log_joint - highest)
    return Classification(log_joint, weights / weights.sum(axis=1, keepdims=True), log_joint.argmax(axis=1))


class Reliability(NamedTuple):
    """Accuracy as a function of confidence, the predicted probability of the most probable class. NumPy arrays.

    Attributes:
      edges: `[B + 1]`, the edges of the bins of confidence, from 0 to 1.
      counts: `[B]`, the number of datapoints per bin.
      confidence: `[B]`, the mean confidence per bin; NaN in an empty bin.
      accuracy: `[B]`, the share of datapoints whose most probable class is right; NaN in an empty bin.
      expected_error: the expected calibration error (Guo et al. 2017), the mean over datapoints of
        |accuracy - confidence| of their bin; 0 if calibrated.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    expected_error: float


def reliability(probabilities: Any, labels: Any, num_bins: int = 10) -> Reliability:
    """Return how well the probabilities of classes are calibrated.

    Args:
      probabilities: `[N, K]`, p(y|x), as in a `Classification`.
      labels: `[N]` integers, the right classes.
      num_bins: B, the number of bins, which have equal width.

    Raises:
      ValueError: the shapes do not match, there are no datapoints, or rows are not probabilities.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    check_counts(1, num_bins=num_bins)
    if probabilities.ndim != 2 or not probabilities.size or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities and labels must have shapes [N, K] and [N], got {probabilities.shape} and {labels.shape}"
        )
    if not np.allclose(probabilities.sum(1), 1, atol=1e-3) or np.any(probabilities < 0):
        raise ValueError("probabilities must be nonnegative and each row must sum to one")
    highest = np.clip(probabilities.max(axis=1), 0, 1)
    is_right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((highest * num_bins).astype(int), num_bins - 1)
    counts, confidence, accuracy = (
        np.bincount(bins, weights, num_bins) for weights in (None, highest, is_right.astype(np.float64))
    )
    share = np.where(counts > 0, counts, np.nan)
    gaps = np.abs(accuracy - confidence).sum() / len(labels)
    return Reliability(np.linspace(0, 1, num_bins + 1), counts, confidence / share, accuracy / share, float(gaps))


def _checked_prior(log_prior: Any, num_classes: int) -> np.ndarray:
    """Return log p(y), `[K]` float64."""
    if log_prior is None:
        return np.full(num_classes, -math.log(num_classes))
    found = np.asarray(log_prior, np.float64)
    if found.shape != (num_classes,):
        raise ValueError(f"log_prior must have shape [{num_classes}], one entry per class, got shape {found.shape}")
    total = float(np.sum(np.exp(found)))
    if not abs(total - 1) < 1e-3:
        raise ValueError(f"log_prior must be logarithms of probabilities that sum to one, got a sum of {total:g}")
    return found


def _check_takes_label(model: Model, xs: Any) -> None:
    if isinstance(xs, Given):
        raise TypeError("xs must have no labels, got a Given: pass its value alone")
    try:
        bind(model, Given(None, 0))
    except TypeError:
        needed = "classes are compared by bounds on log p(x|y), which need a model given a label"
        raise TypeError(f"the model takes no condition: {needed}") from None


def _blocks(
    params: Params, xs: Any, model: Model, num_classes: int, binarization: Binarization
) -> Iterable[tuple[int, Any, int]]:
    """Check all datapoints and yield the start of each block, the block, and how many of its datapoints count."""

    def check(block: Any, size: int) -> None:
        counting = block if num_rows(block) == size else rows(block, slice(size))
        check_intensities(counting, binarization)
        highest = np.full(size, num_classes - 1, np.int32)
        check_data(params, Given(counting, highest), model, "xs", possible_targets(binarization))

    if num_rows(xs, "xs") == 0:
        raise ValueError("xs are empty: there is nothing to classify")
    if isinstance(xs, Stream):
        for start, block, size in blocks_in_order(xs, binarization):
            check(block, size)
            yield start, block, size
        return
    block = jax.tree.map(jnp.asarray, as_arrays(xs))
    check(block, num_rows(block))
    yield 0, block, num_rows(block)


@functools.partial(jax.jit, static_argnames=("model", "num_classes", "estimator", "binarization"))
@at_highest_precision
def _bounds_of_classes(
    params: Params,
    key: jax.Array,
    xs: Any,
    positions: jax.Array,
    model: Model,
    num_classes: int,
    estimator: Estimator,
    binarization: Binarization,
) -> jax.Array:
    """Return the bound on log p(x|y) of each datapoint and class, `[n, K]`."""

    def bound(position: jax.Array, x: Any, label: jax.Array) -> jax.Array:
        # The key depends on the position and not on the class: common random numbers.
        binarize_key, bound_key = jax.random.split(jax.random.fold_in(fused(key), position))
        datapoint = Given(binarize_batch(binarize_key, x, binarization), label)
        check_arguments(params, bound_key, datapoint, model)
        if estimator.bound != "elbo":
            return tighter_bound(params, bound_key, datapoint, model, estimator, differentiable=False)
        draws = gradients.draw(params, bound_key, datapoint, model, estimator.num_samples, None)
        terms = elbo_terms_of(draws, estimator, differentiable=False)
        return terms.reconstruction - terms.kl

    # One class at a time: all classes at once would take K times the memory.
    of_class = lambda label: jax.vmap(bound, (0, 0, None))(positions, xs, label)
    return jax.lax.map(of_class, jnp.arange(num_classes)).T
