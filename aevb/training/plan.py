"""What is trained on what, and how it is evaluated: what single runs and populations share."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb.algorithms.base import Algorithm, MakeAlgorithm, Progress, TrainState
from aevb.arguments import check_optimizer, describe
from aevb.data.binarization import Binarization, possible_targets
from aevb.data.rows import num_rows, rows
from aevb.data.stream import Stream
from aevb.evaluation import Bound, non_finite_datapoints, start_evaluation
from aevb.model import Datapoint, Given, Model, Params, check_model
from aevb.objectives import Estimator, check_estimator
from aevb.support import check_data
from aevb.training.divergence import DivergedError, restoring, watching_parameters
from aevb.training.epochs import MinibatchStep, compiled_epochs, minibatch_step
from aevb.training.inputs import check_sizes, check_state, make_algorithm, prepare
from aevb.training.optimizers import paper_optimizer
from aevb.training.streaming import compile_streamed_epochs
from aevb.training.timetable import EvalEvery, check_timetable

NAN = math.nan

TrainSome = Callable[[TrainState, int], TrainState]
"""`(state, num_epochs) -> state`."""


class Evaluation(NamedTuple):
    """One row of a training history. Bounds are in nats per datapoint over whole splits, and never weighted.

    Attributes:
      epoch: epochs done.
      num_train_samples: datapoints seen, with repetition: the horizontal axis of Figure 2.
      train_elbo: the bound on the training data; NaN where the algorithm trains no recognition model, as for all below.
      test_elbo: the bound on the test data; NaN where there are none, as for the two below.
      test_reconstruction: its first term.
      test_kl: its second term.
      active_units: latent dimensions in use, on the test data, or on the training data where there are none; `None`
        where they are not counted.
      seconds: spent training so far, without compilation and evaluation.
      test_kl_by_level: the second term by level of latents, summed over the steps of a path.
      active_units_by_level: the active units of each level.
      train_iwae: the importance weighted bound on the training data; NaN unless the estimator is of that bound.
      test_iwae: the same on the test data.
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


class TrainingSettings(TypedDict, total=False):
    """The arguments of `fit` that say what is trained and how, by name. `fit` documents them."""

    test_data: Any
    optimizer: optax.GradientTransformation | None
    algorithm: MakeAlgorithm | None
    estimator: Estimator | None
    evaluation: Estimator | None
    num_epochs: int
    batch_size: int
    map_prior: bool
    binarization: Binarization
    eval_every: EvalEvery
    active_units: bool | None


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What is trained on what.

    Attributes:
      model: what is trained.
      algorithm: what is done with a minibatch.
      splits: the training data, leaves `[N, ...]`, and, where there are any, the test data, after `binarize_once`; or
        streams.
      batch_size: M.
      binarization: what the targets are.
      num_epochs: when to stop.
      eval_every: as for `fit`.
      evaluation: how the reported bound is estimated.
      active_units: as for `evaluate`.
    """

    model: Model
    algorithm: Algorithm
    splits: list[Any]
    batch_size: int
    binarization: Binarization
    num_epochs: int
    eval_every: EvalEvery
    evaluation: Estimator
    active_units: bool | None

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
        num_epochs: int = 50,
        batch_size: int = 100,
        map_prior: bool = True,
        binarization: Binarization = "grey",
        eval_every: EvalEvery = 1,
        active_units: bool | None = None,
    ) -> "TrainingPlan":
        """Check the arguments of `fit` and assemble them."""
        check_model(model)
        check_timetable(num_epochs, eval_every)
        check_estimator(estimator)
        check_estimator(evaluation, "evaluation")
        check_sizes(data, test_data, batch_size)
        optimizer = paper_optimizer() if optimizer is None else optimizer
        check_optimizer(optimizer)
        made = make_algorithm(algorithm, estimator)(model, optimizer, num_rows(data), map_prior)
        if not isinstance(made, Algorithm):
            raise TypeError(f"algorithm must make an aevb.Algorithm, got {describe(made)}")
        splits = [prepare(split, binarization) for split in (data, test_data) if split is not None]
        evaluation = evaluation or made.estimator
        numbers = int(batch_size), int(num_epochs), eval_every if isinstance(eval_every, str) else int(eval_every)
        return cls(model, made, splits, numbers[0], binarization, *numbers[1:], evaluation, active_units)

    @property
    def steps_per_epoch(self) -> int:
        """N // M."""
        return num_rows(self.splits[0]) // self.batch_size

    @functools.cached_property
    def step(self) -> MinibatchStep:
        """What is done with a minibatch, `(state, xs, indices) -> (state, loss)`."""
        return minibatch_step(self.algorithm, self.binarization)

    @functools.cached_property
    def _datapoint(self) -> Datapoint:
        """One datapoint, for its shapes."""
        data = self.splits[0]
        if not isinstance(data, Stream):
            return rows(data, 0)
        return rows(data.intensities(data.read(np.zeros(1, np.int32)), self.binarization), 0)

    @functools.cached_property
    def _init(self) -> Any:
        return jax.jit(self.algorithm.init)

    def init(self, key: jax.Array) -> TrainState:
        """Return the initial state, made by one compiled program."""
        return self._init(*self._init_arguments(key))

    def check(self, key: jax.Array, state: TrainState | None = None) -> bool:
        """Check data, model and algorithm against each other before a program is compiled.

        The data come first. Then a step is traced.

        Args:
          key: any typed key.
          state: to go on from; `None` to begin with the initial one.

        Returns:
          Whether `check_values` has more to look at once there is an initial state.

        Raises:
          ValueError: data lie outside of the likelihood's support (of a `Stream`, in its first block), or as for the
            model, the algorithm or the estimator.
          TypeError: as for the model, the algorithm or the estimator.
        """
        initial = self._init.eval_shape(*self._init_arguments(key))
        if state is not None:
            check_state(state, initial)
        is_complete = self.check_values(initial if state is None else state, key)
        jax.eval_shape(self.step, initial, self._minibatch, jax.ShapeDtypeStruct((self.batch_size,), jnp.int32))
        return not is_complete

    def check_values(self, state: TrainState, key: jax.Array) -> bool:
        """Check the data against the parameters of a state, or against their shapes alone, as `check_data` does."""
        params = self._evaluated_params(state, key)
        complete = []
        for name, split in zip(("data", "test_data"), self.splits, strict=False):
            if isinstance(split, Stream):
                first = split.read(np.arange(min(split.block_size, len(split))))
                split = split.intensities(first, self.binarization)
            complete.append(check_data(params, split, self.model, name, possible_targets(self.binarization)))
        return all(complete)

    @property
    def _minibatch(self) -> Datapoint:
        """The shapes of a minibatch."""
        shape = lambda leaf: jax.ShapeDtypeStruct((self.batch_size, *leaf.shape), leaf.dtype)
        return jax.tree.map(shape, self._datapoint)

    def _are_missing(self, indices: list[int]) -> bool:
        data = self.splits[0]
        if isinstance(data, Stream):
            return False
        first = jax.tree.leaves(rows(data, np.asarray(indices[:1])))
        return any(np.isnan(leaf).any() for leaf in first if jnp.issubdtype(leaf.dtype, jnp.floating))

    def _init_arguments(self, key: jax.Array) -> tuple:
        return (key, self._datapoint) if isinstance(self._datapoint, Given) else (key,)

    def _evaluated_params(self, state: TrainState, key: jax.Array) -> Params:
        evaluated_params = self.algorithm.evaluated_params
        if evaluated_params is None:
            return state.params
        has_shapes_alone = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state.params))
        return (jax.eval_shape if has_shapes_alone else _call)(evaluated_params, state.params, key)

    def compile(self, state: TrainState, on_block: Callable[[TrainState, float], None]) -> TrainSome:
        """Return `(state, num_epochs) -> state`, compiled, that waits for the device and raises `DivergedError`.

        Args:
          state: like those that will be trained.
          on_block: called in the middle of an epoch of a `Stream`, with the state and the seconds since the call.
        """
        train_epochs = self._compile(state, on_block)

        def train(state: TrainState, num_epochs: int) -> TrainState:
            state, progress = train_epochs(state, num_epochs)
            if int(progress.first_bad_step) >= 0:
                raise self.diverged(state, progress)
            return state

        return train

    def diverged(self, last_good: TrainState, progress: Progress, member: int | None = None) -> DivergedError:
        """Find out what went wrong first, by training again from the last good state with an eye on every parameter.

        Only losses are looked at while all is well, and a gradient that is not finite shows in the next step's. This
        takes at most as long as the training from `last_good` did, and a compilation.

        Args:
          last_good: the state before it happened; consumed.
          progress: what the epochs from there reported.
          member: which one of a population.
        """
        first, last = (int(step) // self.steps_per_epoch for step in (last_good.step, progress.first_bad_step))
        watchful = dataclasses.replace(self, algorithm=watching_parameters(self.algorithm))
        _, again = watchful._compile(last_good, None)(last_good, last - first + 1)
        # Two programs need not round alike: what overflows in one need not in the other.
        found = again if int(again.first_bad_step) >= 0 else progress
        return DivergedError.at(int(found.first_bad_step), np.asarray(found.indices).tolist(), member)

    def evaluate(self, key: jax.Array, state: TrainState, seconds: float, member: int | None = None) -> Evaluation:
        """Return the bounds of the training split and, where there is one, the test split.

        Raises:
          DivergedError: the bound of the training split is not finite.
        """
        return self.start_evaluation(key, state, seconds, member)()

    def start_evaluation(
        self, key: jax.Array, state: TrainState, seconds: float, member: int | None = None, check_values: bool = False
    ) -> Callable[[], Evaluation]:
        """Start an evaluation and return a function that waits for its result. `check_values` is for streams."""
        step = int(state.step)
        epoch = step // self.steps_per_epoch
        counts = (epoch, step * self.batch_size)
        if self.algorithm.evaluated_params is None:
            return lambda: Evaluation(*counts, NAN, NAN, NAN, NAN, None, seconds)
        *keys, params_key = _evaluation_keys(key, epoch)
        params = self.algorithm.evaluated_params(state.params, params_key)
        settings: Any = {
            "model": self.model,
            "estimator": self.evaluation,
            "binarization": self.binarization,
            "active_units": self.active_units,
        }
        bounds = [
            start_evaluation(params, key, split, check_values=check_values and isinstance(split, Stream), **settings)
            for key, split in zip(keys, self.splits, strict=False)
        ]

        def finish() -> Evaluation:
            train, *test = (bound() for bound in bounds)
            if not np.isfinite(train.elbo):
                indices = non_finite_datapoints(params, keys[0], self.splits[0], **settings)
                raise DivergedError.in_evaluation(step, train.elbo, indices, member, self._are_missing(indices))
            return _row(counts, train, test[0] if test else None, seconds)

        return finish

    def _compile(self, state: TrainState, on_block: Callable[[TrainState, float], None] | None) -> Any:
        """Return `(state, num_epochs) -> (state, progress)` that restores the last good state."""
        data = self.splits[0]
        if isinstance(data, Stream):
            streamed = (self.batch_size, state, data, self.binarization, on_block)
            return restoring(compile_streamed_epochs(self.step, *streamed))
        if state.shuffle_key is not None:
            raise ValueError(f"the state is in the middle of an epoch, at step {int(state.step)}: go on with a Stream")
        train_epochs = compiled_epochs(self.step, self.batch_size)
        compiled: Any = train_epochs
        if not jax.config.values["jax_disable_jit"]:
            compiled = train_epochs.lower(state, data, 1).compile()
        return restoring(lambda state, num_epochs: compiled(state, data, num_epochs))


# Programs, because each operation on keys by itself is one too, of 20 ms at every start.
@jax.jit
def key_pair(key: jax.Array) -> tuple[jax.Array, ...]:
    """Return the keys of training and of evaluation."""
    return tuple(jax.random.split(key))


@jax.jit
def _evaluation_keys(key: jax.Array, epoch: int | jax.Array) -> tuple[jax.Array, ...]:
    """Return the keys of the training split, the test split and the parameters."""
    return tuple(jax.random.split(jax.random.fold_in(key, epoch), 3))


def _row(counts: tuple[int, int], train: Bound, test: Bound | None, seconds: float) -> Evaluation:
    shown = test or train  # active units are those of the training data where there are no others
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
    )


def _call(function: Callable, *arguments: Any) -> Any:
    return function(*arguments)
