"""The command that trains on one data set: its flags, runs and closing table."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from aevb.data import Dataset
from experiments import configs, defaults, model_arguments, shared_flags
from experiments.config_flags import ConfigFlags
from experiments.configs import Config
from experiments.reports import tables
from experiments.runs import distributed
from experiments.runs.run import Options, Outcome, Run, train
from experiments.runs.splits import load_splits

_FLAGS = flags.FLAGS


def define(config: str | Config, title: str, latent_dim: Sequence[int]) -> Callable[[], None]:
    """Define the flags and return the function to run after parsing; the arguments are those of `launch.main`."""
    config = defaults.of(config) if isinstance(config, str) else config
    sizes = {"latent_dim": latent_dim or [config.model.arguments["latent_dim"]]}
    is_own = config.data.name in defaults.OWN_DATA
    left_out = ["dataset", *(["split_rule"] if is_own else []), *_left_out(config)]
    settings = ConfigFlags(config, sizes if "latent_dim" in config.model.arguments else {}, left_out)
    shared_flags.define_data_flags(has_originals=not is_own)
    define_run_flags(f"Run folder; by default under runs/{config.data.name}.")
    return lambda: _train_all(settings, title)


_OF_IMAGES = ("image_size", "colour", "skip_unreadable")


def _left_out(config: Config) -> list[str]:
    """Return the flags for own data that a command does not have: all of them for a named data set."""
    own = [field.flag for field in configs.fields_of(config.own_data)]
    if config.data.name == defaults.OWN_SEQUENCES:
        return list(_OF_IMAGES)
    return [] if config.data.name == defaults.OWN_IMAGES else own


def define_run_flags(workdir: str) -> None:
    """Define the flags that change none of a run's numbers; `workdir` is the help text of --workdir."""
    flags.DEFINE_string("workdir", None, workdir)
    flags.DEFINE_bool(
        "stream",
        False,
        "Read the data during training instead of holding them on the device; the numbers stay the same.",
    )
    flags.DEFINE_float(
        "checkpoint_minutes", 10.0, "Minutes between checkpoints, where evaluations are further apart.", lower_bound=0
    )
    flags.DEFINE_bool("keep_all_checkpoints", False, "Keep every checkpoint instead of the last few and the best.")
    flags.DEFINE_bool("draw_pictures", True, "Draw the figures of each run in its folder.")
    shared_flags.define_figure_flags()
    distributed.define_flags()
    flags.DEFINE_bool("resume", False, "Resume the run in the folder; a finished run is left as it is.")


def _train_all(settings: ConfigFlags, title: str) -> None:
    """Train configurations that differ in latent size one after the other, and print their table."""
    wanted = settings.crossed()
    is_own = wanted[0].data.name in defaults.OWN_DATA
    splits = load_splits(wanted[0], _FLAGS.data_dir, None if is_own else _FLAGS.source_dir)
    if is_own:
        wanted = suited(wanted, splits.train, settings)
    own_name = re.sub(r"[^\w .,+=@-]", "_", splits.train.name) if is_own else ""  # may have been any file name
    folder = Path("runs") / wanted[0].data.name / own_name / _settings_name(settings)
    base = Path(_FLAGS.workdir or folder)
    title = title or (splits.train.name if is_own else defaults.title_of(wanted[0].data))
    options = Options(
        _FLAGS.resume,
        _FLAGS.stream,
        keep_all_checkpoints=_FLAGS.keep_all_checkpoints,
        draw_pictures=_FLAGS.draw_pictures,
        save_seconds=60 * _FLAGS.checkpoint_minutes,
    )
    results: list[tuple[Run, Outcome]] = []
    for config in wanted:
        config = configs.with_data(config, splits.train)
        size = config.model.arguments.get("latent_dim")
        alone = (len(wanted) == 1 and _FLAGS.workdir) or size is None
        name = title if size is None else f"{title}, latent {model_arguments.joined(size)}"
        run = Run(config, base if alone else base / f"latent_{model_arguments.joined(size)}", name)
        outcome = train(run, splits, options)
        if outcome.was_finished:
            print(f"nothing to do: {run.workdir} holds a finished run of this configuration")
        results.append((run, outcome))
    if distributed.is_writer():
        _report(results, base, title)


def _report(results: Sequence[tuple[Run, Outcome]], base: Path, title: str) -> None:
    if len(results) > 1:
        from aevb import figures
        from experiments.reports import pictures

        labelled = [
            (f"latent {model_arguments.joined(run.config.model.arguments['latent_dim'])}", outcome.history)
            for run, outcome in results
        ]
        pictures.draw_curves(base / "figures", labelled, figures.literal(f"{title}, by latent size"))
        print(f"all runs in one figure: {base / 'figures' / 'lower_bounds.png'}")
    tables.print_runs([(run.workdir, outcome.summary) for run, outcome in results])


_LONGEST_NAME = 255  # bytes, the limit of most file systems
_NOT_IN_NAMES = ("num_epochs", "num_train_samples", "seed", "latent_dim", "data", "skip_unreadable")


def suited(wanted: Sequence[Config], train: Dataset, settings: ConfigFlags) -> list[Config]:
    """Return the configurations with settings that suit own data where no flag is given, and print the choice."""
    if "likelihood" in configs.flat(wanted[0]) and settings.is_open("likelihood"):
        likelihood, why = defaults.likelihood_for(train, wanted[0].objective.binarization)
        print(f"likelihood {likelihood}, because {why}; set --likelihood to choose another")
        wanted = [configs.change(config, likelihood=likelihood) for config in wanted]
    if settings.is_open("batch_size"):
        size = min(wanted[0].optimizer.batch_size, len(train.images))
        wanted = [configs.change(config, batch_size=size) for config in wanted]
    return list(wanted)


def _settings_name(settings: ConfigFlags) -> str:
    """Return a folder name from the seed and the flags that were changed; a long name is cut and ends in a hash."""
    values = [(flag, _FLAGS[flag].value) for flag in settings.changed() if flag not in _NOT_IN_NAMES]
    words = [f"{flag}-{'-'.join(value) if isinstance(value, list) else value}" for flag, value in values]
    name = ",".join([*words, f"seed-{_FLAGS.seed}"])
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name.encode()[: _LONGEST_NAME - 17].decode(errors='ignore')},{digest}"
