"""Many members trained by one compiled program: seeds, step sizes and latent sizes as arrays.

A population's `TrainState` has a leading axis of members, `[K, ...]`, on every array of it. One member alone is what
`aevb.fit` trains: the same key and hyperparameters give the same result up to the rounding of sums.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb import sharding
from aevb.algorithms.base import Algorithm, Progress, TrainState
from aevb.arguments import check_choice, check_key
from aevb.data.binarization import Binarization
from aevb.data.rows import rows
from aevb.data.stream import Stream
from aevb.model import Given, Model
from aevb.training.divergence import DivergedError, restoring
from aevb.training.epochs import TrainEpochs, minibatch_step, whole_epochs
from aevb.training.fit import FitResult
from aevb.training.inputs import data_and_model
from aevb.training.plan import Evaluation, TrainingPlan, TrainingSettings, key_pair
from aevb.training.timetable import segments

Execution: TypeAlias = Literal["side_by_side", "in_turn"]
"""How members are trained by one program: each step of all of them at once, or one member after the other."""

Tree = TypeVar("Tree")


class Member(NamedTuple):
    """What became of one member of a population.

    Attributes:
      result: its last good state, without the leading axis, and its history up to there.
      diverged: why it stopped; `None` where it did not.
    """

    result: FitResult
    diverged: DivergedError | None


def default_execution() -> Execution:
    """Return how members are best trained on the default device (RESULTS.md).

    An accelerator is bound by launching the kernels of one small network, and side by side they are launched once for
    all; the caches of a CPU hold one member and not eight.
    """
    return "in_turn" if jax.default_backend() == "cpu" else "side_by_side"


def init_population(
    algorithm: Algorithm,
    keys: Sequence[jax.Array] | jax.Array,
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
    x: Any = None,
) -> TrainState:
    """Return the initial states of K members, `[K, ...]`.

    Args:
      algorithm: what trains them all.
      keys: K typed keys, one per member.
      hyperparameters: K values each of what the optimizer keeps in its state, `{"learning_rate": [0.01, 0.02]}` say:
        `paper_optimizer` does, and what `optax.inject_hyperparams` makes.
      x: one datapoint, for algorithms whose `init` needs it.

    Raises:
      ValueError: a hyperparameter that the optimizer does not keep, or not K of them.
    """
    states = []
    init = jax.jit(algorithm.init)  # as `fit` does: compiled, the same numbers may round otherwise
    for member, key in enumerate(keys):
        state = init(key) if x is None else init(key, x)
        values = {name: _of_member(name, of, member, len(keys)) for name, of in (hyperparameters or {}).items()}
        states.append(state._replace(optimizer_state=_with_hyperparameters(state.optimizer_state, values)))
    return stack(states)


def stack(members: Sequence[Tree]) -> Tree:
    """Stack the states of single members, or other pytrees of theirs, into those of a population, `[K, ...]`."""
    return _stack(list(members))


@jax.jit
def _stack(members: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def member_of(states: TrainState, member: int) -> TrainState:
    """Return the state of one member of a population, without the leading axis."""
    return _member_of(states, member)


@jax.jit
def _member_of(states: TrainState, member: int) -> TrainState:
    return sharding.gather(jax.tree.map(lambda leaf: leaf[member], states))


def make_train_population(
    algorithm: Algorithm, batch_size: int, binarization: Binarization = "grey", execution: Execution | None = None
) -> TrainEpochs:
    """Return whole epochs of all members, `(states, data, num_epochs) -> (states, progress)`, by one compiled program.

    Each member shuffles `data` (leaves `[N, ...]`, held once) by its own key. A member whose loss or parameters stop
    being finite keeps the state that it came with, and touches no other.

    Args:
      algorithm: what trains them all.
      batch_size: M.
      binarization: as for `aevb.make_train_epochs`.
      execution: "side_by_side" or "in_turn"; by default what suits the device.

    Returns:
      What trains them; `states` are consumed. Its `progress` has `[K]` losses and first bad steps, and their indices,
      `[K, M]`.

    Raises:
      ValueError: an unknown execution.
    """
    execution = execution or default_execution()
    check_choice("execution", execution, get_args(Execution))
    train_epochs = whole_epochs(minibatch_step(algorithm, binarization), batch_size)

    @functools.partial(jax.jit, donate_argnums=0)
    def side_by_side(states: TrainState, data: Any, num_epochs: int | jax.Array) -> Any:
        states, progress = jax.vmap(train_epochs, (0, None, None))(states, data, num_epochs)
        return sharding.split(states, sharding.MEMBER), sharding.gather(progress)

    one = restoring(jax.jit(train_epochs, donate_argnums=0))

    def in_turn(states: TrainState, data: Any, num_epochs: int | jax.Array) -> Any:
        return stack([one(member_of(states, member), data, num_epochs) for member in range(len(states.step))])

    if execution == "in_turn" and sharding.axis_size(sharding.MEMBER) == 1:
        return in_turn
    return restoring(side_by_side, members=True)


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
      data: a pytree of arrays `[N, ...]`, held once for all.
      model: what to train.
      keys: K typed keys; member k is what `aevb.fit(key=keys[k])` trains.
      hyperparameters: as for `init_population`.
      initial_states: K states to begin with instead, from `aevb.training.padding` say.
      execution: as for `make_train_population`.
      states: K states to go on from, all at the same step.
      seconds: the training time that they took, all together.
      on_evaluation: called with the member's number, its state and its `Evaluation`, whose seconds are the
        population's.
      on_pause: called with the population's states, of which `member_of` takes one, and the seconds so far.
      **settings: test_data, optimizer, algorithm, estimator, evaluation, num_epochs, batch_size, map_prior,
        binarization, eval_every and active_units, as for `aevb.fit`.

    Returns:
      K members. One that diverged says so and is left out from there on; the others do not notice.

    Raises:
      ValueError: an argument out of range, named with its value.
      TypeError: an argument of another kind than it must be.
    """
    data, model = data_and_model(data, model, "fit_population")
    if isinstance(data, Stream) or isinstance(settings.get("test_data"), Stream):
        raise TypeError("a population trains on data in memory, held once for all members: not on a Stream")
    _check_keys(keys)
    plan = TrainingPlan.of(data, model, **settings)
    train_keys, evaluation_keys = zip(*(key_pair(key) for key in keys), strict=True)
    evaluator = _Evaluator(plan, evaluation_keys, on_evaluation)
    train_data = plan.splits[0]
    has_more_to_check = plan.check(evaluation_keys[0], states[0] if states else None)
    if states is None:
        x = rows(train_data, 0) if isinstance(train_data, Given) else None
        initial = stack(initial_states) if initial_states else None
        stacked = initial or init_population(plan.algorithm, train_keys, hyperparameters, x)
        if has_more_to_check:
            plan.check_values(member_of(stacked, 0), evaluation_keys[0])
        evaluator.evaluate(stacked, seconds)
    else:
        stacked = stack(states)
        if len(steps := np.unique(stacked.step)) > 1:
            raise ValueError(f"the members to go on from are at different steps: {steps.tolist()}")
    stacked = sharding.place(stacked, sharding.MEMBER)
    train = make_train_population(plan.algorithm, plan.batch_size, plan.binarization, execution)
    stacked, _ = train(stacked, train_data, 0)  # compiled, before seconds count

    def train_all(states: TrainState, num_epochs: int) -> TrainState:
        states, progress = train(states, train_data, num_epochs)
        evaluator.note_divergence(states, jax.device_get(progress))  # waits for the device
        return states

    epoch, pauses = int(stacked.step[0]) // plan.steps_per_epoch, on_pause is not None
    for segment in segments(train_all, stacked, epoch, plan.num_epochs, plan.eval_every, pauses):
        stacked = segment.state
        seconds += segment.seconds
        if segment.is_evaluation:
            evaluator.evaluate(stacked, seconds)
        elif on_pause is not None:
            on_pause(stacked, seconds)
        if evaluator.all_diverged():
            break
    return evaluator.members(stacked)


class _Evaluator:
    """Evaluates members one by one, and remembers which of them diverged."""

    def __init__(self, plan: TrainingPlan, keys: Sequence[jax.Array], on_evaluation: Callable | None):
        self._plan, self._keys, self._on_evaluation = plan, keys, on_evaluation
        self._histories: list[list[Evaluation]] = [[] for _ in keys]
        self._diverged: dict[int, DivergedError] = {}

    def note_divergence(self, states: TrainState, progress: Progress) -> None:
        for member in np.flatnonzero(progress.first_bad_step >= 0).tolist():
            if member not in self._diverged:
                of_member = Progress(*(values[member] for values in progress))
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
            if self._on_evaluation is not None:
                self._on_evaluation(member, state, row)

    def all_diverged(self) -> bool:
        return len(self._diverged) == len(self._keys)

    def members(self, states: TrainState) -> list[Member]:
        return [
            Member(FitResult(member_of(states, member), history), self._diverged.get(member))
            for member, history in enumerate(self._histories)
        ]


def _check_keys(keys: Any) -> None:
    try:
        keys = list(keys)
    except TypeError:
        keys = []
    if not keys:
        raise TypeError("keys must be typed keys, one per member, as jax.random.split(jax.random.key(0), 3) makes them")
    for key in keys:
        check_key(key, "each of keys")


def _of_member(name: str, values: Sequence[float], member: int, size: int) -> float:
    if len(values) != size:
        raise ValueError(f"{name} must have a value for each of {size} members, got {len(values)}")
    return values[member]


def _with_hyperparameters(optimizer_state: Any, values: Mapping[str, float]) -> Any:
    for name, value in values.items():
        found = optax.tree.get(optimizer_state, name)
        if found is None:
            raise ValueError(f"the optimizer keeps no {name!r} in its state: make it by optax.inject_hyperparams")
        optimizer_state = optax.tree.set(optimizer_state, **{name: jnp.asarray(value, found.dtype)})
    return optimizer_state
