"""The command that trains on one data set: its flags, its runs, its closing table."""

from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from experiments import configs, defaults
from experiments.config_flags import ConfigFlags
from experiments.configs import Config
from experiments.launch import define_data_flags
from experiments.reports import tables
from experiments.runs import distributed
from experiments.runs.run import Options, Outcome, Run, train
from experiments.runs.splits import Splits

_FLAGS = flags.FLAGS


def define(config: str | Config, title: str, latent_dim: Sequence[int]) -> Callable[[], None]:
    """Define the flags, and return what runs once they are parsed. Arguments as for `launch.main`."""
    config = defaults.of(config) if isinstance(config, str) else config
    title = title or defaults.title_of(config.data)
    sizes = {"latent_dim": latent_dim or [config.model.arguments["latent_dim"]]}
    settings = ConfigFlags(config, sizes if "latent_dim" in config.model.arguments else {}, leave_out=["dataset"])
    define_data_flags()
    define_run_flags(f"The run folder; under runs/{config.data.name} if not given.")
    return lambda: _train_all(settings, config.data.name, title)


def define_run_flags(workdir: str) -> None:
    """Define how a run is trained: what changes none of its numbers. `workdir` says what that flag is."""
    flags.DEFINE_string("workdir", None, workdir)
    flags.DEFINE_bool("stream", False, "Read the data while training instead of holding them; the same numbers.")
    flags.DEFINE_float(
        "checkpoint_minutes", 10.0, "Between checkpoints where evaluations are far apart.", lower_bound=0
    )
    distributed.define_flags()
    flags.DEFINE_bool("resume", False, "Go on with the run that is in the folder; nothing if it is finished.")


def _train_all(settings: ConfigFlags, dataset: str, title: str) -> None:
    wanted = settings.crossed()
    splits = Splits.load(wanted[0].data, _FLAGS.data_dir, _FLAGS.source_dir)
    train_all(wanted, splits, Path("runs") / dataset / _settings_name(settings), title)


def train_all(wanted: Sequence[Config], splits: Splits, workdir: Path, title: str) -> None:
    """Train configurations that differ in latent size in turn, and print their table.

    Args:
      wanted: what to train.
      splits: on what.
      workdir: where they are kept unless --workdir says otherwise.
      title: of the data set, for people.
    """
    base = Path(_FLAGS.workdir or workdir)
    options = Options(_FLAGS.resume, _FLAGS.stream, save_seconds=60 * _FLAGS.checkpoint_minutes)
    results: list[tuple[Run, Outcome]] = []
    for config in wanted:
        config = configs.with_data(config, splits.train)
        size = config.model.arguments.get("latent_dim")
        alone = (len(wanted) == 1 and _FLAGS.workdir) or size is None
        name = title if size is None else f"{title}, latent {size}"
        run = Run(config, base if alone else base / f"latent_{size}", name)
        results.append((run, train(run, splits, options)))
    if distributed.is_writer():
        _report(results, base, title)


def _report(results: Sequence[tuple[Run, Outcome]], base: Path, title: str) -> None:
    if len(results) > 1:
        from experiments.reports import pictures

        labelled = [(str(run.config.model.arguments["latent_dim"]), outcome.history) for run, outcome in results]
        pictures.draw_curves(base / "figures", labelled, f"{title}, by latent size")
        print(f"all of them in one figure: {base / 'figures' / 'lower_bounds.png'}")
    tables.print_runs([(run.workdir, outcome.summary) for run, outcome in results])


_NOT_IN_NAMES = ("num_epochs", "num_train_samples", "seed", "latent_dim")


def _settings_name(settings: ConfigFlags) -> str:
    """Return a folder name out of the flags that are not at their defaults, and the seed."""
    values = [(flag, _FLAGS[flag].value) for flag in settings.changed() if flag not in _NOT_IN_NAMES]
    words = [f"{flag}-{'-'.join(value) if isinstance(value, list) else value}" for flag, value in values]
    return ",".join([*words, f"seed-{_FLAGS.seed}"])
