"""Repeat an evaluation that `fit` made of a state."""

from typing import Any, Unpack

import jax

from aevb import sharding
from aevb.algorithms.base import TrainState
from aevb.model import Model
from aevb.training.history import Evaluation
from aevb.training.inputs import data_and_model
from aevb.training.keys import key_pair
from aevb.training.plan import TrainingPlan, TrainingSettings


def evaluate_again(
    state: TrainState, data: Any, model: Model, *, key: jax.Array, seconds: float, **settings: Unpack[TrainingSettings]
) -> Evaluation:
    """Return the row that `fit` reported for a state, with the same bits on the same machine.

    Args:
      state: a state that was saved at an evaluation.
      data: the data of the run, as for `fit`.
      model: the model of the run.
      key: the key of the run.
      seconds: the training time up to the state.
      **settings: the other arguments that were passed to `fit`.

    Raises:
      DivergedError: the bound of a split is not finite.
      ValueError, TypeError: as for `fit`.
    """
    data, model = data_and_model(data, model, "evaluate_again")
    plan = TrainingPlan.of(data, model, **settings)
    _, evaluation_key = key_pair(key)
    return plan.evaluate(evaluation_key, sharding.place(state), seconds)
