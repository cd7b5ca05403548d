"""Semi-supervised learning: a bound of labelled and unlabelled data, and a classifier (Kingma et al. 2014, M2).

    ascend    sum over labelled (x, y) of  L(x, y)  +  sum over unlabelled x of  U(x)  +  a N mean of  log q(y|x)

the last mean over labelled data (eq. 6 to 9). Without it labelled data would teach the classifier q(y|x) nothing.
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
from aevb.discrete import class_log_probabilities, first_level, summed_out_elbo
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
    num_samples: int = 1,
    binarization: Binarization = "grey",
) -> Algorithm:
    """Return the algorithm of M2, over data `Given(x, label)` in which most labels are -1, unknown.

    A minibatch of the data has its bound ascended with unknown classes summed out. Beside it each step sees
    `num_labelled` of the labelled data, without which a minibatch would have few of them or none:

        1/M sum_i U(x_i, y_i)  +  a / num_labelled  sum_j log q(y_j|x_j)

    Of a known y_i, U(x_i, y_i) = L(x_i, y_i) - log p(y_i). What is reported is the bound alone.

    Args:
      model: `aevb.models.semi_supervised_vae`, or another whose first level of z is a class that a condition may fix.
      optimizer: any optax transformation.
      dataset_size: N.
      map_prior: whether to include log p(theta), weighed 1/N.
      labelled: `Given(x, label)`, leaves `[n, ...]`: all that is labelled in the data.
      num_labelled: how many of them each step draws, with replacement; each step sees all where there are no more.
      classifier_weight: a, nats per datapoint for one nat of cross-entropy; the paper's 0.1.
      num_samples: L, draws of z for each class.
      binarization: as for `fit`, of the labelled data.

    Returns:
      The algorithm, for `aevb.fit` or `aevb.make_train_epochs`.

    Raises:
      ValueError: a label out of range, or a weight that is negative or not finite.
      TypeError: `labelled` has no labels, or z no class.
    """
    check_model(model)
    check_counts(1, dataset_size=dataset_size, num_labelled=num_labelled, num_samples=num_samples)
    if not 0 <= classifier_weight < float("inf"):
        raise ValueError(f"classifier_weight must be non-negative and finite, got {classifier_weight}")
    labelled = binarize_once(_checked(labelled, model), binarization)
    size = num_rows(labelled)

    def drawn(key: jax.Array) -> Given:
        choice_key, binarize_key = jax.random.split(key)
        chosen = jax.random.randint(choice_key, (num_labelled,), 0, size) if num_labelled < size else jnp.arange(size)
        return binarize_batch(binarize_key, rows(labelled, chosen), binarization)

    def loss(params: Params, key: jax.Array, xs: Datapoint) -> jax.Array:
        labelled_key, bound_key = jax.random.split(key)
        keys = jax.random.split(bound_key, num_rows(xs))
        bound = lambda key, x: summed_out_elbo(params, key, x, model, num_samples)
        value = jnp.mean(jax.vmap(bound)(keys, xs))
        value += classifier_weight * mean_log_class(params, drawn(labelled_key), model)
        if map_prior:
            value += standard_normal_log_prior(params) / dataset_size
        return -value

    return descent(model, loss, optimizer, Estimator(num_samples))


def mean_log_class(params: Params, labelled: Given, model: Model) -> jax.Array:
    """Return the mean of log q(y|x) over labelled data, `[]`, nats: y is hidden from q and then looked up."""

    def one(x: Any, label: jax.Array) -> jax.Array:
        return class_log_probabilities(params, Given(x, jnp.full_like(label, -1)), model)[label]

    return jnp.mean(jax.vmap(one)(labelled.value, labelled.condition))


def _checked(labelled: Any, model: Model) -> Given:
    """Return the labelled data as arrays on the device."""
    if not isinstance(labelled, Given):
        raise TypeError(f"labelled must be aevb.Given(x, label), got {describe(labelled)}")
    labelled = as_arrays(labelled)
    if num_rows(labelled, "labelled") == 0:
        raise ValueError("labelled is empty: there is nothing to learn a class from")
    labels = np.asarray(labelled.condition)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be one integer for each datapoint, got {describe(labels)}")
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
