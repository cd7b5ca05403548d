"""Semi-supervised learning with M2: a bound for labelled and unlabelled data, and a classifier (Kingma et al. 2014).

    maximize    sum over labelled (x, y) of  L(x, y)  +  sum over unlabelled x of  U(x)  +  a N mean of  log q(y|x)

where the last mean is over labelled data (eq. 6 to 9). Without that term, labelled data would not train the classifier
q(y|x). The few labelled data can be given more weight in the bound as well (`labelled_weight`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb.algorithms.base import Algorithm, descent, standard_normal_log_prior
from aevb.arguments import check_counts, describe
from aevb.data.binarization import Binarization, binarize_batch, binarize_once
from aevb.data.rows import as_arrays, num_rows, rows
from aevb.discrete import class_log_probabilities, elbo_at_class, first_level, summed_out_elbo
from aevb.model import Datapoint, Given, Model, Params, bind, check_model, prior_of
from aevb.objectives import Estimator


def semi_supervised(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset_size: int,
    map_prior: bool = True,
    *,
    labelled: Datapoint,
    num_labelled: int = 100,
    classifier_weight: float = 0.1,
    labelled_weight: float = 0.0,
    num_samples: int = 1,
    binarization: Binarization = "grey",
) -> Algorithm:
    """Return the M2 algorithm for data `Given(x, label)`, in which most labels are unknown, -1.

    Each step maximizes the bound on a minibatch, with unknown classes summed out. In addition it uses `num_labelled` of
    the labelled data, of which a minibatch alone would have few or none:

        1/M sum_i U(x_i, y_i)  +  1 / num_labelled  sum_j ( a log q(y_j|x_j) + b L(x_j|y_j) )

    For a known y_i, U(x_i, y_i) = L(x_i, y_i) - log p(y_i). The reported bound is the first term alone. In the paper b
    is 0: in the bound a labelled datapoint counts as much as any other. If few of many data have labels, the decoder
    then learns what a class looks like from the classifier's guesses.

    Args:
      model: `aevb.models.semi_supervised_vae`, or another model whose first level of z is a class that a condition may
        fix.
      optimizer: any optax transformation.
      dataset_size: N.
      map_prior: whether to include log p(theta), with the weight 1/N.
      labelled: `Given(x, label)`, leaves `[n, ...]`: all labelled datapoints.
      num_labelled: the number of labelled datapoints drawn per step, with replacement. If there are no more than that,
        each step uses all.
      classifier_weight: a, nats per datapoint for one nat of cross-entropy; 0.1 in the paper.
      labelled_weight: b, further nats per datapoint for one nat of the mean bound of the labelled data.
      num_samples: L, draws of z per class.
      binarization: the binarization of the labelled data, as for `fit`.

    Returns:
      The algorithm, for `aevb.fit` or `aevb.make_train_epochs`.

    Raises:
      ValueError: a label is out of range, or a weight is negative or not finite.
      TypeError: `labelled` has no labels, or z has no class.
    """
    check_model(model)
    check_counts(1, dataset_size=dataset_size, num_labelled=num_labelled, num_samples=num_samples)
    for name, weight in (("classifier_weight", classifier_weight), ("labelled_weight", labelled_weight)):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be non-negative and finite, got {weight}")
    labelled = binarize_once(_checked(labelled, model), binarization)

    def loss(params: Params, key: jax.Array, xs: Datapoint) -> jax.Array:
        labelled_key, bound_key = jax.random.split(key)
        keys = jax.random.split(bound_key, num_rows(xs))
        bound = lambda key, x: summed_out_elbo(params, key, x, model, num_samples)
        value = jnp.mean(jax.vmap(bound)(keys, xs))
        known = _drawn(labelled_key, labelled, num_labelled, binarization)
        value += classifier_weight * mean_log_class(params, known, model)
        if labelled_weight:
            known_key = jax.random.fold_in(labelled_key, 2)  # not one of the two that `_drawn` splits off
            value += labelled_weight * mean_bound(params, known_key, known, model, num_samples)
        if map_prior:
            value += standard_normal_log_prior(params) / dataset_size
        return -value

    return descent(model, loss, optimizer, Estimator(num_samples))


def _drawn(key: jax.Array, labelled: Given, number: int, binarization: Binarization) -> Given:
    """Return labelled data, binarized: all of them, or `number` with replacement if there are more."""
    choice_key, binarize_key = jax.random.split(key)
    size = num_rows(labelled)
    chosen = jax.random.randint(choice_key, (number,), 0, size) if number < size else jnp.arange(size)
    return binarize_batch(binarize_key, rows(labelled, chosen), binarization)


def mean_log_class(params: Params, labelled: Given, model: Model) -> jax.Array:
    """Return the mean of log q(y|x) over labelled data, `[]`, nats. The labels are hidden from q."""

    def one(x: Any, label: jax.Array) -> jax.Array:
        return class_log_probabilities(params, Given(x, jnp.full_like(label, -1)), model)[label]

    return jnp.mean(jax.vmap(one)(labelled.value, labelled.condition))


def mean_bound(params: Params, key: jax.Array, labelled: Given, model: Model, num_samples: int = 1) -> jax.Array:
    """Return the mean of L(x|y) over labelled data, `[]`, nats."""

    def one(key: jax.Array, x: Any, label: jax.Array) -> jax.Array:
        return elbo_at_class(params, key, Given(x, label), label, model, num_samples)

    return jnp.mean(jax.vmap(one)(jax.random.split(key, num_rows(labelled)), labelled.value, labelled.condition))


def _checked(labelled: Any, model: Model) -> Given:
    """Check the labelled data and return them on the device."""
    if not isinstance(labelled, Given):
        raise TypeError(f"labelled must be aevb.Given(x, label), got {describe(labelled)}")
    labelled = as_arrays(labelled)
    if num_rows(labelled, "labelled") == 0:
        raise ValueError("labelled is empty: there is nothing to learn a class from")
    labels = np.asarray(labelled.condition)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be one integer per datapoint, got {describe(labels)}")
    num_classes = _num_classes(model, rows(labelled, 0))
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels of labelled data must be from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}"
        )
    return jax.tree.map(jnp.asarray, labelled)


def _num_classes(model: Model, x: Given) -> int:
    """Return the number of classes of the model's first level."""
    found = []

    def look(params: Params, x: Given) -> None:
        _, level = first_level(prior_of(bind(model, x)[0], params), "prior")
        found.append(len(level.enumerate_support()))

    jax.eval_shape(look, jax.eval_shape(model.init, jax.random.key(0)), x)
    return found[0]
