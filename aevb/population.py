"""Many members trained by one compiled program: seeds, step sizes and latent sizes as arrays.

A population's `TrainState` has a leading axis of members, `[K, ...]`, on every array of it. One member alone is what
`aevb.fit` trains: the same key and hyperparameters give the same result but for the rounding of sums.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb import sharding
from aevb.datasets.binarization import Binarization
from aevb.divergence import DivergedError, Progress, keeping_the_last_good_state
from aevb.model import Model
from aevb.objectives import KL
from aevb.streaming import Stream
from aevb.training import (
    Algorithm,
    Evaluation,
    FitResult,
    MakeAlgorithm,
    Task,
    TrainState,
    check_schedule,
    stretches,
    whole_epochs,
)

Schedule: TypeAlias = Literal["side_by_side", "in_turn"]
Tree = TypeVar("Tree")


class Member(NamedTuple):
    """What became of one member.

    Attributes:
      result: its last good state, without the leading axis, and its history up to there.
      diverged: why it stopped; `None` where it did not.
    """

    result: FitResult
    diverged: DivergedError | None


def default_schedule() -> Schedule:
    """How members are best trained on the default device (RESULTS.md).

    An accelerator is bound by launching the kernels of one small network, and side by side they are launched once for
    all; the caches of a CPU hold one member and not eight.
    """
    return "in_turn" if jax.default_backend() == "cpu" else "side_by_side"


def init_population(
    algorithm: Algorithm,
    keys: Sequence[jax.Array] | jax.Array,
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
) -> TrainState:
    """The initial states of K members, `[K, ...]`.

    Args:
      algorithm: what trains them all.
      keys: K typed keys, one a member.
      hyperparameters: K values each of what the optimizer keeps in its state, `{"learning_rate": [0.01, 0.02]}` say:
        `paper_optimizer` does, and what `optax.inject_hyperparams` makes.

    Raises:
      ValueError: a hyperparameter that the optimizer does not keep, or not K of them.
    """
    states = []
    for member, key in enumerate(keys):
        state = algorithm.init(key)
        values = {name: _of_member(name, of, member, len(keys)) for name, of in (hyperparameters or {}).items()}
        states.append(state._replace(optimizer_state=_with_hyperparameters(state.optimizer_state, values)))
    return stack(states)


def stack(members: Sequence[Tree]) -> Tree:
    """States of single members, or what else each has, as those of one population, `[K, ...]`."""
    return _stack(list(members))


@jax.jit
def _stack(members: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def member_of(states: TrainState, member: int) -> TrainState:
    """The state of one member of a population, without the leading axis."""
    return _member_of(states, member)


@jax.jit
def _member_of(states: TrainState, member: int) -> TrainState:
    return sharding.gather(jax.tree.map(lambda leaf: leaf[member], states))


TrainPopulation: TypeAlias = Callable[[TrainState, jax.Array, int | jax.Array], tuple[TrainState, Progress]]


def make_train_population(
    algorithm: Algorithm, batch_size: int, binarization: Binarization = "grey", schedule: Schedule | None = None
) -> TrainPopulation:
    """Whole epochs of all members, `(states, data, num_epochs) -> (states, progress)`, by one compiled program.

    Each member shuffles `data` (`[N, ...]`, held once) by its own key. A member whose loss or parameters stop being
    finite keeps the state that it came with, and touches no other.

    Args:
      algorithm: what trains them all.
      batch_size: M.
      binarization: as for `aevb.make_train_epochs`.
      schedule: "side_by_side", each step of all members at once, or "in_turn"; by default what suits the device.

    Returns:
      What trains them; `states` are consumed. Its `progress` has `[K]` losses and first bad steps, and their indices,
      `[K, M]`.

    Raises:
      ValueError: an unknown schedule.
    """
    schedule = schedule or default_schedule()
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule must be one of {get_args(Schedule)}, got {schedule!r}")
    train_epochs = whole_epochs(algorithm, batch_size, binarization)

    @functools.partial(jax.jit, donate_argnums=0)
    def side_by_side(states: TrainState, data: jax.Array, num_epochs: int | jax.Array) -> Any:
        states, progress = jax.vmap(train_epochs, (0, None, None))(states, data, num_epochs)
        return sharding.split(states, sharding.MEMBER), sharding.gather(progress)

    one = keeping_the_last_good_state(jax.jit(train_epochs, donate_argnums=0))

    def in_turn(states: TrainState, data: jax.Array, num_epochs: int | jax.Array) -> Any:
        return stack([one(member_of(states, member), data, num_epochs) for member in range(len(states.step))])

    if schedule == "in_turn" and sharding.axis_size(sharding.MEMBER) == 1:
        return in_turn
    return keeping_the_last_good_state(side_by_side, members=True)


def fit_population(
    model: Model,
    data: np.ndarray | jax.Array,
    *,
    keys: Sequence[jax.Array] | jax.Array,
    hyperparameters: Mapping[str, Sequence[float]] | None = None,
    initial_states: Sequence[TrainState] | None = None,
    schedule: Schedule | None = None,
    test_data: np.ndarray | jax.Array | None = None,
    optimizer: optax.GradientTransformation | None = None,
    algorithm: MakeAlgorithm | None = None,
    num_epochs: int = 50,
    batch_size: int = 100,
    num_samples: int = 1,
    kl: KL = "analytic",
    map_prior: bool = True,
    binarization: Binarization = "grey",
    eval_every: int | Literal["log"] = 1,
    states: Sequence[TrainState] | None = None,
    seconds: float = 0.0,
    on_evaluation: Callable[[int, TrainState, Evaluation], None] | None = None,
    on_pause: Callable[[TrainState, float], None] | None = None,
) -> list[Member]:
    """Trains K members of one model as one program. What is not below is as for `aevb.fit`.

    Args:
      model: what to train.
      data: `[N, ...]`, held once for all.
      keys: K typed keys; member k is what `aevb.fit(key=keys[k])` trains.
      hyperparameters: as for `init_population`.
      initial_states: K states to begin with instead, from `aevb.padding.Padding` say.
      schedule: as for `make_train_population`.
      test_data: `[T, ...]`.
      optimizer: `None` is `paper_optimizer()`.
      algorithm: `None` is `auto_encoding`.
      num_epochs: when to stop.
      batch_size: M.
      num_samples: L.
      kl: which estimator.
      map_prior: includes log p(theta).
      binarization: what the targets are.
      eval_every: epochs between evaluations, or "log".
      states: K states to go on from, all at the same step.
      seconds: the training time that they took, all together.
      on_evaluation: called with the member's number, its state and its `Evaluation`, whose seconds are the
        population's.
      on_pause: called with the population's states, of which `member_of` takes one, and the seconds so far.

    Returns:
      K members. One that diverged says so and is left out from there on; the others do not notice.

    Raises:
      ValueError: an argument out of range, named with its value.
    """
    if isinstance(data, Stream) or isinstance(test_data, Stream):
        raise TypeError("a population trains on data in memory, held once for all members: not on a Stream")
    task = Task.of(model, data, test_data, optimizer, algorithm, batch_size, num_samples, kl, map_prior, binarization)
    check_schedule(num_epochs, eval_every)
    train_keys, eval_keys = zip(*(jax.random.split(key) for key in keys), strict=True)
    watch = _Watch(task, eval_keys, on_evaluation)
    if states is None:
        initial = stack(initial_states) if initial_states else None
        stacked = initial or init_population(task.algorithm, train_keys, hyperparameters)
        watch.look(stacked, seconds)
    else:
        stacked = stack(states)
        if len(steps := np.unique(stacked.step)) > 1:
            raise ValueError(f"the members to go on from are at different steps: {steps.tolist()}")
    stacked = sharding.place(stacked, sharding.MEMBER)
    train = make_train_population(task.algorithm, batch_size, binarization, schedule)
    train_data = task.splits[0]
    assert not isinstance(train_data, Stream)
    stacked, _ = train(stacked, train_data, 0)  # compiled, before seconds count

    def train_all(states: TrainState, num_epochs: int) -> TrainState:
        states, progress = train(states, train_data, num_epochs)
        watch.divergence(states, jax.device_get(progress))  # waits for the device
        return states

    epoch = int(stacked.step[0]) // task.steps_per_epoch
    pauses = on_pause is not None
    for stacked, stretch, arrived in stretches(train_all, stacked, epoch, num_epochs, eval_every, pauses):  # noqa: B020
        seconds += stretch
        if arrived:
            watch.look(stacked, seconds)
        elif on_pause is not None:
            on_pause(stacked, seconds)
        if watch.all_diverged():
            break
    return watch.members(stacked)


class _Watch:
    """Evaluates members one by one, and remembers which of them diverged."""

    def __init__(self, task: Task, keys: Sequence[jax.Array], on_evaluation: Callable | None):
        self._task, self._keys, self._on_evaluation = task, keys, on_evaluation
        self._histories: list[list[Evaluation]] = [[] for _ in keys]
        self._diverged: dict[int, DivergedError] = {}

    def divergence(self, states: TrainState, progress: Progress) -> None:
        for member in np.flatnonzero(progress.first_bad_step >= 0).tolist():
            if member not in self._diverged:
                of_member = Progress(*(values[member] for values in progress))
                self._diverged[member] = self._task.diverged(member_of(states, member), of_member, member)

    def look(self, states: TrainState, seconds: float) -> None:
        for member, key in enumerate(self._keys):
            if member in self._diverged:
                continue
            state = member_of(states, member)
            try:
                row = self._task.look(key, state, seconds, member)
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
