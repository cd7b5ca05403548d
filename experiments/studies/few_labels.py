"""Training and errors of one run with few labels, for the command `experiments.semi_supervised`."""

import contextlib
import csv
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import aevb
from aevb import discrete
from aevb.algorithms import Algorithm, TrainState, semi_supervised
from aevb.checkpoints import Checkpoints, RunError
from aevb.models.semi_supervised import UNKNOWN
from experiments.reports.provenance import provenance
from experiments.reports.tables import write_csv
from experiments.runs.folder import write_json
from experiments.runs.termination import TerminatedError, Termination
from experiments.studies.few_labels_data import FewLabels

_ALPHA = 0.02  # final learning rate, as a fraction of the initial one
_NUM_EVALUATIONS = 20
_LABELLED_DRAWS = 100
_M1_BATCH_SIZE = 200
_MOST_M1_EPOCHS = 10  # per call of the compiled program, which cannot be interrupted
CONFIG, ERRORS, SUMMARY = "config.json", "errors.csv", "summary.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that determine the results of a run, besides its data."""

    model: str
    dataset: str
    num_labels: int
    num_valid_images: int
    seed: int
    latent_dim: int
    hidden_dim: int
    num_epochs: int
    batch_size: int
    learning_rate: float
    classifier_weight: float
    num_m1_epochs: int
    labelled_weight: float = 0.0


class Job(NamedTuple):
    """The model and data of one run.

    Attributes:
      model: The model of x, or of features of x.
      data: `epoch -> Given(x, labels)`, the training data of an epoch on the device.
      labelled: `Given(x, labels)`, the data that the classifier learns from.
      splits: By name, the inputs of the classifier and their labels.
      binarization: The binarization of x.
    """

    model: aevb.Model
    data: Callable[[int], aevb.Given]
    labelled: aevb.Given
    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    binarization: Any


def m2_job(few: FewLabels, settings: Settings) -> Job:
    """Return M2 on pixels. Targets are redrawn from the intensities; the classifier is evaluated at intensities."""
    model = aevb.models.semi_supervised_vae(
        (few.train.shape[1],), settings.latent_dim, few.num_classes, settings.hidden_dim, activation="relu"
    )
    data = jax.tree.map(jnp.asarray, aevb.Given(few.train, few.labels))
    labelled = aevb.Given(few.train[few.labelled], few.labels[few.labelled])
    return Job(model, lambda epoch: data, labelled, {"valid": few.valid, "test": few.test}, "stochastic")


def m1_m2_job(few: FewLabels, settings: Settings, m1: "Features") -> Job:
    """Return M2 on draws of M1's latents, redrawn every epoch; the classifier is evaluated at their means.

    The classifier learns from `_LABELLED_DRAWS` draws per labelled image, so that it sees their variation.
    """
    model = aevb.models.semi_supervised_vae(
        (m1.mean["train"].shape[1],),
        settings.latent_dim,
        few.num_classes,
        settings.hidden_dim,
        likelihood="gaussian",
        activation="relu",
    )
    mean, scale, labels = map(jnp.asarray, (m1.mean["train"], m1.scale["train"], few.labels))
    key = jax.random.key(settings.seed)
    draw = jax.jit(lambda epoch: mean + scale * jax.random.normal(jax.random.fold_in(key, epoch), mean.shape))
    known = np.repeat(few.labelled, _LABELLED_DRAWS)
    noise = np.random.RandomState(settings.seed).randn(len(known), mean.shape[1]).astype(np.float32)
    drawn = m1.mean["train"][known] + m1.scale["train"][known] * noise
    labelled = aevb.Given(drawn, few.labels[known])
    splits = {"valid": (m1.mean["valid"], few.valid[1]), "test": (m1.mean["test"], few.test[1])}
    return Job(model, lambda epoch: aevb.Given(draw(epoch), labels), labelled, splits, "grey")


class Features(NamedTuple):
    """M1's posterior of every image, by split.

    Attributes:
      mean: Posterior means, `[N, J]` per split.
      scale: Posterior standard deviations, `[N, J]` per split.
      decode: `[n, J] -> [n, D]`, maps latents to mean images.
    """

    mean: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]


def m1_features(folder: Path, few: FewLabels, num_epochs: int) -> Features:
    """Train M1 without labels, or resume its training, and return its features of all images.

    All seeds share one M1. The targets are redrawn from the intensities.
    """
    model = aevb.mlp_vae((few.train.shape[1],), 50, 500, weight_init="glorot")
    steps = num_epochs * (len(few.train) // _M1_BATCH_SIZE)
    optimizer = optax.adam(optax.cosine_decay_schedule(1.5e-3, steps, _ALPHA))
    checkpoints = Checkpoints(folder / "checkpoints")
    restored = checkpoints.restore_latest(aevb.init_train_state(jax.random.key(0), model, optimizer))
    state = restored.state if restored else None
    if state is None or int(state.step) < steps:
        print(f"M1: {num_epochs} epochs without labels", flush=True)
        with _interruptible() as check:

            def keep(state: TrainState, evaluation: aevb.Evaluation) -> None:
                checkpoints.save(state, float("nan"), evaluation.seconds)
                print(f"  epoch {evaluation.epoch}: bound {evaluation.train_elbo:.2f} nats", flush=True)
                check()

            state = aevb.fit(
                few.train, model, key=jax.random.key(0), optimizer=optimizer, num_epochs=num_epochs, state=state,
                batch_size=_M1_BATCH_SIZE, map_prior=False, binarization="stochastic", on_evaluation=keep,
                eval_every=min(max(1, num_epochs // 10), _MOST_M1_EPOCHS),
            ).state  # fmt: skip
    checkpoints.close()
    images = {"train": few.train, "valid": few.valid[0], "test": few.test[0]}
    found = {name: aevb.posterior.encode(state.params, each, model) for name, each in images.items()}
    decode = jax.jit(jax.vmap(lambda z: model.decode(state.params, z).mean))
    mean, scale = ({name: getattr(each, what) for name, each in found.items()} for what in ("mean", "scale"))
    return Features(mean, scale, lambda z: np.asarray(decode(z)))


class Result(NamedTuple):
    """A finished run.

    Attributes:
      params: The parameters of the model.
      errors: One row per evaluation.
      summary: Settings and final results.
    """

    params: Any
    errors: list[dict[str, Any]]
    summary: dict[str, Any]


def train(folder: Path, settings: Settings, job: Job) -> Result:
    """Train a run in its folder, or resume it, bit for bit as if it had not been interrupted.

    Raises:
      RunError: If the folder holds a run with other settings, or the loss is not finite.
      TerminatedError: If SIGTERM is received; the state is saved.
    """
    _check_folder(folder, settings)
    algorithm, steps = _algorithm(settings, job), len(job.data(0).condition) // settings.batch_size
    checkpoints = Checkpoints(folder / "checkpoints")
    state, seconds = algorithm.init(jax.random.key(settings.seed)), 0.0
    restored = checkpoints.restore_latest(state)
    if restored:
        state, seconds = restored.state, restored.seconds or 0.0
    rows = [row for row in _read_errors(folder) if row["epoch"] * steps <= int(state.step)]
    run = aevb.make_train_epochs(algorithm, settings.batch_size, job.binarization)
    every = max(1, settings.num_epochs // _NUM_EVALUATIONS)
    with _interruptible() as check:
        for epoch in range(int(state.step) // steps, settings.num_epochs):
            start = time.perf_counter()
            state, progress = run(state, job.data(epoch), 1)
            loss = float(progress.loss)
            seconds += time.perf_counter() - start
            if not np.isfinite(loss):
                raise RunError(f"{folder}: the loss is not finite in epoch {epoch + 1}: lower --learning_rate")
            if (epoch + 1) % every == 0 or epoch + 1 == settings.num_epochs:
                errors = {f"{name}_error": error_rate(state.params, job, name) for name in job.splits}
                rows.append({"epoch": epoch + 1, "loss": round(loss, 4), **errors, "seconds": round(seconds, 1)})
                checkpoints.save(state, float("nan"), seconds)
                write_csv(folder / ERRORS, rows)
                print(f"  epoch {epoch + 1}: validation error {errors['valid_error']:.2%}, {seconds:.0f} s", flush=True)
                check()
    checkpoints.close()
    summary = {**dataclasses.asdict(settings), **rows[-1], "test_bound": _test_bound(state.params, job), **provenance()}
    write_json(folder / SUMMARY, summary)
    return Result(state.params, rows, summary)


def error_rate(params: Any, job: Job, split: str) -> float:
    """Return the fraction of a split's images that the classifier q(y|x) misclassifies."""
    xs, labels = job.splits[split]
    hidden = aevb.Given(xs, np.full(len(xs), UNKNOWN))
    return float(np.mean(discrete.class_probabilities(params, hidden, job.model).argmax(1) != labels))


def m1_errors(few: FewLabels, m1: Features, seed: int) -> dict[str, Any]:
    """Return the errors of a support vector machine on the means of M1's latents. Validation images choose its C."""
    from sklearn.svm import SVC

    found = []
    for penalty in (1.0, 3.0, 10.0, 30.0):
        machine = SVC(C=penalty).fit(m1.mean["train"][few.labelled], few.labels[few.labelled])
        wrong = {name: float(1 - machine.score(m1.mean[name], getattr(few, name)[1])) for name in ("valid", "test")}
        found.append({"valid_error": wrong["valid"], "test_error": wrong["test"], "C": penalty, "seed": seed})
    return min(found, key=lambda row: row["valid_error"])


def analogies(params: Any, job: Job, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return test data `[n, D]`, and the means of p(x | y, z) at their styles z and every class y, `[n, K, D]`."""
    xs, model = jnp.asarray(job.splits["test"][0][:num_rows]), job.model
    hidden = jnp.asarray(UNKNOWN)

    def row(x: jax.Array) -> jax.Array:
        posterior: Any = model.encode(params, x, hidden)
        classes = posterior.levels["y"].enumerate_support()
        z = posterior.levels["z"]({"y": jnp.argmax(posterior.levels["y"].logits)}).mean
        return jax.vmap(lambda label: model.decode(params, {"y": label, "z": z}, hidden).mean)(classes)

    return np.asarray(xs), np.asarray(jax.jit(jax.vmap(row))(xs))


def _algorithm(settings: Settings, job: Job) -> Algorithm:
    size = len(job.data(0).condition)
    steps = settings.num_epochs * (size // settings.batch_size)
    return semi_supervised(
        job.model,
        optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps, _ALPHA)),
        size,
        map_prior=False,
        labelled=job.labelled,
        classifier_weight=settings.classifier_weight,
        labelled_weight=settings.labelled_weight,
        binarization=job.binarization,
    )


def _test_bound(params: Any, job: Job) -> float:
    xs = job.splits["test"][0]
    hidden = aevb.Given(xs, np.full(len(xs), UNKNOWN))
    return aevb.evaluate(params, jax.random.key(0), hidden, job.model, active_units=False).elbo


def _check_folder(folder: Path, settings: Settings) -> None:
    wanted, path = dataclasses.asdict(settings), folder / CONFIG
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
        return
    try:
        older = {"labelled_weight": 0.0}  # versions before this setting did not write it
        there = older | json.loads(path.read_text())
        different = [name for name in wanted if there[name] != wanted[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error!r}): remove {folder}") from None
    if different:
        raise RunError(
            f"{folder} holds a run with {different[0]} {there[different[0]]}, not {wanted[different[0]]}: choose "
            f"another --workdir, or remove that folder"
        )


def _read_errors(folder: Path) -> list[dict[str, Any]]:
    if not (folder / ERRORS).exists():
        return []
    with (folder / ERRORS).open() as file:
        return [
            {name: float(value) for name, value in row.items()} | {"epoch": int(row["epoch"])}
            for row in csv.DictReader(file)
        ]


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Watch for SIGTERM. Yields a function to call after saving: it raises `TerminatedError` once SIGTERM came."""
    termination = Termination()

    def check() -> None:
        if termination.requested:
            raise TerminatedError

    termination.watch()
    try:
        yield check
    finally:
        termination.release()
