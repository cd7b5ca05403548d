"""The one run loop: a configuration in, a run folder out."""

import platform
from pathlib import Path
from typing import Any

import jax
import optax

import aevb
from aevb.checkpoints import FORMAT_VERSION, Checkpoints
from aevb.datasets import Dataset
from aevb.training import DivergedError, Evaluation, TrainState, check_learning_rate, paper_optimizer
from experiments.reporting import Reporter, TensorBoard, progress
from experiments.run_folder import RunFolder

OPTIMIZERS = {
    "adagrad": paper_optimizer,
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}


def make_config(dataset: Dataset, model: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What config.json holds: everything that decides the numbers of a run, and nothing else."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.name,
        "split_rule": dataset.split_rule,
        "model": {"data_shape": [dataset.pixels().shape[1]], **model},
        "training": training,
    }


def make_optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    """An optimizer by its name in `OPTIMIZERS`.

    Raises:
      ValueError: an unknown name or a step size out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {tuple(OPTIMIZERS)}, got {name!r}")
    check_learning_rate(learning_rate)
    return OPTIMIZERS[name](learning_rate)


def run(
    config: dict[str, Any], train: Dataset, test: Dataset, workdir: Path, resume: bool, name: str
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

    training = config["training"]
    model = aevb.mlp_vae(**config["model"])
    optimizer = make_optimizer(training["optimizer"], training["learning_rate"])
    recorder = _Recorder(folder, name, len(train.images) // training["batch_size"])
    key = jax.random.key(training["seed"])
    state = recorder.resume(aevb.init_train_state(key, model, optimizer)) if resume else None
    try:
        result = aevb.fit(
            model,
            train.pixels(),
            key=key,
            test_data=test.pixels(),
            optimizer=optimizer,
            state=state,
            seconds=recorder.history[-1].seconds if recorder.history else 0.0,
            on_evaluation=recorder,
            **{name: training[name] for name in _FIT_ARGUMENTS},
        )
    except DivergedError as error:
        kept = f"; the last good state is in {folder.checkpoints}" if recorder.history else ""
        raise DivergedError(error.step, f"{error}{kept}") from None
    finally:
        recorder.close()
    # Imported late: matplotlib takes two seconds, and an error should not wait for it.
    from experiments import pictures

    pictures.draw_all(folder.figures, model, result.state.params, test, recorder.history, name)
    summary = _summary(config, recorder.history[-1], result.state)
    folder.write_summary(summary)
    return summary, recorder.history


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

    def __init__(self, folder: RunFolder, name: str, steps_per_epoch: int):
        self.history: list[Evaluation] = []
        self._folder, self._name = folder, name
        training = folder.config["training"]
        self._total = training["num_epochs"] * steps_per_epoch * training["batch_size"]
        self._checkpoints: Checkpoints | None = None
        self._reporters: list[Reporter] = []

    def resume(self, template: TrainState) -> TrainState | None:
        """The state to go on from, with the history up to it; `None` where nothing is there yet."""
        if not self._folder.checkpoints.is_dir():
            return None
        self._checkpoints = Checkpoints(self._folder.checkpoints)
        state = self._checkpoints.restore_latest(template)
        if state is not None:
            samples = int(state.step) * self._folder.config["training"]["batch_size"]
            rows = self._folder.read_metrics()
            self.history = [row for row in rows if row.num_train_samples <= samples]
            self._open(samples)
        return state

    def __call__(self, state: TrainState, row: Evaluation) -> None:
        if not self._reporters:
            self._open(row.num_train_samples)
        assert self._checkpoints is not None
        self._folder.append_metrics(row)
        self._checkpoints.save(state, row.test_elbo)
        self.history.append(row)
        for reporter in self._reporters:
            reporter.report(row)

    def close(self) -> None:
        for reporter in self._reporters:
            reporter.close()
        if self._checkpoints is not None:
            self._checkpoints.close()

    def _open(self, samples: int) -> None:
        self._folder.create()
        self._folder.start_metrics(self.history)
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self._folder.checkpoints)
        self._reporters = [progress(self._name, self._total, samples), TensorBoard(self._folder.path, samples)]


def _summary(config: dict[str, Any], row: Evaluation, state: TrainState) -> dict[str, Any]:
    model, training = config["model"], config["training"]
    return {
        "dataset": config["dataset"],
        "split_rule": config["split_rule"],
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
