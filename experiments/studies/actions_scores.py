"""How well sequences were classified: of one model with one seed, and of all seeds together."""

from typing import Any, NamedTuple

import numpy as np

from aevb import Given
from aevb.classification import Classification, bayes_rule, reliability

NUM_BINS = 10

MEASURES = ("accuracy", "log_class", "calibration_error", "log_likelihood_per_step")


class Scores(NamedTuple):
    """Of N sequences.

    Attributes:
      accuracy: the share whose most probable class is the right one.
      log_class: the mean of log p(right class | x), nats per sequence.
      calibration_error: the expected calibration error, from 0 to 1.
      log_likelihood_per_step: log p(x | right class), nats per time step of standardized values: the sum over sequences
        over the sum of their lengths.
    """

    accuracy: float
    log_class: float
    calibration_error: float
    log_likelihood_per_step: float


def scores(log_likelihoods: np.ndarray, data: Given, log_prior: np.ndarray) -> Scores:
    """Return the scores of log p(x | class), `[N, C]`, of sequences and their classes."""
    found, labels = bayes_rule(log_likelihoods, log_prior), data.condition
    of_right = np.arange(len(labels)), labels
    log_classes = found.log_joint - np.logaddexp.reduce(found.log_joint, axis=1, keepdims=True)
    return Scores(
        accuracy=float(np.mean(found.labels == labels)),
        log_class=float(np.mean(log_classes[of_right])),
        calibration_error=reliability(found.probabilities, labels, NUM_BINS).expected_error,
        log_likelihood_per_step=float(log_likelihoods[of_right].sum() / num_steps(data.value)),
    )


def num_steps(x: np.ndarray) -> int:
    """Return the sum of the lengths of sequences `[N, T, D]`."""
    from aevb.data.sequences import lengths_of

    return int(np.sum(lengths_of(x)))


def confusion(found: Classification, labels: np.ndarray) -> np.ndarray:
    """Return how many sequences of each class (row) were given each class (column), `[C, C]`."""
    num_classes = found.probabilities.shape[1]
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, found.labels), 1)
    return counts


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean and the standard deviation over seeds of every measure; the latter is `None` for one seed."""
    found: dict[str, Any] = {"seeds": len(rows)}
    for name in MEASURES:
        values = [row[name] for row in rows]
        found[name] = float(np.mean(values))
        found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return found
