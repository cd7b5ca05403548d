"""A compiled program that trains one configuration, or several that differ in latent size, learning rate and seed."""

import dataclasses
import functools
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import aevb
from aevb.algorithms import ALGORITHMS, MakeAlgorithm, TrainState, bucketed
from aevb.data import Dataset
from aevb.data.rows import rows
from aevb.models.families import takes_images, takes_sequences
from aevb.models.output_bias import start_at_mean
from aevb.training.again import evaluate_again
from aevb.training.divergence import DivergedError
from aevb.training.padding import Padding, padded
from aevb.training.population import fit_population
from experiments import configs
from experiments.configs import Config
from experiments.optimizers import make_optimizer
from experiments.reports.per_step import lengths_of
from experiments.runs import distributed
from experiments.runs.recorder import Follower, Recorder
from experiments.runs.splits import Splits


class Start(NamedTuple):
    """The start of training one configuration.

    Attributes:
      config: the configuration.
      recorder: records its evaluations.
      state: the state to resume from; `None` if the run begins.
    """

    config: Config
    recorder: Recorder | Follower
    state: TrainState | None


class End(NamedTuple):
    """The end of training: the last good state (`None` if there is none), and the error if training diverged."""

    state: TrainState | None
    diverged: DivergedError | None


def programs_of(found: Sequence[Config]) -> list[list[int]]:
    """Return the indices of the configurations, grouped by the program that can train them."""
    programs: dict[str, list[int]] = defaultdict(list)
    for number, config in enumerate(found):
        programs[_program_of(config)].append(number)
    return list(programs.values())


def _program_of(config: Config) -> str:
    """Return a string that is equal for configurations that one program can train."""
    values = configs.flat(config) | {"seed": None}
    if config.optimizer.schedule != "burda":  # which computes the learning rate at every step, for all members
        values["learning_rate"] = None
    # Only plain networks can be padded to a common latent size; other models need one program per size.
    if config.model.name == "mlp" and values["posterior"] == "gaussian" and config.algorithm in ("aevb", "wake_sleep"):
        values["latent_dim"] = None
    return json.dumps(values, sort_keys=True)


def make_algorithm(config: Config, steps_per_epoch: int) -> MakeAlgorithm:
    """Return the training algorithm; only those that maximize the bound use the estimator.

    Raises:
      ValueError: the name is unknown, the estimator would be biased, or an option belongs to another algorithm.
    """
    make: Any = ALGORITHMS.get(config.algorithm)
    objective = config.objective
    if config.algorithm == "aevb":
        estimator = aevb.Estimator(objective.num_samples, objective.kl, objective.gradient, objective.bound)
        weight: Any = 1.0
        if objective.kl_warm_up:
            weight = optax.linear_schedule(objective.kl_start, 1.0, objective.kl_warm_up * steps_per_epoch)
        return functools.partial(make, estimator=estimator, kl_weight=weight, free_bits=objective.free_bits)
    for flag in ("bound", "kl_warm_up", "kl_start", "free_bits"):
        if getattr(objective, flag) != getattr(Config().objective, flag):
            raise ValueError(f"{flag} is for the algorithm aevb, not {config.algorithm}")
    if config.algorithm == "full_vb":
        return functools.partial(make, estimator=aevb.Estimator(objective.num_samples, objective.kl))
    return make


def num_steps(config: Config, num_train: int) -> int:
    """Return the number of minibatches of a whole run, with `num_train` datapoints per epoch."""
    batch_size, wanted = config.optimizer.batch_size, config.training.num_train_samples
    if wanted is None:
        return config.training.num_epochs * (num_train // batch_size)
    return -(-wanted // batch_size)


def _cuts(config: Config, train: Dataset) -> list[int]:
    """Return where minibatches of sequences are cut: the ends of ranges with equally many training sequences."""
    count = config.optimizer.length_buckets
    if count == 1:
        return []
    if not train.is_sequences:
        raise ValueError(f"length_buckets needs sequences, which {train.name} does not hold")
    ends = np.quantile(lengths_of(train), np.arange(1, count + 1) / count, method="higher")
    return sorted({int(end) for end in ends})


class Program:
    """One compiled program and its data."""

    def __init__(self, members: Sequence[Config], splits: Splits, stream: bool = False):
        """Build what all members share.

        Args:
          members: the configurations, which one program can train.
          splits: the data for training and evaluation.
          stream: whether to read the data during training instead of holding them on the device; for one member.
        """
        self._splits, self._stream, self._first = splits, stream, members[0]
        self._num_train = len(splits.train.images)
        self._steps_per_epoch = self._num_train // self._first.optimizer.batch_size
        sizes: list[Any] = [config.model.arguments.get("latent_dim") for config in members]
        self._pads = any(size != sizes[0] for size in sizes)
        largest = configs.change(self._first, latent_dim=max(sizes)) if self._pads else self._first
        self._model = self._built(largest)
        self._make = make_algorithm(self._first, self._steps_per_epoch)
        if cuts := _cuts(self._first, splits.train):
            if stream:
                raise ValueError("--stream does not support length buckets: add --length_buckets=1")
            self._make = bucketed(cuts, self._make)

    def template(self, config: Config) -> TrainState:
        """Return a state with the shapes of a member's own size; this takes a third of a second."""
        return self._initial(config, jax.random.key(0))

    def fit(self, members: Sequence[Start], on_pause: Callable[[TrainState, float], None]) -> list[End]:
        """Train members that are at the same step.

        Args:
          members: members of this program.
          on_pause: called with the state between evaluations, whose leaves are `[K, ...]` unless `is_alone`.
        """
        return [self._fit_one(members[0], on_pause)] if self.is_alone(members) else self._fit_many(members, on_pause)

    def is_alone(self, members: Sequence[Any]) -> bool:
        """Return whether there is one member, trained without padding.

        A member that a kill left behind the others stays padded, since sums round differently without padding.
        """
        return len(members) == 1 and not self._pads

    def evaluate(self, config: Config, state: TrainState, seconds: float) -> aevb.Evaluation:
        """Return the evaluation of a member's state after `seconds` of training."""
        key, optimizer = jax.random.key(config.training.seed), self._optimizer(config)
        settings = {**self._settings(), "optimizer": optimizer}
        return evaluate_again(state, self._data("train"), self._built(config), key=key, seconds=seconds, **settings)

    def own(self, config: Config, state: TrainState) -> TrainState:
        """Return a member's state at its own latent size."""
        padding = self._padding(config)
        return padding.cut(state) if padding else state

    def _fit_one(self, member: Start, on_pause: Callable[[TrainState, float], None]) -> End:
        config, recorder = member.config, member.recorder
        state = distributed.state_of_writer(member.state, lambda: self.template(config))
        try:
            with distributed.mesh():
                result = aevb.fit(
                    self._data("train"),
                    self._built(config),
                    key=jax.random.key(config.training.seed),
                    history=recorder.history,
                    optimizer=self._optimizer(config),
                    state=state,
                    seconds=recorder.seconds,
                    on_evaluation=recorder,
                    on_pause=on_pause,
                    **self._settings(),
                )
        except DivergedError as error:
            return End(None, error)
        return End(result.state, None)

    def _fit_many(self, members: Sequence[Start], on_pause: Callable[[TrainState, float], None]) -> list[End]:
        keys = [jax.random.key(member.config.training.seed) for member in members]
        states = []
        for (config, _, state), key in zip(members, keys, strict=True):
            # Initialized with the first half of the split key and compiled, as in `aevb.fit`.
            state = self._initial(config, jax.random.split(key)[0]) if state is None else state
            padding = self._padding(config)
            states.append(padding.pad(state) if padding else state)

        def record(index: int, state: TrainState, row: aevb.Evaluation) -> None:
            config, recorder, _ = members[index]
            assert isinstance(recorder, Recorder)
            recorder.record(self.own(config, state), row)

        optimizer = self._optimizer(self._first)
        found = fit_population(
            self._data("train"),
            self._model,
            keys=keys,
            optimizer=padded(optimizer, self._model) if self._pads else optimizer,
            seconds=max(member.recorder.seconds for member in members),
            on_evaluation=record,
            on_pause=on_pause,
            **{"initial_states" if members[0].state is None else "states": states},
            **self._settings(),
        )
        return [
            End(self.own(member.config, ended.result.state), ended.diverged)
            for member, ended in zip(members, found, strict=True)
        ]

    def _settings(self) -> dict[str, Any]:
        """Return the arguments that `fit` and `fit_population` share."""
        config = self._first
        steps = num_steps(config, self._num_train)
        epochs, rest = divmod(steps, self._steps_per_epoch) if self._steps_per_epoch else (0, 0)
        return {
            "algorithm": self._make,
            "test_data": self._data("test"),
            "valid_data": self._data("valid"),
            "patience": config.training.patience,
            # Baselines report the bound too, and have no estimator of their own.
            "evaluation": aevb.Estimator(
                config.objective.num_samples,
                config.objective.reported_kl or config.objective.kl,
                bound=config.objective.bound,
            ),
            # For paths they would take 32 more draws per sequence at every evaluation, most of its cost.
            "active_units": not takes_sequences(config.model.name),
            "batch_size": config.optimizer.batch_size,
            "map_prior": config.objective.map_prior,
            "binarization": config.objective.binarization,
            "eval_every": config.training.eval_every,
            **({"num_steps": steps} if rest else {"num_epochs": epochs}),
        }

    def _data(self, split: str) -> Any:
        data = getattr(self._splits, split)
        if data is None:
            return None
        flat = not takes_images(self._first.model.name)
        if self._stream:
            return data.stream(flat, self._first.data.condition)
        # One process holds all datapoints; several processes read only those that they need.
        return data.datapoints(flat, self._first.data.condition, lazy=distributed.process_count() > 1)

    def _initial(self, config: Config, key: jax.Array) -> TrainState:
        algorithm = self._make(
            self._built(config), self._optimizer(config), self._num_train, config.objective.map_prior
        )
        return jax.jit(algorithm.init)(key, *self._datapoint())

    def _datapoint(self) -> tuple:
        """Return the arguments of `Algorithm.init` after the key: one datapoint, if the model needs its shapes."""
        if self._first.data.condition == "none":
            return ()
        flat = not takes_images(self._first.model.name)
        lazy = self._splits.train.datapoints(flat, self._first.data.condition, lazy=True)
        return (rows(lazy, 0),)

    def _optimizer(self, config: Config) -> optax.GradientTransformation:
        options = dataclasses.asdict(config.optimizer)
        for other in ("output_bias", "batch_size", "length_buckets"):
            del options[other]
        return make_optimizer(
            **options, steps_per_epoch=self._steps_per_epoch, num_steps=num_steps(config, self._num_train)
        )

    def _built(self, config: Config) -> aevb.Model:
        """Return the model with the requested initial weights."""
        model = config.build_model()
        if config.optimizer.output_bias == "weight_init":
            return model
        if config.model.arguments["likelihood"] != "bernoulli":
            raise ValueError("output_bias=data_mean is the log-odds of pixels, which needs likelihood=bernoulli")
        return start_at_mean(model, self._mean)

    @functools.cached_property
    def _mean(self) -> np.ndarray:
        """The mean training image in the shape that the model takes; for sequences, the mean of all steps, `[D]`."""
        if self._splits.train.is_sequences:
            return np.asarray(np.nanmean(self._splits.train.sequences(), axis=(0, 1), dtype=np.float64))
        images = self._splits.train.pixels(flat=not takes_images(self._first.model.name))
        return np.asarray(np.mean(images, axis=0, dtype=np.float64))

    def _padding(self, config: Config) -> Padding | None:
        return Padding(self._optimizer(config), self._built(config), self._model) if self._pads else None
