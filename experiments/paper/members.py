"""The runs of the paper's figures, called members. Each is trained once and shared by all figures that need it.

A member is an ordinary run folder, `DATASET/train_all/NETWORK/ALGORITHM/...` in the figures' folder, with all its
checkpoints. Finished runs are reused; interrupted ones resume.
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
"""The data sets of the paper."""

LABELS = {"aevb": "AEVB", "wake_sleep": "wake-sleep", "monte_carlo_em": "MCEM"}
"""The algorithms that the paper compares, and their labels in figures."""


def define_flags(with_budget: bool = True, with_trials: bool = True, workdir: str = "runs/paper") -> None:
    """Define the flags shared by figures: seeds, folders, and optionally budget and learning-rate trials."""
    if with_budget:
        define_budget()
    define_sharing(workdir)
    flags.DEFINE_integer("num_seeds", 1, "Runs per curve, which shows their mean and standard deviation.", 1)
    flags.DEFINE_integer("batch_size", 100, "Datapoints per minibatch, M; at most the size of the training set.", 1)
    flags.DEFINE_enum(
        "weight_init", None, get_args(WeightInit), "Initial weights of all runs; by default the data set's own."
    )
    if with_trials:
        flags.DEFINE_list(
            "learning_rate", ["0.01", "0.02", "0.1"], "Adagrad learning rates to choose from; by default the paper's."
        )
        flags.DEFINE_alias("step_sizes", "learning_rate")
        flags.DEFINE_integer(
            "num_trial_samples",
            1_500_000,  # at 600,000 the largest rate still leads, and ends 4 nats behind (RESULTS.md)
            "Training samples per learning-rate trial; the rate with the highest final training bound is chosen.",
            lower_bound=1,
        )


def define_budget() -> None:
    """Define the flags for the length of training."""
    flags.DEFINE_integer(
        "num_train_samples",
        None,
        "Training samples to process per run; by default the paper's 10^8 on an accelerator, 3x10^6 on a CPU.",
        lower_bound=1,
    )
    flags.DEFINE_integer("num_epochs", None, "The same in epochs.", lower_bound=1)


def define_sharing(workdir: str) -> None:
    """Define the flags for the output folder and for sharing the work between processes."""
    shards.define_flags()
    flags.DEFINE_bool(
        "together", None, "Train several runs as one program where possible; by default only on an accelerator."
    )
    flags.DEFINE_string("workdir", workdir, "Output folder of runs and figures.")
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()


def default_budget() -> int:
    """Return the paper's 10^8 samples on an accelerator, 3x10^6 on a CPU."""
    return 3_000_000 if jax.default_backend() == "cpu" else 100_000_000


def length() -> dict[str, int | None]:
    """Return the settings for the length of training, from the flags or else the default of the machine."""
    if _FLAGS.num_epochs:
        if _FLAGS.num_train_samples:
            raise ValueError("--num_epochs and --num_train_samples are alternatives: give one of them")
        return {"num_epochs": _FLAGS.num_epochs, "num_train_samples": None}
    return {"num_train_samples": _FLAGS.num_train_samples or default_budget()}


def member(dataset: str, **values: Any) -> Config:
    """Return the configuration of a member: the paper's settings for its data set, with changes.

    Args:
      dataset: The name of the data set.
      **values: Settings to change, by the names of flags.
    """
    if _FLAGS.weight_init:
        values = {"weight_init": _FLAGS.weight_init, **values}
    settings = {"optimizer": "adagrad", "eval_every": "log", "batch_size": _FLAGS.batch_size, **values}
    return defaults.of(dataset, **settings)


def title_of(config: Config) -> str:
    """Return a title of a member for messages, without learning rate and seed."""
    size = f", N = {config.data.num_train_images:,}" if config.data.num_train_images else ""
    latent_dim = config.model.arguments.get("latent_dim")
    latent = "" if latent_dim is None else f" latent {model_arguments.joined(latent_dim)}"
    return f"{config.data.name} {config.algorithm}{latent}{size}"


def name_of(config: Config) -> str:
    """Return a title of a run for messages."""
    return f"{title_of(config)}, learning rate {config.optimizer.learning_rate:g}, seed {config.training.seed}"


def folder(config: Config, also: Sequence[str] = ()) -> Path:
    """Return the folder of a run.

    Args:
      config: The configuration of the run.
      also: Flags to include in the name, besides sizes, algorithm, optimizer, learning rate and seed.
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
    """Check all configurations, then work through the units with `shards.work_through`.

    Errors in flags or data are raised here, once, and data are prepared before processes share them.

    Args:
      units: The units of work, and the configuration of each.
      work: A function that does the work of some units.
      also: As for `folder`.

    Returns:
      What `shards.work_through` returns.
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
    """Train members at their best learning rates with all seeds, as one program where that is faster.

    Later calls of `best_step_size` and `train_seeds` reuse these runs.
    """
    if as_one_program() and len(step_sizes()) > 1:
        train([_trial(config, rate) for config in members for rate in step_sizes()])
    best = {config: configs.change(config, learning_rate=best_step_size(config)) for config in members}
    train([configs.change(config, seed=seed) for config in best.values() for seed in range(_FLAGS.num_seeds)])


def train(wanted: Sequence[Config], also: Sequence[str] = (), options: Options | None = None) -> None:
    """Train unfinished runs, in few programs on an accelerator and one after another on a CPU.

    A diverging run is reported and left at its last good state.
    """
    options = options or Options(keep_all_checkpoints=True, draw_pictures=False, together=as_one_program())
    by_data: dict[int, list[Config]] = {}
    for config in wanted:
        by_data.setdefault(id(load(config)), []).append(config)
    for group in by_data.values():
        train_all([_run(config, also) for config in group], load(group[0]), options)


def _trial(config: Config, learning_rate: float) -> Config:
    """Return the trial of a run: its first samples. The run resumes from there if its learning rate is chosen."""
    samples = min(_FLAGS.num_trial_samples, _num_samples(config))
    return configs.change(config, learning_rate=learning_rate, num_train_samples=samples, seed=0)


def _num_samples(config: Config) -> int:
    """Return the number of training samples of a whole run."""
    config = _fitting(config)
    return num_steps(config, len(load(config).train.images)) * config.optimizer.batch_size


Score = Callable[[Config, list[Evaluation]], float]


def best_step_size(config: Config, score: Score | None = None) -> float:
    """Return the value of `--learning_rate` that does best on the training data in early training, as in the paper.

    Each learning rate is tried for `--num_trial_samples` with the first seed.

    Args:
      config: The configuration to train; trials are no longer than it.
      score: A function that scores a trial from its configuration and history; by default the last training bound.

    Raises:
      ValueError: If training diverges at every learning rate.
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
        raise ValueError(f"{title_of(config)} diverges at every learning rate of {tried}")
    best = max(scores, key=lambda rate: scores[rate])
    words = ", ".join(f"{rate:g}: {value:.2f}" for rate, value in scores.items())
    what = "log p(x)" if score else "bound"
    print(
        f"{title_of(config)}: learning rate {best:g} of {words} (training {what} after {samples:,} samples)",
        flush=True,
    )
    return best


def step_sizes() -> list[float]:
    """Return the values of `--learning_rate`."""
    return shared_flags.positive_numbers("learning_rate")


def as_one_program() -> bool:
    """Return the value of `--together`, or else the default of the device."""
    return default_execution() == "side_by_side" if _FLAGS.together is None else _FLAGS.together


def train_seeds(config: Config) -> list[list[Evaluation]]:
    """Return the histories of one member for the `--num_seeds` seeds, evaluated after the same numbers of samples."""
    seeds = [configs.change(config, seed=seed) for seed in range(_FLAGS.num_seeds)]
    train(seeds)
    histories = [history_of(each) for each in seeds]
    for each, history in zip(seeds, histories, strict=True):
        if history is None:
            raise ValueError(f"{name_of(each)} diverges: {why_diverged(each)}")
    found = [history for history in histories if history is not None]
    # A run that began as a trial was also evaluated at the end of the trial.
    common = set.intersection(*({row.num_train_samples for row in history} for history in found))
    return [[row for row in history if row.num_train_samples in common] for history in found]


def history_of(config: Config, also: Sequence[str] = ()) -> list[Evaluation] | None:
    """Return the history of a run up to its configured length, or `None` if it is unfinished or diverged.

    Raises:
      DamagedError: If its metrics are damaged.
    """
    config, workdir, _ = _run(config, also)
    run_folder = RunFolder(workdir, config)
    if not run_folder.is_finished():
        if run_folder.checkpoints.exists():
            run_folder.read_metrics()  # raises if damaged, so that damage is not mistaken for divergence
        return None
    wanted = _num_samples(config)
    # Another figure may have trained it for longer.
    return [row for row in run_folder.read_finished()[1] if row.num_train_samples <= wanted]


def why_diverged(config: Config, also: Sequence[str] = ()) -> str:
    """Return why a run stopped before its end, or an empty string if unknown."""
    config, workdir, _ = _run(config, also)
    return RunFolder(workdir, config).read_divergence()


def trained(config: Config) -> tuple[Model, Params]:
    """Return the model of a member at its best learning rate and first seed, training it if necessary."""
    config = configs.change(config, learning_rate=best_step_size(config))
    return load_run(folder(config), step(config, train_seeds(config)[0][-1]))


def step(config: Config, evaluation: Evaluation) -> int:
    """Return the step of the checkpoint that belongs to an evaluation."""
    return evaluation.num_train_samples // _fitting(config).optimizer.batch_size


def load(config: Config) -> Splits:
    """Return the splits of a member. The paper's protocol holds out nothing for validation."""
    return _load(Config(data=config.data, own_data=config.own_data))


@functools.cache
def _load(config: Config) -> Splits:
    return load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir)


def _fitting(config: Config) -> Config:
    """Return the configuration with minibatches no larger than its data set."""
    return configs.change(config, batch_size=min(config.optimizer.batch_size, len(load(config).train.images)))


def _run(config: Config, also: Sequence[str] = ()) -> Run:
    config = configs.with_data(_fitting(config), load(config).train)
    return Run(config, folder(config, also), name_of(config))
