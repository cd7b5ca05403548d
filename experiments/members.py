"""The runs that the paper's figures are made of, each trained once and kept for every figure that needs it.

A member is an ordinary run folder, `DATASET/ALGORITHM/latent_J/...` under the figures' folder, that keeps all its
checkpoints. What is there already is not trained again, and what was interrupted goes on from where it was.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
from absl import flags

from aevb import datasets
from aevb.checkpoints import load_run
from aevb.datasets import Dataset
from aevb.model import Model, Params
from aevb.networks import WeightInit
from aevb.training import DivergedError, Evaluation
from experiments import frey_face, mnist
from experiments.run import make_config, run

_FLAGS = flags.FLAGS

TITLES = {settings.dataset: settings.title for settings in (mnist.DEFAULTS, frey_face.DEFAULTS)}
"""For people."""

_SETTINGS = {settings.dataset: settings for settings in (mnist.DEFAULTS, frey_face.DEFAULTS)}

LABELS = {"aevb": "AEVB", "wake_sleep": "wake-sleep", "monte_carlo_em": "MCEM"}
"""Of the algorithms that the paper compares."""

BATCH_SIZE = 100


@dataclasses.dataclass(frozen=True)
class Member:
    """One network trained by one algorithm, with the paper's settings for its data set.

    Attributes:
      dataset: its name.
      algorithm: as in `experiments.run.ALGORITHMS`.
      latent_dim: J.
      hidden_dim: units of the hidden layers.
      num_train_images: N; 0 is all of them.
      optimizer: as in `experiments.run.OPTIMIZERS`.
    """

    dataset: str
    algorithm: str
    latent_dim: int
    hidden_dim: int
    num_train_images: int = 0
    optimizer: str = "adagrad"

    @property
    def title(self) -> str:
        """For people."""
        size = f", N = {self.num_train_images:,}" if self.num_train_images else ""
        return f"{self.dataset} {self.algorithm} latent {self.latent_dim}{size}"

    @property
    def path(self) -> Path:
        """Where its runs are, a folder each, in the figures' folder."""
        size = f"train_{self.num_train_images}" if self.num_train_images else "train_all"
        optimizer = "" if self.optimizer == "adagrad" else f",{self.optimizer}"
        network = f"latent_{self.latent_dim},hidden_{self.hidden_dim}"
        return Path(self.dataset) / size / network / f"{self.algorithm}{optimizer}"

    def batch_size(self, dataset_size: int) -> int:
        """The paper's 100, or fewer where there are fewer images."""
        return min(BATCH_SIZE, dataset_size)


def define_flags(with_budget: bool = True, with_trials: bool = True) -> None:
    """The flags that all figures have: seeds, folders and, unless a figure has its own, budget and step sizes."""
    if with_budget:
        flags.DEFINE_integer(
            "num_train_samples",
            None,
            "Training samples seen by each member; by default the paper's 10^8 on an accelerator, 3x10^6 on a CPU.",
            lower_bound=BATCH_SIZE,
        )
    flags.DEFINE_integer("num_seeds", 1, "Runs of each member; curves are their mean and standard deviation.", 1)
    if with_trials:
        flags.DEFINE_list(
            "step_sizes", ["0.01", "0.02", "0.1"], "Of Adagrad, to choose from; the paper's if not given."
        )
        flags.DEFINE_integer(
            "num_trial_samples",
            600_000,
            "Samples after which the best of the step sizes on the training data is chosen.",
            lower_bound=BATCH_SIZE,
        )
    flags.DEFINE_enum("weight_init", None, get_args(WeightInit), "Of all members; each data set's own if not given.")
    flags.DEFINE_string("workdir", "runs/paper", "Where members and figures are kept.")
    flags.DEFINE_string("data_dir", None, "Where prepared data are kept; TFDS's own folder if not given.")
    flags.DEFINE_string("source_dir", None, "A folder with a folder of original files for each data set, mnist say.")


def budget() -> int:
    """`--num_train_samples`, or what suits the machine."""
    return _FLAGS.num_train_samples or default_budget()


def default_budget() -> int:
    """The paper's 10^8 samples on an accelerator, 3x10^6 on a CPU."""
    return 3_000_000 if jax.default_backend() == "cpu" else 100_000_000


Score = Callable[["Member", float, list[Evaluation]], float]


def paper_member(dataset: str, algorithm: str, latent_dim: int) -> Member:
    """A member of Figures 2, 4 and 5: hidden units as in section 5, all training images."""
    (hidden_dim,) = _SETTINGS[dataset].hidden_dim
    return Member(dataset, algorithm, latent_dim, hidden_dim)


def best_step_size(member: Member, num_samples: int, score: Score | None = None) -> float:
    """The one of `--step_sizes` that does best on the training data in the first iterations, as in the paper.

    Every step size is tried for `--num_trial_samples` with the first seed. A trial is the beginning of a run, which
    goes on from there if it is chosen.

    Args:
      member: what to train.
      num_samples: the whole budget: no trial is longer.
      score: of a trial, from its step size and history; by default its last bound on the training data.
    """
    step_sizes = _step_sizes()
    if len(step_sizes) == 1:
        return step_sizes[0]
    trial = min(_FLAGS.num_trial_samples, num_samples)
    scores = {}
    for learning_rate in step_sizes:
        try:
            history = train(member, trial, learning_rate, seed=0)
        except DivergedError as error:
            print(f"{member.title}: step size {learning_rate:g} diverges: {error}", flush=True)
            continue
        scores[learning_rate] = score(member, learning_rate, history) if score else history[-1].train_elbo
    if not scores:
        raise ValueError(f"{member.title} diverges at every step size of {step_sizes}")
    best = max(scores, key=lambda rate: scores[rate])
    words = ", ".join(f"{rate:g}: {value:.2f}" for rate, value in scores.items())
    print(f"{member.title}: step size {best:g} of {words} (training data, {trial:,} samples)", flush=True)
    return best


def _step_sizes() -> list[float]:
    try:
        return [float(size) for size in _FLAGS.step_sizes]
    except ValueError:
        raise ValueError(f"--step_sizes takes numbers separated by commas, got {','.join(_FLAGS.step_sizes)}") from None


def train_seeds(member: Member, num_samples: int, learning_rate: float) -> list[list[Evaluation]]:
    """The histories of one member at one step size, one for each of `--num_seeds`."""
    return [train(member, num_samples, learning_rate, seed) for seed in range(_FLAGS.num_seeds)]


def train(member: Member, num_samples: int, learning_rate: float, seed: int) -> list[Evaluation]:
    """The history of one run, trained now as far as it is not there yet."""
    train_data, test_data = load(member)
    batch_size = member.batch_size(len(train_data.images))
    samples_per_epoch = len(train_data.images) // batch_size * batch_size
    num_epochs = -(-num_samples // samples_per_epoch)
    name = f"{member.title}, step size {learning_rate:g}, seed {seed}"
    config = _config(member, train_data, learning_rate, seed, num_epochs)
    history = run(config, train_data, test_data, folder(member, learning_rate, seed), True, name, member=True)[1]
    # Another figure may have taken it further than this one asks for.
    return [row for row in history if row.epoch <= num_epochs]


def trained(member: Member, num_samples: int) -> tuple[Model, Params]:
    """The model of a member at its best step size and first seed, trained now as far as it is not there yet."""
    learning_rate = best_step_size(member, num_samples)
    history = train(member, num_samples, learning_rate, seed=0)
    return load_run(folder(member, learning_rate, 0), step(member, history[-1]))


def step(member: Member, evaluation: Evaluation) -> int:
    """The step whose checkpoint an evaluation is of."""
    return evaluation.num_train_samples // member.batch_size(len(load(member)[0].images))


def folder(member: Member, learning_rate: float, seed: int) -> Path:
    """Where a run is."""
    return Path(_FLAGS.workdir) / member.path / f"learning_rate_{learning_rate:g},seed_{seed}"


@functools.cache
def load(member: Member) -> tuple[Dataset, Dataset]:
    """The training and test split."""
    rule = _SETTINGS[member.dataset].split_rule
    source = Path(_FLAGS.source_dir) / member.dataset if _FLAGS.source_dir else None
    train_data, test_data = (
        datasets.load(member.dataset, split, _FLAGS.data_dir, source, rule) for split in ("train", "test")
    )
    return train_data.subset(member.num_train_images) if member.num_train_images else train_data, test_data


def _config(member: Member, data: Dataset, learning_rate: float, seed: int, num_epochs: int) -> dict[str, Any]:
    settings = _SETTINGS[member.dataset]
    model = {
        "latent_dim": member.latent_dim,
        "hidden_dim": [member.hidden_dim],
        "likelihood": settings.likelihood,
        "posterior": "gaussian",
        "squash_mean": settings.squash_mean,
        "weight_init": _FLAGS.weight_init or settings.weight_init,
        "compute_dtype": None,
    }
    training = {
        "algorithm": member.algorithm,
        "optimizer": member.optimizer,
        "learning_rate": learning_rate,
        "schedule": "constant",
        "epsilon": None,
        "batch_size": member.batch_size(len(data.images)),
        "num_samples": 1,
        "num_epochs": num_epochs,
        "kl": "analytic",
        "gradient": "pathwise",
        "map_prior": True,
        "binarization": "grey",
        "eval_every": "log",
        "seed": seed,
    }
    return make_config(data, model, training)
