"""Train one model: from data and a key to a state and a history."""

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
    """The result of `fit`.

    Attributes:
      state: the last state.
      history: one `Evaluation` per evaluation.
      best_state: the state with the highest bound on the validation data; `None` without such data, or if it came
        before the state that training resumed from.
      best_evaluation: the row of the history that belongs to `best_state`.
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
    """Train a model, by default with AEVB and the settings of section 5.

    Nothing is transferred to the host between evaluations and pauses. The same key, data and machine give the same
    bits. Data that do not fit in device memory can be passed as a `Stream`, with the same order and the same noise.

    Args:
      data: a pytree of arrays `[N, ...]`, a `Given` of two, or a `Stream`. NumPy arrays are put on the default device.
      model: the model to train.
      key: a typed key; initial weights, shuffles, noise and evaluations all derive from it.
      test_data: data of the same structure, or a `Stream`, evaluated in addition to `data`. They have no effect on
        training.
      valid_data: the same; the state with the highest bound on these data is returned in addition to the last state.
      patience: stop after this many evaluations without a higher bound on `valid_data`; `None` never stops early.
      optimizer: any optax transformation; `None` is `paper_optimizer()`.
      algorithm: for example `aevb.algorithms.wake_sleep` or `functools.partial(aevb.auto_encoding, kl_weight=4.0)`;
        `None` is `auto_encoding` with `estimator`.
      estimator: the estimator of the bound that AEVB maximizes and of the reported bound; by default the ELBO with one
        draw and the analytic KL. An `algorithm` has its own.
      evaluation: the estimator of the reported bound, if it should differ.
      num_epochs: the number of epochs, counted from the beginning, also when resuming; 50 if neither this nor
        `num_steps` is given.
      num_steps: the number of minibatches, counted the same way. It replaces `num_epochs` and may end in mid-epoch.
      batch_size: M.
      map_prior: whether to include log p(theta) = log N(theta; 0, I).
      binarization: how targets are made; see `aevb.data.binarization`.
      eval_every: epochs between evaluations, or "log" for eight per decade. There is always one before the first
        minibatch and one after the last.
      active_units: whether to count active units, as for `evaluate`.
      state: the state to resume from, possibly in mid-epoch: one that `fit` returned or passed to `on_evaluation` or
        `on_pause`. It is consumed.
      seconds: the training time up to `state`.
      history: the evaluations up to `state`, used for the best state so far and for `patience`.
      on_evaluation: called with each new state and its `Evaluation`, to save, print or plot. The state is valid only
        during the call; copy what you keep.
      on_pause: called with the state and the training time so far between evaluations, to save, or to stop training by
        raising. It is called after every epoch or about every second, whichever is longer; for a `Stream`, after every
        block, also in mid-epoch. It does not change the results.

    Returns:
      The last state, the best state, and the history of this call.

    Raises:
      ValueError: an argument is out of range, or data lie outside the likelihood's support.
      TypeError: an argument has the wrong type.
      DivergedError: the objective or its gradient became NaN or infinite. The error names the step and the datapoints.
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
        state = sharding.place(state)  # a restored checkpoint may be on one device

    def pause(state: TrainState, since: float) -> None:
        if on_pause is not None:
            on_pause(state, seconds + since)

    left = plan.remaining(state)
    train = plan.compile(state, pause)
    if first_row is not None:
        record(state, first_row())  # this evaluation ran while the program was compiled
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
