"""The states of a population and the programs that train them.

Every array in a population's `TrainState` has a leading axis of members, `[K, ...]`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb import sharding
from aevb.algorithms.base import Algorithm, Progress, TrainState
from aevb.arguments import check_choice
from aevb.data.binarization import Binarization
from aevb.training.divergence import restoring
from aevb.training.epochs import TrainEpochs, minibatch_step, part_of_epoch, whole_epochs
from aevb.training.pieces import Programs, begin_epoch
from aevb.training.timetable import Remaining

Execution: TypeAlias = Literal["side_by_side", "in_turn"]
"""How one program trains the members: each step for all of them at once, or one member after another."""

Tree = TypeVar("Tree")


def default_execution() -> Execution:
    """Return the best execution for the default device (RESULTS.md).

    On a GPU, small networks are limited by kernel launches, and side by side the kernels are launched once for all
    members: 30 members take the time of 6. A TPU runs a step of one member as one program and gains only a tenth, by
    its compiler's cycle count; members run side by side there so that there is one program. The caches of a CPU hold
    one member but not eight.
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
      algorithm: the algorithm that trains all members.
      keys: K typed keys, one per member.
      hyperparameters: K values per hyperparameter, for example `{"learning_rate": [0.01, 0.02]}`. The optimizer must
        keep the hyperparameter in its state, as `paper_optimizer` and `optax.inject_hyperparams` do.
      x: one datapoint, for algorithms whose `init` needs it.

    Raises:
      ValueError: the optimizer does not keep a hyperparameter, or there are not K values.
    """
    states = []
    init = jax.jit(algorithm.init)  # compiled, as in `fit`: uncompiled, the same numbers may be rounded differently
    for member, key in enumerate(keys):
        state = init(key) if x is None else init(key, x)
        values = {name: _of_member(name, of, member, len(keys)) for name, of in (hyperparameters or {}).items()}
        states.append(state._replace(optimizer_state=_with_hyperparameters(state.optimizer_state, values)))
    return stack(states)


def stack(members: Sequence[Tree]) -> Tree:
    """Stack the states or other pytrees of single members into those of a population, `[K, ...]`."""
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
    """Compile whole epochs of all members, `(states, data, num_epochs) -> (states, progress)`, as one program.

    Each member shuffles `data` (leaves `[N, ...]`, held once) with its own key. A member whose loss or parameters
    become non-finite returns to the state it had before the call and does not affect the others.

    Args:
      algorithm: the algorithm that trains all members.
      batch_size: M.
      binarization: as for `aevb.make_train_epochs`.
      execution: "side_by_side" or "in_turn"; by default the best for the device.

    Returns:
      The training function, which consumes `states`. Its `progress` has losses and first bad steps `[K]`, and indices
      `[K, M]`.

    Raises:
      ValueError: the execution is unknown.
    """
    return _of_members(whole_epochs(minibatch_step(algorithm, binarization), batch_size, algorithm.bucket), execution)


def population_programs(
    algorithm: Algorithm, batch_size: int, binarization: Binarization, execution: Execution | None, data: Any
) -> Programs:
    """Return the programs, for `pieces`, that train K members on `data`. Arguments as for `make_train_population`."""
    whole = make_train_population(algorithm, batch_size, binarization, execution)
    part = _of_members(part_of_epoch(minibatch_step(algorithm, binarization), batch_size, algorithm.bucket), execution)
    return Programs(
        _begin_epochs,
        lambda states, num_epochs: whole(states, data, num_epochs),
        lambda states, first, last: part(states, data, first, last),
    )


def compiled(programs: Programs, states: TrainState, left: Remaining) -> TrainState:
    """Compile the programs that `left` needs, by calling them for zero epochs. Consume `states` and return them."""
    if left.has_parts:
        programs.part(programs.begin(states), np.int32(0), np.int32(0))
    if not left.has_whole_epochs:
        return states
    after, _ = programs.whole(states._replace(shuffle_key=None), 0)
    return after._replace(shuffle_key=states.shuffle_key)


def _of_members(
    train: Callable[..., tuple[TrainState, Progress]], execution: Execution | None
) -> Callable[..., tuple[TrainState, Progress]]:
    """Return `train`, `(state, data, *counts) -> (state, progress)`, for all members; diverging ones are restored."""
    execution = execution or default_execution()
    check_choice("execution", execution, get_args(Execution))

    one = restoring(jax.jit(train, donate_argnums=0))

    def in_turn(states: TrainState, data: Any, *counts: int | jax.Array) -> Any:
        return stack([one(member_of(states, member), data, *counts) for member in range(len(states.step))])

    if execution == "in_turn" and sharding.axis_size(sharding.MEMBER) == 1:
        return in_turn
    return restoring(side_by_side(train), members=True)


def side_by_side(train: Callable[..., tuple[TrainState, Progress]]) -> jax.stages.Wrapped:
    """Compile `train`, `(state, data, *counts) -> (state, progress)`, for all members at once, donating the states."""

    @functools.partial(jax.jit, donate_argnums=0)
    def train_all(states: TrainState, data: Any, *counts: int | jax.Array) -> Any:
        states, progress = jax.vmap(train, (0, None, *(None for _ in counts)))(states, data, *counts)
        return sharding.split(states, sharding.MEMBER), sharding.gather(progress)

    return train_all


@jax.jit
def _begin_epochs(states: TrainState) -> TrainState:
    return sharding.split(jax.vmap(begin_epoch)(states), sharding.MEMBER)


def _of_member(name: str, values: Sequence[float], member: int, size: int) -> float:
    if len(values) != size:
        raise ValueError(f"{name} must have a value for each of {size} members, got {len(values)}")
    return values[member]


def _with_hyperparameters(optimizer_state: Any, values: Mapping[str, float]) -> Any:
    for name, value in values.items():
        found = optax.tree.get(optimizer_state, name)
        if found is None:
            raise ValueError(f"the optimizer keeps no {name!r} in its state: make it with optax.inject_hyperparams")
        optimizer_state = optax.tree.set(optimizer_state, **{name: jnp.asarray(value, found.dtype)})
    return optimizer_state
