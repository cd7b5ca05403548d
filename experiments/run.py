"""The one run loop: a configuration in, a run folder out."""

import functools
import math
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

import aevb
from aevb.checkpoints import FORMAT_VERSION, Checkpoints
from aevb.datasets import Dataset
from aevb.full_vb import posterior_mean
from aevb.model import Model
from aevb.objectives import KL, Gradient
from aevb.training import DivergedError, Evaluation, MakeAlgorithm, TrainState, check_learning_rate
from experiments.reporting import Reporter, TensorBoard, progress
from experiments.run_folder import RunFolder

OPTIMIZERS = {
    "adagrad": functools.partial(optax.adagrad, initial_accumulator_value=0.0),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}

SCHEDULES = ("constant", "burda")

ALGORITHMS = ("aevb", "wake_sleep", "monte_carlo_em", "full_vb")


class Streaming(NamedTuple):
    """How a run reads its data while it trains.

    Attributes:
      save_seconds: between checkpoints in mid-epoch.
    """

    save_seconds: float


def make_config(dataset: Dataset, model: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What config.json holds: everything that decides the numbers of a run, and nothing else."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.name,
        "split_rule": dataset.split_rule,
        **({"num_train_images": dataset.subset_size} if dataset.subset_size else {}),
        "model": {"data_shape": [math.prod(dataset.image_shape)], **model},
        "training": training,
    }


def make_optimizer(
    name: str,
    learning_rate: float,
    schedule: str = "constant",
    steps_per_epoch: int = 1,
    epsilon: float | None = None,
) -> optax.GradientTransformation:
    """An optimizer by its name in `OPTIMIZERS`.

    Args:
      name: of the optimizer.
      learning_rate: step size, under a schedule the first one.
      schedule: "constant", or "burda": times 10^(-i/7) for 3^i epochs, i = 0, 1, 2... (Burda et al. 2016).
      steps_per_epoch: N // M.
      epsilon: what the denominator of the adaptive ones is kept from zero by; `None` is optax's default.

    Raises:
      ValueError: an unknown name or a step size out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {tuple(OPTIMIZERS)}, got {name!r}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")
    check_learning_rate(learning_rate)
    if epsilon is not None and name == "sgd":
        raise ValueError("epsilon is for adaptive optimizers, not sgd")
    rate = learning_rate if schedule == "constant" else _burda_schedule(learning_rate, steps_per_epoch)
    return OPTIMIZERS[name](rate, **({} if epsilon is None else {"eps": epsilon}))


def _burda_schedule(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    stages = range(8)  # 3^0 + ... + 3^7 = 3,280 epochs, the whole of theirs
    rates = [optax.constant_schedule(learning_rate * 10 ** (-stage / 7)) for stage in stages]
    ends = [steps_per_epoch * sum(3**k for k in range(stage + 1)) for stage in stages]
    return optax.join_schedules(rates, ends[:-1])


def make_algorithm(name: str, num_samples: int, kl: KL, gradient: Gradient) -> MakeAlgorithm:
    """A training algorithm by its name in `ALGORITHMS`; the rest is for those that ascend the bound.

    Raises:
      ValueError: an unknown name.
    """
    from aevb import baselines
    from aevb.full_vb import full_vb

    match name:
        case "aevb":
            return functools.partial(aevb.auto_encoding, num_samples=num_samples, kl=kl, gradient=gradient)
        case "full_vb":
            return functools.partial(full_vb, num_samples=num_samples, kl=kl)
        case "wake_sleep":
            return baselines.wake_sleep
        case "monte_carlo_em":
            return baselines.monte_carlo_em
    raise ValueError(f"algorithm must be one of {ALGORITHMS}, got {name!r}")


def run(
    config: dict[str, Any],
    train: Dataset,
    test: Dataset,
    workdir: Path,
    resume: bool,
    name: str,
    member: bool = False,
    streaming: Streaming | None = None,
) -> tuple[dict[str, Any], list[Evaluation]]:
    """Trains one configuration, recording everything in `workdir`.

    Nothing is written before the first evaluation has succeeded: bad arguments leave nothing behind.

    Args:
      config: from `make_config`.
      train: the training split.
      test: the test split.
      workdir: the run folder, made if it is not there.
      resume: goes on with the run that is there, if there is one; a finished one is left as it is.
      name: of this run, for people.
      member: whether the run is part of a larger figure: keeps every checkpoint, draws no pictures of its own.
      streaming: how to read the data while training; `None` holds them on the device. The numbers are the same.

    Returns:
      The contents of summary.json and of metrics.csv.

    Raises:
      RunError: the folder holds something else.
      DivergedError: the bound became NaN; the last good state stays in the checkpoints.
    """
    folder = RunFolder(workdir, config)
    folder.check(resume)
    if folder.is_finished():
        return folder.read_summary(), folder.read_metrics()

    recorder = _Recorder(folder, name, len(train.images) // config["training"]["batch_size"], keep_all=member)
    try:
        model, state = _fit(config, train, test, recorder, resume, streaming)
    except DivergedError as error:
        kept = f"; the last good state is in {folder.checkpoints}" if recorder.history else ""
        raise DivergedError(error.step, f"{error}{kept}") from None
    finally:
        recorder.close()
    if not member:
        # Imported late: matplotlib takes two seconds, and an error should not wait for it.
        from experiments import pictures

        full_vb = config["training"]["algorithm"] == "full_vb"
        params = posterior_mean(state.params) if full_vb else state.params
        pictures.draw_all(folder.figures, model, params, test, recorder.history, name)
    summary = _summary(config, recorder.history[-1], state)
    folder.write_summary(summary)
    return summary, recorder.history


def _fit(
    config: dict[str, Any],
    train: Dataset,
    test: Dataset,
    recorder: "_Recorder",
    resume: bool,
    streaming: Streaming | None,
) -> tuple[Model, TrainState]:
    training = config["training"]
    model = aevb.mlp_vae(**config["model"])
    steps_per_epoch = len(train.images) // training["batch_size"]
    optimizer = make_optimizer(
        training["optimizer"],
        training["learning_rate"],
        training["schedule"],
        steps_per_epoch,
        training["epsilon"],
    )
    algorithm = make_algorithm(*(training[name] for name in ("algorithm", "num_samples", "kl", "gradient")))
    key = jax.random.key(training["seed"])
    template = algorithm(model, optimizer, len(train.images), training["map_prior"]).init(key)
    state, seconds = (recorder.resume(template) if resume else None) or (None, 0.0)
    on_block = None if streaming is None else functools.partial(recorder.save_now_and_then, streaming.save_seconds)
    result = aevb.fit(
        model,
        train.pixels() if streaming is None else _stream(train),
        key=key,
        test_data=test.pixels() if streaming is None else _stream(test),
        optimizer=optimizer,
        algorithm=algorithm,
        state=state,
        seconds=seconds,
        on_evaluation=recorder,
        on_block=on_block,
        **{name: training[name] for name in _FIT_ARGUMENTS},
    )
    return model, result.state


def _stream(dataset: Dataset) -> aevb.Stream:
    return aevb.Stream(dataset.images.reshape(len(dataset.images), -1), max_value=dataset.max_value)


_FIT_ARGUMENTS = (
    "num_epochs",
    "batch_size",
    "num_samples",
    "kl",
    "map_prior",
    "binarization",
    "eval_every",
)


class _Recorder:
    """Called at every evaluation: the checkpoint first, then what is written about it."""

    def __init__(self, folder: RunFolder, name: str, steps_per_epoch: int, keep_all: bool):
        self.history: list[Evaluation] = []
        self._keep_all = keep_all
        self._folder, self._name = folder, name
        training = folder.config["training"]
        self._total = training["num_epochs"] * steps_per_epoch * training["batch_size"]
        self._checkpoints: Checkpoints | None = None
        self._reporters: list[Reporter] = []
        self._last_save = time.monotonic()

    def resume(self, template: TrainState) -> tuple[TrainState, float] | None:
        """The state to go on from and its seconds, with the history up to it; `None` where nothing is there yet."""
        if not self._folder.checkpoints.is_dir():
            return None
        self._checkpoints = Checkpoints(self._folder.checkpoints, self._keep_all)
        state = self._checkpoints.restore_latest(template)
        if state is None:
            return None
        samples = int(state.step) * self._folder.config["training"]["batch_size"]
        rows = self._folder.read_metrics()
        self.history = [row for row in rows if row.num_train_samples <= samples]
        self._open(samples)
        seconds = self._checkpoints.latest_seconds()
        # Runs of before streams had none: their checkpoints are those of their evaluations.
        return state, self.history[-1].seconds if seconds is None else seconds

    def __call__(self, state: TrainState, row: Evaluation) -> None:
        if not self._reporters:
            self._open(row.num_train_samples)
        assert self._checkpoints is not None
        self._folder.append_metrics(row)
        self._checkpoints.save(state, row.test_elbo, row.seconds)
        self._last_save = time.monotonic()
        self.history.append(row)
        for reporter in self._reporters:
            reporter.report(row)

    def save_now_and_then(self, save_seconds: float, state: TrainState, seconds: float) -> None:
        """A checkpoint in mid-epoch, if the last is `save_seconds` old; at an epoch's end, evaluations see to it."""
        if state.shuffle_key is not None and time.monotonic() - self._last_save >= save_seconds:
            assert self._checkpoints is not None
            self._checkpoints.save(state, float("nan"), seconds)
            self._last_save = time.monotonic()

    def close(self) -> None:
        for reporter in self._reporters:
            reporter.close()
        if self._checkpoints is not None:
            self._checkpoints.close()

    def _open(self, samples: int) -> None:
        self._folder.create()
        self._folder.start_metrics(self.history)
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self._folder.checkpoints, self._keep_all)
        self._reporters = [progress(self._name, self._total, samples), TensorBoard(self._folder.path, samples)]


def _summary(config: dict[str, Any], row: Evaluation, state: TrainState) -> dict[str, Any]:
    model, training = config["model"], config["training"]
    summary = {
        "dataset": config["dataset"],
        "split_rule": config["split_rule"],
        "num_train_images": config.get("num_train_images"),
        **{name: value for name, value in model.items() if name != "data_shape"},
        **training,
        "num_epochs": row.epoch,
        "num_train_samples": row.num_train_samples,
        "train_elbo": row.train_elbo,
        "test_elbo": row.test_elbo,
        "test_reconstruction": row.test_reconstruction,
        "test_kl": row.test_kl,
        "active_units": row.active_units,
        "train_seconds": row.seconds,
        "images_per_second": row.num_train_samples / row.seconds if row.seconds else None,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "aevb_version": aevb.__version__,
        "jax_version": jax.__version__,
        "python_version": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }
    # JSON has no NaN.
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in summary.items()}
