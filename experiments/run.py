"""The one run loop: a configuration in, a run folder out."""

import functools
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

import aevb
from aevb.algorithms import ALGORITHMS, MakeAlgorithm, TrainState
from aevb.algorithms.full_vb import posterior_mean
from aevb.checkpoints import RunError
from aevb.data import Dataset
from aevb.gradients import Gradient
from aevb.model import Model
from aevb.objectives import KL
from aevb.saved import FORMAT_VERSION, model_of
from aevb.training import Evaluation
from aevb.training.divergence import DivergedError
from aevb.training.history import best_row
from aevb.training.optimizers import check_learning_rate, keeping_learning_rate
from experiments import distributed
from experiments.recorder import Follower, Recorder
from experiments.run_folder import RunFolder
from experiments.splits import Splits

OPTIMIZERS = {
    "adagrad": functools.partial(keeping_learning_rate(optax.adagrad), initial_accumulator_value=0.0),
    "adam": keeping_learning_rate(optax.adam),
    "rmsprop": keeping_learning_rate(optax.rmsprop),
    "sgd": keeping_learning_rate(optax.sgd),
}

SCHEDULES = ("constant", "burda")


def make_config(dataset: Dataset, model: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What config.json holds: everything that decides the numbers of a run, and nothing else."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.name,
        "split_rule": dataset.split_rule,
        **({"num_train_images": dataset.subset_size} if dataset.subset_size else {}),
        **({"num_valid_images": dataset.num_valid} if dataset.num_valid else {}),
        "model": {"name": "mlp", "arguments": {"data_shape": [math.prod(dataset.image_shape)], **model}},
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
    return OPTIMIZERS[name](learning_rate=rate, **({} if epsilon is None else {"eps": epsilon}))


def _burda_schedule(learning_rate: float, steps_per_epoch: int) -> optax.Schedule:
    stages = range(8)  # 3^0 + ... + 3^7 = 3,280 epochs, the whole of theirs
    rates = [optax.constant_schedule(learning_rate * 10 ** (-stage / 7)) for stage in stages]
    ends = [steps_per_epoch * sum(3**k for k in range(stage + 1)) for stage in stages]
    return optax.join_schedules(rates, ends[:-1])


def make_algorithm(name: str, num_samples: int, kl: KL, gradient: Gradient) -> MakeAlgorithm:
    """Return a training algorithm by its name in `ALGORITHMS`; the rest is for those that ascend the bound.

    Raises:
      ValueError: an unknown name.
    """
    make: Any = ALGORITHMS.get(name)
    if name not in ("aevb", "full_vb"):
        return make
    return functools.partial(
        make, estimator=aevb.Estimator(num_samples, kl, gradient if name == "aevb" else "pathwise")
    )


def reported_bound(training: dict[str, Any]) -> aevb.Estimator:
    """Return how the reported bound is estimated, also for baselines, which have no estimator of their own."""
    return aevb.Estimator(training["num_samples"], training["kl"])


class Run(NamedTuple):
    """One configuration to train.

    Attributes:
      config: from `make_config`.
      workdir: the run folder, made if it is not there.
      name: for people.
    """

    config: dict[str, Any]
    workdir: Path
    name: str


def run(
    config: dict[str, Any],
    splits: Splits,
    workdir: Path,
    resume: bool,
    name: str,
    member: bool = False,
    stream: bool = False,
    save_seconds: float = 600.0,
) -> tuple[dict[str, Any], list[Evaluation]]:
    """Trains one configuration, recording everything in `workdir`.

    Nothing is written before the first evaluation has succeeded: bad arguments leave nothing behind.

    Args:
      config: from `make_config`.
      splits: what to train on, to choose by and to report.
      workdir: the run folder, made if it is not there.
      resume: goes on with the run that is there, if there is one; a finished one is left as it is.
      name: of this run, for people.
      member: whether the run is part of a larger figure: keeps every checkpoint, draws no pictures of its own.
      stream: reads the data while training instead of holding them on the device; the numbers are the same.
      save_seconds: between checkpoints where evaluations are further apart.

    Returns:
      The contents of summary.json and of metrics.csv.

    Raises:
      RunError: the folder holds something else, another process writes to it, or it cannot be written to.
      DivergedError: the bound became NaN; the last good state stays in the checkpoints.
      TerminatedError: SIGTERM came; the state at that moment is saved.
    """
    if stream and distributed.process_count() > 1:
        raise ValueError("--stream reads for one process: several hold a part of the data each, without it")
    if not distributed.is_writer():
        return _follow(config, splits)
    folder = RunFolder(workdir, config)
    with distributed.said_to_others():
        folder.check(resume)
    if folder.is_finished():
        distributed.say(distributed.FINISHED)
        return folder.read_summary(), folder.read_metrics()
    try:
        with distributed.said_to_others():
            if workdir.is_dir():
                folder.lock()
        steps_per_epoch = len(splits.train.images) // config["training"]["batch_size"]
        recorder = Recorder(folder, name, steps_per_epoch, keep_all=member, save_seconds=save_seconds)
        return _train(recorder, splits, resume, name, member, stream)
    except OSError as error:
        raise RunError(f"cannot write to {workdir}: {error.strerror or error}") from None
    finally:
        folder.unlock()


def _follow(config: dict[str, Any], splits: Splits) -> tuple[dict[str, Any], list[Evaluation]]:
    """Trains along with the process that writes."""
    follower = Follower()
    try:
        _fit(config, splits, follower, resume=True, stream=False)
    except distributed.FinishedError:
        pass
    finally:
        follower.close()
    return {}, follower.history


def _train(
    recorder: Recorder, splits: Splits, resume: bool, name: str, member: bool, stream: bool
) -> tuple[dict[str, Any], list[Evaluation]]:
    folder, config = recorder.folder, recorder.folder.config
    try:
        model, state = _fit(config, splits, recorder, resume, stream)
        best = recorder.best_params()
    except DivergedError as error:
        kept = f"; the last good state is in {folder.checkpoints}" if recorder.history else ""
        if recorder.history:
            folder.write_divergence(str(error))
        raise DivergedError(error.step, f"{error}{kept}", error.indices) from None
    finally:
        recorder.close()
    if not member:
        # Imported late: matplotlib takes two seconds, and an error should not wait for it.
        from experiments import pictures

        full_vb = config["training"]["algorithm"] == "full_vb"
        found = jax.device_get(state.params if best is None else best)
        params = posterior_mean(found) if full_vb else found
        pictures.draw_all(folder.figures, model, params, splits.test, recorder.history, name)
    summary = summarize(config, recorder.history, state)
    folder.write_summary(summary)
    return summary, recorder.history


def _fit(
    config: dict[str, Any],
    splits: Splits,
    recorder: Recorder | Follower,
    resume: bool,
    stream: bool,
) -> tuple[Model, TrainState]:
    training = config["training"]
    model = model_of(config)
    train, valid, test = splits
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
    init = algorithm(model, optimizer, len(train.images), training["map_prior"]).init
    template = lambda: jax.jit(init)(key)  # made where it is needed: it takes a third of a second
    with distributed.said_to_others():
        state = recorder.resume(template) if resume else None
    state = distributed.state_of_writer(state, template)
    of = _stream if stream else distributed.rows
    data, test_data, valid_data = (None if split is None else of(split) for split in (train, test, valid))
    with distributed.mesh():
        result = aevb.fit(
            data,
            model,
            key=key,
            test_data=test_data,
            valid_data=valid_data,
            patience=training.get("patience"),
            history=recorder.history,
            optimizer=optimizer,
            algorithm=algorithm,
            state=state,
            seconds=recorder.seconds,
            on_evaluation=recorder,
            on_pause=recorder.pause,
            evaluation=reported_bound(training),
            active_units=True,
            **{name: training[name] for name in FIT_ARGUMENTS},
        )
    return model, result.state


def _stream(dataset: Dataset) -> aevb.Stream:
    return aevb.Stream(dataset.images.reshape(len(dataset.images), -1), max_value=dataset.max_value)


FIT_ARGUMENTS = (
    "num_epochs",
    "batch_size",
    "map_prior",
    "binarization",
    "eval_every",
)


def summarize(config: dict[str, Any], history: Sequence[Evaluation], state: TrainState) -> dict[str, Any]:
    """The contents of summary.json, from a run's evaluations and its last state."""
    row, best = history[-1], best_row(history)
    model, training = config["model"]["arguments"], config["training"]
    summary = {
        "dataset": config["dataset"],
        "split_rule": config["split_rule"],
        "num_train_images": config.get("num_train_images"),
        **{name: value for name, value in model.items() if name != "data_shape"},
        **training,
        "num_epochs": row.epoch,
        "num_train_samples": row.num_train_samples,
        "train_elbo": row.train_elbo,
        **({} if best is None else _validation(row, best, training)),
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


def _validation(last: Evaluation, best: Evaluation, training: dict[str, Any]) -> dict[str, Any]:
    """What validation images said: which state was the best, and whether patience came to its end."""
    return {
        "valid_elbo": last.valid_elbo,
        "best_epoch": best.epoch,
        "best_valid_bound": best.valid_bound,
        "best_test_elbo": best.test_elbo,
        "stopped_early": last.epoch < training["num_epochs"],
    }
