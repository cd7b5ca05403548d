"""Training one model, from data and a key to a state and a history."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax

from aevb import sharding
from aevb.algorithms.base import MakeAlgorithm, TrainState
from aevb.arguments import check_key
from aevb.data.binarization import Binarization
from aevb.model import Model
from aevb.objectives import Estimator
from aevb.training.history import Best, Evaluation
from aevb.training.inputs import data_and_model
from aevb.training.keys import key_pair
from aevb.training.plan import TrainingPlan
from aevb.training.timetable import EvalEvery, segments


class FitResult(NamedTuple):
    """What `fit` gives back.

    Attributes:
      state: the last one.
      history: an `Evaluation` for each time it looked.
      best_state: the one with the highest bound on the validation data; `None` without such data, and where it was
        before the state that training went on from.
      best_evaluation: its row of the history.
    """

    state: TrainState
    history: list[Evaluation]
    best_state: TrainState | None = None
    best_evaluation: Evaluation | None = None


def fit(
    data: Any,
    model: Model,
    *,
    key: jax.Array,
    test_data: Any = None,
    valid_data: Any = None,
    patience: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    algorithm: MakeAlgorithm | None = None,
    estimator: Estimator | None = None,
    evaluation: Estimator | None = None,
    num_epochs: int | None = None,
    num_steps: int | None = None,
    batch_size: int = 100,
    map_prior: bool = True,
    binarization: Binarization = "grey",
    eval_every: EvalEvery = 1,
    active_units: bool | None = None,
    state: TrainState | None = None,
    seconds: float = 0.0,
    history: Sequence[Evaluation] = (),
    on_evaluation: Callable[[TrainState, Evaluation], None] | None = None,
    on_pause: Callable[[TrainState, float], None] | None = None,
) -> FitResult:
    """Train a model, by AEVB unless told otherwise; defaults as in section 5.

    Nothing returns to the host between evaluations and pauses. Same key, same data, same machine: same bits. Data that
    do not fit in device memory come as a `Stream`, in the same order and with the same noise.

    Args:
      data: a pytree of arrays `[N, ...]`, a `Given` of two, or a `Stream`. NumPy arrays are put on the default device.
      model: what to train.
      key: a typed key; initial weights, shuffles, noise and evaluations all derive from it.
      test_data: of the same structure, or a `Stream`, evaluated beside `data`. Nothing is chosen by them.
      valid_data: likewise; the state with the highest bound on them is given back beside the last.
      patience: stop after so many evaluations without a higher bound on `valid_data`; `None` never does.
      optimizer: any optax transformation; `None` is `paper_optimizer()`.
      algorithm: `aevb.algorithms.wake_sleep`, say, or `functools.partial(aevb.auto_encoding, kl_weight=4.0)`; `None` is
        `auto_encoding` with `estimator`.
      estimator: of the bound that AEVB ascends, and of the one that is reported; of the ELBO with one draw and the
        analytic KL by default. An `algorithm` carries its own.
      evaluation: of the bound that is reported, where that should be another.
      num_epochs: when to stop, counted from the beginning also when resuming; 50 where neither is given.
      num_steps: when to stop, in minibatches, counted likewise; in place of `num_epochs`, and perhaps in mid-epoch.
      batch_size: M.
      map_prior: whether to include log p(theta) = log N(theta; 0, I).
      binarization: what the targets are; see `aevb.data.binarization`.
      eval_every: epochs between evaluations, or "log" for eight per decade. There is always one before the first
        minibatch and one after the last.
      active_units: whether to count them, as for `evaluate`.
      state: where to go on from, a state that `on_evaluation` or `on_pause` was given or `fit` returned, in mid-epoch
        too; consumed.
      seconds: the training time that `state` took.
      history: the evaluations up to `state`, for what is the best so far and when patience ends.
      on_evaluation: called with each new state and its `Evaluation`: to save, print or plot. The state is valid
        during the call only; copy what is to be kept.
      on_pause: called between evaluations, after every epoch or about every second, whichever is longer, and of a
        `Stream` after every block, in mid-epoch too. With the state and the seconds of training so far: to save, and
        to stop by raising. The numbers are the same with and without it.

    Returns:
      The last state, the best, and the history from here on.

    Raises:
      ValueError: an argument out of range, named with its value, or data outside of the likelihood's support.
      TypeError: an argument of another kind than it must be.
      DivergedError: the objective or its gradient became NaN or infinite; says at which step and on which datapoints.
    """
    data, model = data_and_model(data, model, "fit")
    check_key(key)
    plan = TrainingPlan.of(
        data, model, test_data, optimizer, algorithm, estimator, evaluation, num_epochs, batch_size, map_prior,
        binarization, eval_every, active_units, valid_data, patience, num_steps,
    )  # fmt: skip
    train_key, evaluation_key = key_pair(key)
    rows: list[Evaluation] = []
    best = Best(plan.patience, history)

    def record(state: TrainState, row: Evaluation) -> None:
        rows.append(row)
        best.note(state, row)
        if on_evaluation is not None:
            on_evaluation(state, row)

    first_row = None
    has_more_to_check = plan.check(evaluation_key, state)
    if state is None:
        state = sharding.place(plan.init(train_key))
        if has_more_to_check:
            plan.check_values(state, evaluation_key)
        first_row = plan.start_evaluation(evaluation_key, state, seconds, check_values=True)
    else:
        state = sharding.place(state)  # a checkpoint may come back on one device

    def pause(state: TrainState, since: float) -> None:
        if on_pause is not None:
            on_pause(state, seconds + since)

    left = plan.remaining(state)
    train = plan.compile(state, pause)
    if first_row is not None:
        record(state, first_row())  # which was under way while the program was compiled
    if best.is_time_to_stop:
        left = left._replace(num_epochs=left.epoch, num_steps=0)
    for segment in segments(train, state, left, eval_every, pauses=on_pause is not None):
        state = segment.state
        seconds += segment.seconds
        if segment.is_evaluation:
            record(state, plan.evaluate(evaluation_key, state, seconds))
            if best.is_time_to_stop:
                break
        elif on_pause is not None:
            on_pause(state, seconds)
    return FitResult(state, rows, best.state, best.row)
