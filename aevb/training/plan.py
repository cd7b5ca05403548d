"""The plan of a training run, shared by single runs and populations: model, data, algorithm and evaluation."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb.algorithms.base import Algorithm, MakeAlgorithm, Progress, TrainState
from aevb.arguments import check_optimizer, describe
from aevb.data.binarization import Binarization, possible_targets
from aevb.data.rows import num_rows, rows
from aevb.data.stream import Stream
from aevb.evaluation import non_finite_datapoints, start_evaluation
from aevb.model import Datapoint, Given, Model, Params, check_model, row_template
from aevb.objectives import Estimator, check_estimator
from aevb.support import check_data
from aevb.training.divergence import DivergedError, restoring, watching_parameters
from aevb.training.epochs import MinibatchStep, minibatch_step
from aevb.training.history import NAN, Evaluation, check_patience, row_of
from aevb.training.inputs import check_sizes, check_state, make_algorithm, prepare
from aevb.training.keys import evaluation_keys
from aevb.training.optimizers import paper_optimizer
from aevb.training.pieces import compile_resident_epochs
from aevb.training.streaming import compile_streamed_epochs
from aevb.training.timetable import EvalEvery, Remaining, check_timetable

NUM_EPOCHS = 50  # if neither `num_epochs` nor `num_steps` is given


class TrainingSettings(TypedDict, total=False):
    """The keyword arguments of `fit` that define a training run. `fit` documents them."""

    test_data: Any
    valid_data: Any
    patience: int | None
    optimizer: optax.GradientTransformation | None
    algorithm: MakeAlgorithm | None
    estimator: Estimator | None
    evaluation: Estimator | None
    num_epochs: int | None
    num_steps: int | None
    batch_size: int
    map_prior: bool
    binarization: Binarization
    eval_every: EvalEvery
    active_units: bool | None


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """The checked arguments of a training run.

    Attributes:
      model: the model to train.
      algorithm: the algorithm, which defines the step on a minibatch.
      splits: the data by split, "train" and, if given, "test" and "valid": leaves `[N, ...]` after `binarize_once`, or
        streams.
      batch_size: M.
      binarization: how targets are made.
      num_epochs: the number of epochs, unless `num_steps` is given.
      num_steps: the number of minibatches, or `None`.
      eval_every: as for `fit`.
      evaluation: the estimator of the reported bound.
      active_units: as for `evaluate`.
      patience: as for `fit`.
    """

    model: Model
    algorithm: Algorithm
    splits: dict[str, Any]
    batch_size: int
    binarization: Binarization
    num_epochs: int
    num_steps: int | None
    eval_every: EvalEvery
    evaluation: Estimator
    active_units: bool | None
    patience: int | None

    @classmethod
    def of(
        cls,
        data: Any,
        model: Model,
        test_data: Any = None,
        optimizer: optax.GradientTransformation | None = None,
        algorithm: MakeAlgorithm | None = None,
        estimator: Estimator | None = None,
        evaluation: Estimator | None = None,
        num_epochs: int | None = None,
        batch_size: int = 100,
        map_prior: bool = True,
        binarization: Binarization = "grey",
        eval_every: EvalEvery = 1,
        active_units: bool | None = None,
        valid_data: Any = None,
        patience: int | None = None,
        num_steps: int | None = None,
    ) -> "TrainingPlan":
        """Check the arguments of `fit` and make a plan of them."""
        check_model(model)
        check_timetable(num_epochs, num_steps, eval_every)
        check_estimator(estimator)
        check_estimator(evaluation, "evaluation")
        check_patience(patience, valid_data)
        check_sizes(data, batch_size, test_data=test_data, valid_data=valid_data)
        optimizer = paper_optimizer() if optimizer is None else optimizer
        check_optimizer(optimizer)
        made = make_algorithm(algorithm, estimator)(model, optimizer, num_rows(data), map_prior)
        if not isinstance(made, Algorithm):
            raise TypeError(f"algorithm must return an aevb.Algorithm, got {describe(made)}")
        if made.bucket is not None and isinstance(data, Stream):
            raise TypeError("length buckets need data in memory, whose lengths are all known, got a Stream")
        splits = {"train": data, "test": test_data, "valid": valid_data}
        splits = {name: prepare(split, binarization) for name, split in splits.items() if split is not None}
        evaluation = evaluation or made.estimator
        num_epochs = NUM_EPOCHS if num_epochs is None else int(num_epochs)
        num_steps, patience = (None if count is None else int(count) for count in (num_steps, patience))
        ends = num_epochs, num_steps, eval_every if isinstance(eval_every, str) else int(eval_every)
        return cls(model, made, splits, int(batch_size), binarization, *ends, evaluation, active_units, patience)

    @property
    def train_data(self) -> Any:
        """The training split."""
        return self.splits["train"]

    @property
    def steps_per_epoch(self) -> int:
        """N // M."""
        return num_rows(self.train_data) // self.batch_size

    def remaining(self, state: TrainState) -> Remaining:
        """Return what is left to train after `state`, for a population the state of one member."""
        return Remaining.of(state, self.steps_per_epoch, self.num_epochs, self.num_steps)

    @functools.cached_property
    def step(self) -> MinibatchStep:
        """The step on a minibatch, `(state, xs, indices) -> (state, loss)`."""
        return minibatch_step(self.algorithm, self.binarization)

    @functools.cached_property
    def _first_row(self) -> Datapoint:
        """The first datapoint with a leading axis, used for its shapes."""
        data, first = self.train_data, np.zeros(1, np.int32)
        return data.intensities(data.read(first), self.binarization) if isinstance(data, Stream) else rows(data, first)

    @functools.cached_property
    def _init(self) -> Any:
        return jax.jit(self.algorithm.init)

    def init(self, key: jax.Array) -> TrainState:
        """Return the initial state, computed by one compiled program."""
        return self._init(*self._init_arguments(key))

    def check(self, key: jax.Array, state: TrainState | None = None) -> bool:
        """Check data, model and algorithm against each other before a program is compiled.

        First the data are checked, then a step is traced.

        Args:
          key: any typed key.
          state: the state to resume from; `None` to begin with the initial one.

        Returns:
          Whether `check_values` has more to check once there is an initial state.

        Raises:
          ValueError: data (of a `Stream`, its first block) lie outside the likelihood's support; or as for the model,
            the algorithm or the estimator.
          TypeError: as for the model, the algorithm or the estimator.
        """
        initial = self._init.eval_shape(*self._init_arguments(key))
        if state is not None:
            check_state(state, initial)
        is_complete = self.check_values(initial if state is None else state, key)
        jax.eval_shape(self.step, initial, self._minibatch, jax.ShapeDtypeStruct((self.batch_size,), jnp.int32))
        return not is_complete

    def check_values(self, state: TrainState, key: jax.Array) -> bool:
        """Check the data against the parameters of a state, or only their shapes, as `check_data` does."""
        params = self._evaluated_params(state, key)
        complete = []
        for split_name, split in self.splits.items():
            name = "data" if split_name == "train" else f"{split_name}_data"
            if isinstance(split, Stream):
                first = split.read(np.arange(min(split.block_size, len(split))))
                split = split.intensities(first, self.binarization)
            complete.append(check_data(params, split, self.model, name, possible_targets(self.binarization)))
        return all(complete)

    @property
    def _minibatch(self) -> Datapoint:
        """The shapes of a minibatch."""
        return row_template(self._first_row, (self.batch_size,))

    @staticmethod
    def _are_missing(data: Datapoint | Stream, indices: list[int]) -> bool:
        if isinstance(data, Stream):
            return False
        first = jax.tree.leaves(rows(data, np.asarray(indices[:1])))
        return any(np.isnan(leaf).any() for leaf in first if jnp.issubdtype(leaf.dtype, jnp.floating))

    def _init_arguments(self, key: jax.Array) -> tuple:
        return (key, rows(self._first_row, 0)) if isinstance(self._first_row, Given) else (key,)

    def _evaluated_params(self, state: TrainState, key: jax.Array) -> Params:
        evaluated_params = self.algorithm.evaluated_params
        if evaluated_params is None:
            return state.params
        has_shapes_alone = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state.params))
        return (jax.eval_shape if has_shapes_alone else _call)(evaluated_params, state.params, key)

    def compile(self, state: TrainState, on_block: Callable[[TrainState, float], None]) -> Callable[..., TrainState]:
        """Compile training and return `(state, num_epochs, num_steps=0) -> state`.

        The returned function waits for the result and may raise `DivergedError`. An epoch in progress counts as the
        first of `num_epochs`. `num_steps` is the number of minibatches of one more epoch after them.

        Args:
          state: a state with the structure and shapes of those to be trained.
          on_block: called after each block of a `Stream` within an epoch, with the state and the seconds since the
            call.
        """
        train_some = self._compile(state, on_block)

        def train(state: TrainState, num_epochs: int, num_steps: int = 0) -> TrainState:
            state, progress = train_some(state, num_epochs, num_steps)
            if int(progress.first_bad_step) >= 0:
                raise self.diverged(state, progress)
            return state

        return train

    def diverged(self, last_good: TrainState, progress: Progress, member: int | None = None) -> DivergedError:
        """Find the first bad step by training again from the last good state while checking every parameter.

        Regular training checks only losses, in which a non-finite gradient shows one step late. This takes about as
        long as the training from `last_good` to the end of the bad epoch, plus a compilation.

        Args:
          last_good: the last good state; consumed.
          progress: the progress reported by the epochs from there.
          member: the member's number in a population.
        """
        first, last = (int(step) // self.steps_per_epoch for step in (last_good.step, progress.first_bad_step))
        watched = watching_parameters(self.algorithm)
        watchful = dataclasses.replace(self, algorithm=watched, num_epochs=last + 1, num_steps=None)
        _, again = watchful._compile(last_good, None)(last_good, last - first + 1)
        # Two programs may round differently: an overflow in one may not occur in the other.
        found = again if 0 <= int(again.first_bad_step) <= int(progress.first_bad_step) else progress
        return DivergedError.at(int(found.first_bad_step), np.asarray(found.indices).tolist(), member)

    def evaluate(self, key: jax.Array, state: TrainState, seconds: float, member: int | None = None) -> Evaluation:
        """Return the bounds of the training split and, if given, of the validation and test splits.

        Raises:
          DivergedError: the bound of a split is not finite.
        """
        return self.start_evaluation(key, state, seconds, member)()

    def start_evaluation(
        self, key: jax.Array, state: TrainState, seconds: float, member: int | None = None, check_values: bool = False
    ) -> Callable[[], Evaluation]:
        """Start an evaluation and return a function that waits for its result. `check_values` applies to streams."""
        step = int(state.step)
        epoch, num_steps = divmod(step, self.steps_per_epoch)
        counts = (epoch, step * self.batch_size)
        if self.algorithm.evaluated_params is None:
            return lambda: Evaluation(*counts, NAN, NAN, NAN, NAN, None, seconds)
        keys = evaluation_keys(key, epoch, 0 if state.shuffle_key is None else num_steps)
        params = self.algorithm.evaluated_params(state.params, keys["params"])
        settings: Any = {
            "model": self.model,
            "estimator": self.evaluation,
            "binarization": self.binarization,
            "active_units": self.active_units,
        }
        bounds = {
            name: start_evaluation(
                params, keys[name], split, check_values=check_values and isinstance(split, Stream), **settings
            )
            for name, split in self.splits.items()
        }

        def finish() -> Evaluation:
            found = {name: bound() for name, bound in bounds.items()}
            for name, bound in found.items():
                if not np.isfinite(bound.elbo):
                    indices = non_finite_datapoints(params, keys[name], self.splits[name], **settings)
                    missing = self._are_missing(self.splits[name], indices)
                    raise DivergedError.in_evaluation(step, bound.elbo, indices, member, missing, name)
            return row_of(counts, found, seconds)

        return finish

    def _compile(self, state: TrainState, on_block: Callable[[TrainState, float], None] | None) -> Any:
        """Return `(state, num_epochs, num_steps=0) -> (state, progress)`, which restores the last good state."""
        data = self.train_data
        if isinstance(data, Stream):
            streamed = (self.batch_size, state, data, self.binarization, on_block)
            return restoring(compile_streamed_epochs(self.step, *streamed))
        sizes = (self.steps_per_epoch, self.remaining(state), self.algorithm.bucket)
        return compile_resident_epochs(self.step, self.batch_size, state, data, *sizes)


def _call(function: Callable, *arguments: Any) -> Any:
    return function(*arguments)
