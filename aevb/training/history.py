"""The history of a training run: one row per evaluation, and the best by validation data."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb.algorithms.base import TrainState
from aevb.arguments import check_counts, describe
from aevb.evaluation import Bound

NAN = math.nan

ONLY_SOME_HAVE = ("train_iwae", "test_iwae", "valid_elbo", "valid_iwae", "train_fivo", "test_fivo", "valid_fivo")
"""The bounds that are NaN unless there are validation data or the estimator is for them."""


class Evaluation(NamedTuple):
    """One row of a training history. Bounds are in nats per datapoint over whole splits, and never weighted.

    All bounds are NaN if the algorithm trains no recognition model.

    Attributes:
      epoch: whole epochs done.
      num_train_samples: datapoints seen, with repetition: the horizontal axis of Figure 2.
      train_elbo: the ELBO on the training data.
      test_elbo: the ELBO on the test data; NaN without test data, like its two terms.
      test_reconstruction: the first term of `test_elbo`.
      test_kl: the second term of `test_elbo`.
      active_units: latent dimensions in use, on the test data or, without any, on the training data; `None` if they are
        not counted.
      seconds: the training time so far, without compilation and evaluation.
      test_kl_by_level: `test_kl` by level of latents, summed over the steps of a path.
      active_units_by_level: the active units of each level.
      train_iwae: the importance weighted bound on the training data; NaN unless the estimator is for that bound.
      test_iwae: the importance weighted bound on the test data.
      valid_elbo: the ELBO on the validation data; NaN without validation data.
      valid_iwae: the importance weighted bound on the validation data.
      train_fivo: the filtering variational objective on the training data; NaN unless the estimator is for that bound.
      test_fivo: the filtering variational objective on the test data.
      valid_fivo: the filtering variational objective on the validation data.
    """

    epoch: int
    num_train_samples: int
    train_elbo: float
    test_elbo: float
    test_reconstruction: float
    test_kl: float
    active_units: int | None
    seconds: float
    test_kl_by_level: dict[str, float] = {}  # noqa: RUF012, never changed
    active_units_by_level: dict[str, int] = {}  # noqa: RUF012
    train_iwae: float = NAN
    test_iwae: float = NAN
    valid_elbo: float = NAN
    valid_iwae: float = NAN
    train_fivo: float = NAN
    test_fivo: float = NAN
    valid_fivo: float = NAN

    @property
    def valid_bound(self) -> float:
        """The validation bound by which states are compared: FIVO or the importance weighted bound, else the ELBO."""
        known = (each for each in (self.valid_fivo, self.valid_iwae) if not math.isnan(each))
        return next(known, self.valid_elbo)


def row_of(counts: tuple[int, int], bounds: dict[str, Bound], seconds: float) -> Evaluation:
    """Return the row of an evaluation from the bounds of its splits: "train" and optionally "valid" and "test"."""
    train, valid, test = bounds["train"], bounds.get("valid"), bounds.get("test")
    shown = test or train  # active units are counted on the training data if there are no test data
    return Evaluation(
        *counts,
        train.elbo,
        *((test.elbo, test.reconstruction, test.kl) if test else (NAN, NAN, NAN)),
        shown.active_units,
        seconds,
        {level: float(np.sum(kl)) for level, kl in test.kl_by_level.items()} if test else {},
        shown.active_units_by_level,
        train.iwae,
        test.iwae if test else NAN,
        valid.elbo if valid else NAN,
        valid.iwae if valid else NAN,
        train.fivo,
        test.fivo if test else NAN,
        valid.fivo if valid else NAN,
    )


def best_row(history: Sequence[Evaluation]) -> Evaluation | None:
    """Return the first evaluation with the highest validation bound; `None` if there is no such bound."""
    rows = [row for row in history if not math.isnan(row.valid_bound)]
    return max(rows, key=lambda row: row.valid_bound, default=None)


class Best:
    """The best state so far by validation data, and whether to stop early.

    Attributes:
      row: the evaluation of the best state; `None` if there is none yet.
      state: a copy of the best state; also `None` if it came before the state that training resumed from.
    """

    def __init__(self, patience: int | None, history: Sequence[Evaluation] = ()):
        """Begin, or continue an earlier `history`."""
        self._patience = patience
        self.row = best_row(history)
        self.state: TrainState | None = None
        earlier = [row.num_train_samples for row in history]  # these distinguish rows of one epoch
        self._since = 0 if self.row is None else sum(samples > self.row.num_train_samples for samples in earlier)

    def note(self, state: TrainState, row: Evaluation) -> None:
        """Compare an evaluation with the best one, and keep the better."""
        if math.isnan(row.valid_bound):
            return
        if self.row is not None and row.valid_bound <= self.row.valid_bound:
            self._since += 1
            return
        self.row, self.state, self._since = row, jax.tree.map(jnp.copy, state), 0

    @property
    def is_time_to_stop(self) -> bool:
        """Whether there have been `patience` evaluations since the best one."""
        return self._patience is not None and self._since >= self._patience


def check_patience(patience: Any, valid_data: Any) -> None:
    """Raise `ValueError` or `TypeError` unless `fit` accepts these arguments."""
    if patience is None:
        return
    check_counts(1, patience=patience)
    if valid_data is None:
        raise ValueError(f"patience={describe(patience)} stops by the bound on valid_data, but there are none")
