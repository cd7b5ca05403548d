"""Classification scores of sequences, per seed and summarized over seeds."""

from typing import Any, NamedTuple

import numpy as np

from aevb import Given
from aevb.classification import Classification, bayes_rule, reliability

NUM_BINS = 10

MEASURES = ("accuracy", "log_class", "calibration_error", "log_likelihood_per_step")


class Scores(NamedTuple):
    """Scores of N classified sequences.

    Attributes:
      accuracy: The fraction whose most probable class is correct.
      log_class: The mean of log p(true class | x), in nats per sequence.
      calibration_error: The expected calibration error, from 0 to 1.
      log_likelihood_per_step: log p(x | true class) of standardized values, in nats per time step: the sum over
        sequences divided by the sum of their lengths.
    """

    accuracy: float
    log_class: float
    calibration_error: float
    log_likelihood_per_step: float


def scores(log_likelihoods: np.ndarray, data: Given, log_prior: np.ndarray) -> Scores:
    """Score log p(x | class), `[N, C]`, against the sequences and their classes."""
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
    """Return the total length of sequences `[N, T, D]`."""
    from aevb.data.sequences import lengths_of

    return int(np.sum(lengths_of(x)))


def confusion(found: Classification, labels: np.ndarray) -> np.ndarray:
    """Return the confusion matrix `[C, C]`: counts per true class (row) and predicted class (column)."""
    num_classes = found.probabilities.shape[1]
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, found.labels), 1)
    return counts


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean and standard deviation of every measure over seeds; the latter is `None` for one seed."""
    found: dict[str, Any] = {"seeds": len(rows)}
    for name in MEASURES:
        values = [row[name] for row in rows]
        found[name] = float(np.mean(values))
        found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return found
