"""One evaluation of a state that was trained before, as `fit` made it then."""

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
    """Return the row that `fit` reported of a state: the same bits on the same machine.

    Args:
      state: that was saved at an evaluation.
      data: as for `fit`, and so are `model`, `key` and `settings`.
      model: of which the state is.
      key: of the run.
      seconds: of training up to then.
      **settings: of the run, in the words of `fit`.

    Raises:
      DivergedError: the bound of a split is not finite.
      ValueError, TypeError: as for `fit`.
    """
    data, model = data_and_model(data, model, "evaluate_again")
    plan = TrainingPlan.of(data, model, **settings)
    _, evaluation_key = key_pair(key)
    return plan.evaluate(evaluation_key, sharding.place(state), seconds)
