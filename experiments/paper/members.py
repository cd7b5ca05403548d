"""The runs that the paper's figures are made of, each trained once and kept for every figure that needs it.

A member is an ordinary run folder, `DATASET/train_all/NETWORK/ALGORITHM/...` under the figures' folder, that keeps all
its checkpoints. What is there already is not trained again, and what was interrupted goes on from where it was.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import jax
from absl import flags

from aevb.model import Model, Params
from aevb.networks import WeightInit
from aevb.saved import load_run
from aevb.training import Evaluation
from aevb.training.population import default_execution
from experiments import configs, defaults, model_arguments, shared_flags
from experiments.configs import Config
from experiments.runs import shards
from experiments.runs.folder import RunFolder
from experiments.runs.program import num_steps
from experiments.runs.run import Options, Run, train_all
from experiments.runs.splits import Splits, load_splits

_FLAGS = flags.FLAGS

DATASETS = ("mnist", "frey_face")
"""Of the paper."""

LABELS = {"aevb": "AEVB", "wake_sleep": "wake-sleep", "monte_carlo_em": "MCEM"}
"""Of the algorithms that the paper compares."""


def define_flags(with_budget: bool = True, with_trials: bool = True, workdir: str = "runs/paper") -> None:
    """Define the flags of all figures: seeds, folders and, unless a figure has its own, budget and step sizes."""
    if with_budget:
        define_budget()
    define_sharing(workdir)
    flags.DEFINE_integer("num_seeds", 1, "Runs of each member; curves are their mean and standard deviation.", 1)
    flags.DEFINE_integer("batch_size", 100, "M, datapoints in a minibatch; fewer where there are fewer.", 1)
    flags.DEFINE_enum("weight_init", None, get_args(WeightInit), "Of all members; each data set's own if not given.")
    if with_trials:
        flags.DEFINE_list(
            "learning_rate", ["0.01", "0.02", "0.1"], "Step sizes of Adagrad to choose from; the paper's if not given."
        )
        flags.DEFINE_alias("step_sizes", "learning_rate")
        flags.DEFINE_integer(
            "num_trial_samples",
            1_500_000,  # at 600,000 the largest still leads that is 4 nats behind in the end (RESULTS.md)
            "Length of each step-size trial; the one with the highest training bound at its end is chosen.",
            lower_bound=1,
        )


def define_budget() -> None:
    """Define how long members are trained."""
    flags.DEFINE_integer(
        "num_train_samples",
        None,
        "Training samples seen by each member; by default the paper's 10^8 on an accelerator, 3x10^6 on a CPU.",
        lower_bound=1,
    )
    flags.DEFINE_integer("num_epochs", None, "The same in passes over the training set.", lower_bound=1)


def define_sharing(workdir: str) -> None:
    """Define where members are kept, and how the work is shared out."""
    shards.define_flags()
    flags.DEFINE_bool(
        "together", None, "Trains as one program what one program can train; by default on an accelerator alone."
    )
    flags.DEFINE_string("workdir", workdir, "Where members and figures are kept.")
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()


def default_budget() -> int:
    """Return the paper's 10^8 samples on an accelerator, 3x10^6 on a CPU."""
    return 3_000_000 if jax.default_backend() == "cpu" else 100_000_000


def length() -> dict[str, int | None]:
    """Return the settings that say how long to train: what the flags say, or what suits the machine."""
    if _FLAGS.num_epochs:
        if _FLAGS.num_train_samples:
            raise ValueError("--num_epochs and --num_train_samples both say how long to train: give one of them")
        return {"num_epochs": _FLAGS.num_epochs, "num_train_samples": None}
    return {"num_train_samples": _FLAGS.num_train_samples or default_budget()}


def member(dataset: str, **values: Any) -> Config:
    """Return the configuration of a member, with the paper's settings for its data set and other values of some.

    Args:
      dataset: its name.
      **values: by the names of flags.
    """
    if _FLAGS.weight_init:
        values = {"weight_init": _FLAGS.weight_init, **values}
    settings = {"optimizer": "adagrad", "eval_every": "log", "batch_size": _FLAGS.batch_size, **values}
    return defaults.of(dataset, **settings)


def title_of(config: Config) -> str:
    """Return what a member is, for people: all but its step size and seed."""
    size = f", N = {config.data.num_train_images:,}" if config.data.num_train_images else ""
    latent_dim = config.model.arguments.get("latent_dim")
    latent = "" if latent_dim is None else f" latent {model_arguments.joined(latent_dim)}"
    return f"{config.data.name} {config.algorithm}{latent}{size}"


def name_of(config: Config) -> str:
    """Return what a run is, for people."""
    return f"{title_of(config)}, step size {config.optimizer.learning_rate:g}, seed {config.training.seed}"


def folder(config: Config, also: Sequence[str] = ()) -> Path:
    """Return where a run is.

    Args:
      config: what is trained.
      also: flags that tell it from others in the same folder, besides sizes, algorithm, optimizer, step size and seed.
    """
    arguments, images = config.model.arguments, config.data.num_train_images
    hidden = arguments.get("hidden_dim")
    sizes = {"latent": arguments.get("latent_dim"), "hidden": hidden}
    words = [f"{name}_{model_arguments.joined(size)}" for name, size in sizes.items() if size is not None]
    network = ",".join(words if config.model.name == "mlp" else [config.model.name, *words])
    optimizer = "" if config.optimizer.name == "adagrad" else f",{config.optimizer.name}"
    values = configs.flat(config)
    rest = "".join(f",{flag}_{model_arguments.joined(values[flag])}" for flag in also if flag not in _IN_FOLDERS)
    return (
        Path(_FLAGS.workdir)
        / config.data.name
        / (f"train_{images}" if images else "train_all")
        / network
        / f"{config.algorithm}{optimizer}{rest}"
        / f"learning_rate_{config.optimizer.learning_rate:g},seed_{config.training.seed}"
    )


_IN_FOLDERS = {
    *("dataset", "num_train_images", "model", "latent_dim", "hidden_dim", "algorithm", "optimizer"),
    *("learning_rate", "seed"),
}


Unit = TypeVar("Unit")


def work_through(
    units: Mapping[Unit, Config], work: Callable[[Sequence[Unit]], None], also: Sequence[str] = ()
) -> bool:
    """`shards.work_through` of units and what each is of.

    What is wrong with flags or data is said here, once, and data are prepared before processes share them. `also` is as
    for `folder`.
    """
    shards.shard()
    if "num_trial_samples" in _FLAGS:
        step_sizes()
    for config in units.values():
        configs.check(config)
        run = _run(config, also)
        run.config.build_model()
        RunFolder(run.workdir, run.config).check(resume=True)
    return shards.work_through(list(units), work)


def prepare(members: Sequence[Config]) -> None:
    """Train members at their best step sizes and all seeds, as one program where that is faster.

    `best_step_size` and `train_seeds` find them done.
    """
    if as_one_program() and len(step_sizes()) > 1:
        train([_trial(config, rate) for config in members for rate in step_sizes()])
    best = {config: configs.change(config, learning_rate=best_step_size(config)) for config in members}
    train([configs.change(config, seed=seed) for config in best.values() for seed in range(_FLAGS.num_seeds)])


def train(wanted: Sequence[Config], also: Sequence[str] = (), options: Options | None = None) -> None:
    """Train runs as far as they are not there yet, as few programs on an accelerator, in turn on a CPU.

    One that diverges is said so and left at its last good state.
    """
    options = options or Options(keep_all_checkpoints=True, draw_pictures=False, together=as_one_program())
    by_data: dict[int, list[Config]] = {}
    for config in wanted:
        by_data.setdefault(id(load(config)), []).append(config)
    for group in by_data.values():
        train_all([_run(config, also) for config in group], load(group[0]), options)


def _trial(config: Config, learning_rate: float) -> Config:
    """Return the beginning of a run, which goes on from there if its step size is chosen."""
    samples = min(_FLAGS.num_trial_samples, _num_samples(config))
    return configs.change(config, learning_rate=learning_rate, num_train_samples=samples, seed=0)


def _num_samples(config: Config) -> int:
    """Return the training samples of a whole run."""
    config = _fitting(config)
    return num_steps(config, len(load(config).train.images)) * config.optimizer.batch_size


Score = Callable[[Config, list[Evaluation]], float]


def best_step_size(config: Config, score: Score | None = None) -> float:
    """Return the one of `--learning_rate` that does best on the training data in the first iterations, as in the paper.

    Every step size is tried for `--num_trial_samples` with the first seed.

    Args:
      config: what to train; no trial is longer.
      score: of a trial, from its configuration and history; by default its last bound on the training data.

    Raises:
      ValueError: training diverges at all of them.
    """
    tried = step_sizes()
    if len(tried) == 1:
        return tried[0]
    trials = {rate: _trial(config, rate) for rate in tried}
    train(list(trials.values()))
    scores, samples = {}, 0
    for rate, trial in trials.items():
        if history := history_of(trial):
            scores[rate] = score(trial, history) if score else history[-1].train_elbo
            samples = history[-1].num_train_samples
    if not scores:
        raise ValueError(f"{title_of(config)} diverges at every step size of {tried}")
    best = max(scores, key=lambda rate: scores[rate])
    words = ", ".join(f"{rate:g}: {value:.2f}" for rate, value in scores.items())
    what = "log p(x)" if score else "bound"
    print(
        f"{title_of(config)}: step size {best:g} of {words} ({what} of the training data after {samples:,} samples)",
        flush=True,
    )
    return best


def step_sizes() -> list[float]:
    """Return the values of `--learning_rate`."""
    return shared_flags.positive_numbers("learning_rate")


def as_one_program() -> bool:
    """Return what `--together` says, or what suits the device."""
    return default_execution() == "side_by_side" if _FLAGS.together is None else _FLAGS.together


def train_seeds(config: Config) -> list[list[Evaluation]]:
    """Return the histories of one member, one for each of `--num_seeds`, evaluated after the same samples."""
    seeds = [configs.change(config, seed=seed) for seed in range(_FLAGS.num_seeds)]
    train(seeds)
    histories = [history_of(each) for each in seeds]
    for each, history in zip(seeds, histories, strict=True):
        if history is None:
            raise ValueError(f"{name_of(each)} diverges: {why_diverged(each)}")
    found = [history for history in histories if history is not None]
    # A run that began as a trial was looked at when that ended, too.
    common = set.intersection(*({row.num_train_samples for row in history} for history in found))
    return [[row for row in history if row.num_train_samples in common] for history in found]


def history_of(config: Config, also: Sequence[str] = ()) -> list[Evaluation] | None:
    """Return the history of a run as far as it was asked for; `None` where it is not done, as one that diverged.

    Raises:
      DamagedError: its metrics cannot be relied upon.
    """
    config, workdir, _ = _run(config, also)
    run_folder = RunFolder(workdir, config)
    if not run_folder.is_finished():
        if run_folder.checkpoints.exists():
            run_folder.read_metrics()  # so that one that is damaged is not taken for one that diverged
        return None
    wanted = _num_samples(config)
    # Another figure may have taken it further than this one asks for.
    return [row for row in run_folder.read_finished()[1] if row.num_train_samples <= wanted]


def why_diverged(config: Config, also: Sequence[str] = ()) -> str:
    """Return why a run stopped before its end; empty where nothing is known of that."""
    config, workdir, _ = _run(config, also)
    return RunFolder(workdir, config).read_divergence()


def trained(config: Config) -> tuple[Model, Params]:
    """Return the model of a member at its best step size and first seed, trained now as far as it is not there yet."""
    config = configs.change(config, learning_rate=best_step_size(config))
    return load_run(folder(config), step(config, train_seeds(config)[0][-1]))


def step(config: Config, evaluation: Evaluation) -> int:
    """Return the step whose checkpoint an evaluation is of."""
    return evaluation.num_train_samples // _fitting(config).optimizer.batch_size


def load(config: Config) -> Splits:
    """Return the splits that a member is of; the paper's protocol holds out nothing for validation."""
    return _load(Config(data=config.data, own_data=config.own_data))


@functools.cache
def _load(config: Config) -> Splits:
    return load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir)


def _fitting(config: Config) -> Config:
    """Return a configuration whose minibatches are no larger than its data set."""
    return configs.change(config, batch_size=min(config.optimizer.batch_size, len(load(config).train.images)))


def _run(config: Config, also: Sequence[str] = ()) -> Run:
    config = configs.with_data(_fitting(config), load(config).train)
    return Run(config, folder(config, also), name_of(config))
