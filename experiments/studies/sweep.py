"""Train every combination of settings and compare them in a table and a figure. The command is `experiments.sweep`."""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from aevb.checkpoints import RunError
from aevb.models.families import takes_sequences
from aevb.training import Evaluation
from experiments import configs, defaults, launch, model_arguments
from experiments.config_flags import ConfigFlags
from experiments.configs import Config
from experiments.paper import members
from experiments.reports.tables import print_table, write_csv
from experiments.runs import command
from experiments.runs.folder import DamagedError, how_to_repair
from experiments.runs.run import Options

_FLAGS = flags.FLAGS
_BELOW_THE_AXIS = 40  # per cent of values: one learning rate out of three may fail
_CROSSED = {"latent_dim": (3, 5, 10, 20, 200), "learning_rate": (0.01, 0.02, 0.1), "seed": (0,)}
_OF_A_PANEL = ("learning_rate", "seed")  # the curves of a panel, and the runs of a curve


def run() -> None:
    """Define the flags and run."""
    settings = ConfigFlags(defaults.of("mnist"), _CROSSED, has_defaults=False)
    flags.DEFINE_multi_string(
        "sweep",
        [],
        "A setting and its values, such as latent_dim=3,5 or optimizer.learning_rate=0.01,0.1; can be repeated.",
    )
    flags.DEFINE_integer("num_seeds", None, "Number of seeds, 0, 1, ..., instead of --seed.", lower_bound=1)
    for old in ("latent_dim", "learning_rate"):
        flags.DEFINE_alias(f"{old}s", old)
    members.define_sharing("runs/sweep")
    flags.DEFINE_bool(
        "keep_all_checkpoints", True, "Keep every checkpoint of each run, not only the last few and the best."
    )
    flags.DEFINE_bool("draw_pictures", False, "Draw the pictures of each run into its folder.")
    launch.start(lambda: main(settings))


def main(settings: ConfigFlags) -> None:
    """Train the missing runs, draw the figure and print the table."""
    wanted, axes = _wanted(settings)
    options = Options(
        keep_all_checkpoints=_FLAGS.keep_all_checkpoints,
        draw_pictures=_FLAGS.draw_pictures,
        together=members.as_one_program(),
    )
    if members.work_through(
        {config: config for config in wanted}, lambda mine: members.train(mine, axes, options), axes
    ):
        _report(wanted, axes)


def _wanted(settings: ConfigFlags) -> tuple[list[Config], tuple[str, ...]]:
    """Return the configurations, and the flags in which they differ."""
    more = list(_FLAGS.sweep)
    if _FLAGS.num_seeds:
        more.append(f"seed={','.join(map(str, range(_FLAGS.num_seeds)))}")
    if _FLAGS.data and _FLAGS.dataset:
        raise ValueError("--data and --dataset are alternatives: give one of them")
    own = defaults.OWN_SEQUENCES if _FLAGS.model and takes_sequences(_FLAGS.model) else defaults.OWN_IMAGES
    start = defaults.of(own if _FLAGS.data else _FLAGS.dataset or "mnist", eval_every="log")
    if not (_FLAGS.num_epochs or _FLAGS.num_train_samples):
        start = configs.change(start, num_train_samples=members.default_budget())
    if not _FLAGS.sweep:  # as before --sweep existed: latent sizes and learning rates are crossed unless one is given
        more += [f"{flag}={','.join(map(str, _CROSSED[flag]))}" for flag in _defaults_left(start)]
    wanted = settings.crossed(more, start)
    if _FLAGS.data:
        wanted = command.suited(wanted, members.load(wanted[0]).train, settings)
    return wanted, settings.axes


def _defaults_left(config: Config) -> Iterator[str]:
    """Yield the flags that are not given and whose default values suit the model."""
    config = configs.change(config, model=_FLAGS.model or config.model.name)
    known = {field.flag: field.kind for field in configs.fields_of(config)}
    for flag, values in _CROSSED.items():
        said = _FLAGS[flag].present or (flag == "seed" and _FLAGS.num_seeds)
        if flag in known and model_arguments.takes(known[flag], values[0]) and not said:
            yield flag


def _report(wanted: Sequence[Config], axes: Sequence[str]) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments.reports.figure_files import save_figure

    histories, damaged = _histories(wanted, axes)
    panels: dict[Config, dict[float, list]] = {}
    for config, history in histories.items():
        curves = panels.setdefault(configs.change(config, learning_rate=1.0, seed=0), {})
        curves.setdefault(config.optimizer.learning_rate, []).append((_state(config, history, damaged), history))
    drawn = [_panel(_title(config, axes), curves) for config, curves in panels.items()]
    path = Path(_FLAGS.workdir) / "sweep.png"
    figure = figures.bound_panels(drawn, num_columns=3, y_quantile=_BELOW_THE_AXIS)
    save_figure(figure, path, data=())
    if figure.data:
        figures.write_data(path.with_name("sweep_curves.csv"), figure.data)
    has_valid = any(history and math.isfinite(history[-1].valid_elbo) for history in histories.values())
    rows, why = [], []
    for config, history in histories.items():
        rows.append(_row(config, axes, history, has_valid) | {"state": _state(config, history, damaged)})
        why.append(damaged.get(config) or ("" if history else members.why_diverged(config, axes)))
    write_csv(path.with_suffix(".csv"), [row | {"why": words} for row, words in zip(rows, why, strict=True)])
    print_table(rows)
    print(f"table: {path.with_suffix('.csv')}\nfigure: {path}")
    if damaged:
        raise RunError(f"{len(damaged)} of {len(wanted)} runs are damaged: {how_to_repair(Path(_FLAGS.workdir))}")


def _state(config: Config, history: Sequence | None, damaged: Collection[Config]) -> str:
    return "damaged" if config in damaged else "finished" if history else "diverged"


def _panel(title: str, of_rates: dict[float, list]) -> Any:
    """Return the panel of states and histories by learning rate; runs without a result are named in it."""
    from aevb import figures
    from experiments.reports import pictures

    curves, notes = [], []
    for rate, seeds in of_rates.items():
        label = f"learning rate {rate:g}"
        if finished := [history for state, history in seeds if state == "finished"]:
            curves.append(pictures.curve(label, finished))
        for lost in ("diverged", "damaged"):
            if number := sum(state == lost for state, _ in seeds):
                notes.append(f"{label}: {'' if number == len(seeds) else f'{number} of {len(seeds)} seeds '}{lost}")
    return figures.Panel(title, curves, notes=notes)


def _histories(
    wanted: Sequence[Config], axes: Sequence[str]
) -> tuple[dict[Config, Sequence[Evaluation] | None], dict[Config, str]]:
    """Return the history of each run, `None` if it has none, and the errors of damaged runs."""
    histories: dict[Config, Sequence[Evaluation] | None] = {}
    damaged: dict[Config, str] = {}
    for config in wanted:
        try:
            histories[config] = members.history_of(config, axes)
        except DamagedError as error:
            histories[config], damaged[config] = None, str(error)
    return histories, damaged


def _title(config: Config, axes: Sequence[str]) -> str:
    values = configs.flat(config)
    size = f", $N_z$ = {model_arguments.joined(values['latent_dim'])}" if "latent_dim" in values else ""
    title = defaults.title_of(config.data) + size
    others = [f"{flag} {_cell(values[flag])}" for flag in axes if flag not in (*_OF_A_PANEL, "latent_dim")]
    return "\n".join([title, *others])


def _cell(value: Any) -> Any:
    return model_arguments.joined(value) if isinstance(value, list | tuple) else value


def _row(config: Config, axes: Sequence[str], history: Sequence | None, has_valid: bool) -> dict[str, Any]:
    """Return a row of the table. Its columns are named as in metrics.csv and as the flags."""
    end = history[-1] if history else None
    bound = lambda name: round(getattr(end, name), 4) if end and math.isfinite(getattr(end, name)) else None
    validation = {"valid_elbo": bound("valid_elbo")} if has_valid else {}
    values = configs.flat(config)
    always = [flag for flag in ("latent_dim", "learning_rate", "seed") if flag in values]
    return {
        **{flag: _cell(values[flag]) for flag in dict.fromkeys((*always, *axes))},
        "num_train_samples": end.num_train_samples if end else 0,
        "train_elbo": bound("train_elbo"),
        **validation,
        "test_elbo": bound("test_elbo"),
        "test_kl": bound("test_kl"),
        "active_units": end.active_units if end else None,
        "seconds": round(end.seconds, 1) if end else None,
    }
