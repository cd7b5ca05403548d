"""Draw Figure 2: lower bound against training samples, AEVB and wake-sleep. The command is `experiments.figure2`."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import configs, defaults, launch, shared_flags
from experiments.configs import Config
from experiments.paper import members
from experiments.reports.tables import curve_rows, print_table, write_csv

_FLAGS = flags.FLAGS
_ALGORITHMS = ("aevb", "wake_sleep")


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("algorithm", list(_ALGORITHMS), f"Comma-separated subset of {', '.join(_ALGORITHMS)}.")
    flags.DEFINE_list(
        "latent_dim", None, "Latent sizes for both data sets, one panel per size; replaces the next two flags."
    )
    flags.DEFINE_list("latent_dim_mnist", ["3", "5", "10", "20", "200"], "Latent sizes for MNIST, one panel per size.")
    flags.DEFINE_list("latent_dim_frey_face", ["2", "5", "10", "20"], "Latent sizes for Frey Face, one panel per size.")
    members.define_flags()
    launch.start(main)


def main() -> None:
    """Train the missing runs, draw the figure and print the table."""
    algorithms = shared_flags.choices("algorithm", _ALGORITHMS)
    panels = {
        (dataset, latent_dim): [
            members.member(dataset, algorithm=algorithm, latent_dim=latent_dim, **members.length())
            for algorithm in algorithms
        ]
        for dataset in members.DATASETS
        for latent_dim in _latent_dims(dataset)
    }
    units = {config: config for of_panel in panels.values() for config in of_panel}
    if members.work_through(units, members.prepare):
        _draw(panels)


def _latent_dims(dataset: str) -> list[int]:
    if _FLAGS.latent_dim is not None:
        return shared_flags.integers("latent_dim")
    return shared_flags.integers(f"latent_dim_{dataset}", may_be_empty=True)


def _draw(panels: dict[tuple[str, int], list[Config]]) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments.reports import pictures
    from experiments.reports.figure_files import save_figure

    rows, points, drawn = [], [], []
    for (dataset, latent_dim), of_panel in panels.items():
        curves, title = [], defaults.TITLES[dataset]
        for config in of_panel:
            learning_rate = members.best_step_size(config)
            histories = members.train_seeds(configs.change(config, learning_rate=learning_rate))
            label = {
                "dataset": title,
                "latent_dim": latent_dim,
                "algorithm": members.LABELS[config.algorithm],
                "learning_rate": learning_rate,
            }
            curves.append(pictures.curve(members.LABELS[config.algorithm], histories))
            points += curve_rows(label, histories)
            rows.append(label | _ends(histories))
        drawn.append(figures.Panel(f"{title}, $N_z$ = {latent_dim}", curves))
    path = Path(_FLAGS.workdir) / "figure2.png"
    save_figure(figures.bound_panels(drawn, num_columns=3), path, data=())
    write_csv(path.with_suffix(".csv"), points)
    print_table(rows)
    print(f"figure: {path}")


def _ends(histories: Sequence) -> dict:
    """Return the means over seeds at the end of training."""
    ends = [history[-1] for history in histories]
    mean = lambda name: sum(getattr(end, name) for end in ends) / len(ends)
    return {
        "seeds": len(ends),
        "num_train_samples": ends[0].num_train_samples,
        "train_elbo": round(mean("train_elbo"), 2),
        "test_elbo": round(mean("test_elbo"), 2),
        "train - test": round(mean("train_elbo") - mean("test_elbo"), 2),
        "seconds": round(mean("seconds"), 1),
    }
