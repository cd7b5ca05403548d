"""The runs that the paper's figures are made of, each trained once and kept for every figure that needs it.

A member is an ordinary run folder, `DATASET/ALGORITHM/latent_J/...` under the figures' folder, that keeps all its
checkpoints. What is there already is not trained again, and what was interrupted goes on from where it was.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import jax
from absl import flags

from aevb.data import Dataset
from aevb.model import Model, Params
from aevb.networks import WeightInit
from aevb.saved import load_run
from aevb.training import Evaluation
from aevb.training.divergence import DivergedError
from aevb.training.population import default_execution
from experiments import frey_face, launch, mnist, shards
from experiments.run import Run, make_config, run
from experiments.run_folder import RunFolder
from experiments.splits import Splits

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


def define_flags(with_budget: bool = True, with_trials: bool = True, workdir: str = "runs/paper") -> None:
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
            1_500_000,  # at 600,000 the largest still leads that is 4 nats behind in the end (RESULTS.md)
            "Length of each step-size trial; the one with the highest training bound at its end is chosen.",
            lower_bound=BATCH_SIZE,
        )
    flags.DEFINE_enum("weight_init", None, get_args(WeightInit), "Of all members; each data set's own if not given.")
    shards.define_flags()
    flags.DEFINE_bool(
        "together", None, "Trains as one program what one program can train; by default on an accelerator alone."
    )
    flags.DEFINE_string("workdir", workdir, "Where members and figures are kept.")
    flags.DEFINE_string("data_dir", None, "Where prepared data are kept; TFDS's own folder if not given.")
    flags.DEFINE_string("source_dir", None, "A folder with a folder of original files for each data set, mnist say.")


def budget() -> int:
    """`--num_train_samples`, or what suits the machine."""
    return _FLAGS.num_train_samples or default_budget()


def default_budget() -> int:
    """The paper's 10^8 samples on an accelerator, 3x10^6 on a CPU."""
    return 3_000_000 if jax.default_backend() == "cpu" else 100_000_000


Score = Callable[["Member", float, list[Evaluation]], float]


def paper_member(dataset: str, algorithm: str, latent_dim: int, optimizer: str = "adagrad") -> Member:
    """A member of Figures 2, 4 and 5: hidden units as in section 5, all training images."""
    (hidden_dim,) = _SETTINGS[dataset].hidden_dim
    return Member(dataset, algorithm, latent_dim, hidden_dim, optimizer=optimizer)


Unit = TypeVar("Unit")


def work_through(units: Mapping[Unit, Member], work: Callable[[Sequence[Unit]], None]) -> bool:
    """`shards.work_through` of units and the member that each is of.

    What is wrong with flags or data is said here, once, and data are prepared before processes share them.
    """
    shards.shard()
    if "step_sizes" in _FLAGS:
        step_sizes()
    for member in units.values():
        load(member)
    return shards.work_through(list(units), work)


class Attempt(NamedTuple):
    """One run of a member."""

    member: Member
    learning_rate: float
    seed: int


def prepare(members: Sequence[Member], num_samples: int) -> None:
    """Trains members at their best step sizes and all seeds, as one program where that is faster.

    `best_step_size` and `train_seeds` find them done.
    """
    if _as_one_program() and len(step_sizes()) > 1:
        trials = [Attempt(member, rate, 0) for member in members for rate in step_sizes()]
        train_together(trials, min(_FLAGS.num_trial_samples, num_samples))
    best = {member: best_step_size(member, num_samples) for member in members}
    seeds = range(_FLAGS.num_seeds)
    train_together([Attempt(member, best[member], seed) for member in members for seed in seeds], num_samples)


def train_together(attempts: Sequence[Attempt], num_samples: int) -> None:
    """Trains runs as far as they are not there yet, as few programs on an accelerator, in turn on a CPU.

    One that diverges is said so and left at its last good state.
    """
    if not _as_one_program():
        for attempt in attempts:
            try:
                train(attempt.member, num_samples, attempt.learning_rate, attempt.seed)
            except DivergedError as error:
                print(f"{_name(attempt)} diverges: {error}", flush=True)
        return
    from experiments.run_population import run_together

    by_data: dict[tuple[str, int], list[Attempt]] = {}
    for attempt in attempts:
        by_data.setdefault((attempt.member.dataset, attempt.member.num_train_images), []).append(attempt)
    for group in by_data.values():
        splits = load(group[0].member)
        run_together([_run(attempt, num_samples) for attempt in group], splits.train, splits.test)


def best_step_size(member: Member, num_samples: int, score: Score | None = None) -> float:
    """The one of `--step_sizes` that does best on the training data in the first iterations, as in the paper.

    Every step size is tried for `--num_trial_samples` with the first seed. A trial is the beginning of a run, which
    goes on from there if it is chosen.

    Args:
      member: what to train.
      num_samples: the whole budget: no trial is longer.
      score: of a trial, from its step size and history; by default its last bound on the training data.
    """
    tried = step_sizes()
    if len(tried) == 1:
        return tried[0]
    trial = min(_FLAGS.num_trial_samples, num_samples)
    scores = {}
    for learning_rate in tried:
        try:
            history = train(member, trial, learning_rate, seed=0)
        except DivergedError as error:
            print(f"{member.title}: step size {learning_rate:g} diverges: {error}", flush=True)
            continue
        scores[learning_rate] = score(member, learning_rate, history) if score else history[-1].train_elbo
        trial = history[-1].num_train_samples  # whole epochs
    if not scores:
        raise ValueError(f"{member.title} diverges at every step size of {tried}")
    best = max(scores, key=lambda rate: scores[rate])
    words = ", ".join(f"{rate:g}: {value:.2f}" for rate, value in scores.items())
    print(f"{member.title}: step size {best:g} of {words} (on the training data after {trial:,} samples)", flush=True)
    return best


def step_sizes() -> list[float]:
    """`--step_sizes`."""
    return launch.positive_numbers("step_sizes")


def _as_one_program() -> bool:
    return default_execution() == "side_by_side" if _FLAGS.together is None else _FLAGS.together


def train_seeds(member: Member, num_samples: int, learning_rate: float) -> list[list[Evaluation]]:
    """The histories of one member at one step size, one for each of `--num_seeds`."""
    return [train(member, num_samples, learning_rate, seed) for seed in range(_FLAGS.num_seeds)]


def train(member: Member, num_samples: int, learning_rate: float, seed: int) -> list[Evaluation]:
    """The history of one run, trained now as far as it is not there yet."""
    config, workdir, name = _run(Attempt(member, learning_rate, seed), num_samples)
    history = run(config, load(member), workdir, True, name, member=True)[1]
    # Another figure may have taken it further than this one asks for.
    return [row for row in history if row.epoch <= config["training"]["num_epochs"]]


def history_of(attempt: Attempt, num_samples: int) -> list[Evaluation] | None:
    """The history of a run that is done; `None` where it is not, as one that diverged never is."""
    config, workdir, _ = _run(attempt, num_samples)
    run_folder = RunFolder(workdir, config)
    if not run_folder.is_finished():
        return None
    return [row for row in run_folder.read_metrics() if row.epoch <= config["training"]["num_epochs"]]


def why_diverged(attempt: Attempt, num_samples: int) -> str:
    """Why a run stopped before its end; empty where nothing is known of that."""
    config, workdir, _ = _run(attempt, num_samples)
    return RunFolder(workdir, config).read_divergence()


def _run(attempt: Attempt, num_samples: int) -> Run:
    member, learning_rate, seed = attempt
    train_data = load(member).train
    batch_size = member.batch_size(len(train_data.images))
    samples_per_epoch = len(train_data.images) // batch_size * batch_size
    num_epochs = -(-num_samples // samples_per_epoch)
    config = _config(member, train_data, learning_rate, seed, num_epochs)
    return Run(config, folder(member, learning_rate, seed), _name(attempt))


def _name(attempt: Attempt) -> str:
    return f"{attempt.member.title}, step size {attempt.learning_rate:g}, seed {attempt.seed}"


def trained(member: Member, num_samples: int) -> tuple[Model, Params]:
    """The model of a member at its best step size and first seed, trained now as far as it is not there yet."""
    learning_rate = best_step_size(member, num_samples)
    history = train(member, num_samples, learning_rate, seed=0)
    return load_run(folder(member, learning_rate, 0), step(member, history[-1]))


def step(member: Member, evaluation: Evaluation) -> int:
    """The step whose checkpoint an evaluation is of."""
    return evaluation.num_train_samples // member.batch_size(len(load(member).train.images))


def folder(member: Member, learning_rate: float, seed: int) -> Path:
    """Where a run is."""
    return Path(_FLAGS.workdir) / member.path / f"learning_rate_{learning_rate:g},seed_{seed}"


def load(member: Member) -> Splits:
    """The training and test split; the paper's protocol holds out nothing for validation."""
    return _load(member.dataset, member.num_train_images)


@functools.cache
def _load(dataset: str, num_train_images: int) -> Splits:
    source_dir = str(Path(_FLAGS.source_dir) / dataset) if _FLAGS.source_dir else None
    rule = _SETTINGS[dataset].split_rule
    return Splits.load(dataset, _FLAGS.data_dir, source_dir, rule, num_train_images=num_train_images)


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
