"""Train a population by one compiled program, with seeds, learning rates and latent sizes as arrays.

Every array in a population's `TrainState` has a leading axis of members, `[K, ...]`. `aevb.fit` trains a single member:
the same key and hyperparameters give the same result up to the rounding of sums.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from aevb import sharding
from aevb.algorithms.base import Progress, TrainState
from aevb.arguments import check_key
from aevb.data.rows import rows
from aevb.data.stream import Stream
from aevb.model import Given, Model
from aevb.training.divergence import DivergedError
from aevb.training.fit import FitResult
from aevb.training.history import Best, Evaluation
from aevb.training.inputs import data_and_model
from aevb.training.keys import key_pair
from aevb.training.members import (
    Execution,
    compiled,
    default_execution,
    init_population,
    make_train_population,
    member_of,
    population_programs,
    stack,
)
from aevb.training.pieces import pieces
from aevb.training.plan import TrainingPlan, TrainingSettings
from aevb.training.timetable import segments

__all__ = [
    "Execution",
    "Member",
    "default_execution",
    "fit_population",
    "init_population",
    "make_train_population",
    "member_of",
    "stack",
]


class Member(NamedTuple):
    """The result of one member of a population.

    Attributes:
      result: the last good state of the member, without the leading axis, and its history up to there.
      diverged: the error, if the member diverged; else `None`.
    """

    result: FitResult
    diverged: DivergedError | None


def fit_population(
    data: Any,
    model: Model,
    *,
    keys: Sequence[jax.Array] | jax.Array,
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
    initial_states: Sequence[TrainState] | None = None,
    execution: Execution | None = None,
    states: Sequence[TrainState] | None = None,
    seconds: float = 0.0,
    on_evaluation: Callable[[int, TrainState, Evaluation], None] | None = None,
    on_pause: Callable[[TrainState, float], None] | None = None,
    **settings: Unpack[TrainingSettings],
) -> list[Member]:
    """Train K members of one model as one program.

    Args:
      data: a pytree of arrays `[N, ...]`, held in memory once for all members.
      model: the model to train.
      keys: K typed keys; member k is what `aevb.fit(key=keys[k])` trains.
      hyperparameters: as for `init_population`.
      initial_states: K states to begin with instead, for example from `aevb.training.padding`.
      execution: as for `make_train_population`.
      states: K states to resume from, all at the same step, possibly in mid-epoch.
      seconds: the training time of the population up to `states`.
      on_evaluation: called with the member's number, its state and its `Evaluation`, whose seconds are those of the
        population.
      on_pause: called with the states of the population and the training time so far; `member_of` extracts one state.
      **settings: test_data, valid_data, patience, optimizer, algorithm, estimator, evaluation, num_epochs, num_steps,
        batch_size, map_prior, binarization, eval_every and active_units, as for `aevb.fit`.

    Returns:
      K members. A diverging member is reported and does not affect the others. With `patience`, training continues
      until the patience of every member is exhausted; each has its best state.

    Raises:
      ValueError: an argument is out of range.
      TypeError: an argument has the wrong type.
    """
    data, model = data_and_model(data, model, "fit_population")
    if any(isinstance(split, Stream) for split in (data, settings.get("test_data"), settings.get("valid_data"))):
        raise TypeError("a population trains on data in memory, held once for all members, got a Stream")
    _check_keys(keys)
    plan = TrainingPlan.of(data, model, **settings)
    train_keys, evaluation_keys = zip(*(key_pair(key) for key in keys), strict=True)
    evaluator = _Evaluator(plan, evaluation_keys, on_evaluation)
    train_data = plan.train_data
    has_more_to_check = plan.check(evaluation_keys[0], states[0] if states else None)
    if states is None:
        x = rows(train_data, 0) if isinstance(train_data, Given) else None
        initial = stack(initial_states) if initial_states else None
        stacked = initial or init_population(plan.algorithm, train_keys, hyperparameters, x)
        if has_more_to_check:
            plan.check_values(member_of(stacked, 0), evaluation_keys[0])
        evaluator.evaluate(stacked, seconds)
    else:
        stacked = _equally_far(states)
    stacked = sharding.place(stacked, sharding.MEMBER)
    left = plan.remaining(member_of(stacked, 0))
    programs = population_programs(plan.algorithm, plan.batch_size, plan.binarization, execution, train_data)
    stacked = compiled(programs, stacked, left)  # not counted as training time

    def train_all(states: TrainState, num_epochs: int, num_steps: int) -> TrainState:
        after = states
        for after, progress in pieces(programs, states, num_epochs, num_steps, plan.steps_per_epoch):
            evaluator.note_divergence(after, jax.device_get(progress))  # waits for the device
        return after if num_steps else after._replace(shuffle_key=None)

    for segment in segments(train_all, stacked, left, plan.eval_every, pauses=on_pause is not None):
        stacked = segment.state
        seconds += segment.seconds
        if segment.is_evaluation:
            evaluator.evaluate(stacked, seconds)
        elif on_pause is not None:
            on_pause(stacked, seconds)
        if evaluator.all_are_done():
            break
    return evaluator.members(stacked)


class _Evaluator:
    """Evaluates members one by one and records which of them diverged."""

    def __init__(self, plan: TrainingPlan, keys: Sequence[jax.Array], on_evaluation: Callable | None):
        self._plan, self._keys, self._on_evaluation = plan, keys, on_evaluation
        self._histories: list[list[Evaluation]] = [[] for _ in keys]
        self._diverged: dict[int, DivergedError] = {}
        self._last_good: dict[int, TrainState] = {}
        self._best = [Best(plan.patience) for _ in keys]

    def note_divergence(self, states: TrainState, progress: Progress) -> None:
        for member in np.flatnonzero(progress.first_bad_step >= 0).tolist():
            if member not in self._diverged:
                of_member = Progress(*(values[member] for values in progress))
                self._last_good[member] = member_of(states, member)
                self._diverged[member] = self._plan.diverged(member_of(states, member), of_member, member)

    def evaluate(self, states: TrainState, seconds: float) -> None:
        for member, key in enumerate(self._keys):
            if member in self._diverged:
                continue
            state = member_of(states, member)
            try:
                row = self._plan.evaluate(key, state, seconds, member)
            except DivergedError as error:
                self._diverged[member] = error
                continue
            self._histories[member].append(row)
            self._best[member].note(state, row)
            if self._on_evaluation is not None:
                self._on_evaluation(member, state, row)

    def all_are_done(self) -> bool:
        return all(member in self._diverged or best.is_time_to_stop for member, best in enumerate(self._best))

    def members(self, states: TrainState) -> list[Member]:
        found = []
        for member, (history, best) in enumerate(zip(self._histories, self._best, strict=True)):
            state = self._last_good[member] if member in self._last_good else member_of(states, member)
            found.append(Member(FitResult(state, history, best.state, best.row), self._diverged.get(member)))
        return found


def _equally_far(states: Sequence[TrainState]) -> TrainState:
    """Stack the states to resume from. Raise `ValueError` unless all are at the same step."""
    if len(steps := np.unique([int(state.step) for state in states])) > 1:
        raise ValueError(f"the members to resume from are at different steps: {steps.tolist()}")
    if len({state.shuffle_key is None for state in states}) > 1:
        raise ValueError("some of the members to resume from have a shuffle_key, in mid-epoch, and others do not")
    return stack(states)


def _check_keys(keys: Any) -> None:
    try:
        keys = list(keys)
    except TypeError:
        keys = []
    if not keys:
        raise TypeError("keys must be typed keys, one per member, such as jax.random.split(jax.random.key(0), 3)")
    for key in keys:
        check_key(key, "each of keys")
