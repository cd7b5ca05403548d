"""Compare full variational Bayes with the MAP fit (Appendix F). The command is `experiments.full_vb`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import configs, launch, shared_flags
from experiments.configs import Config
from experiments.paper import members
from experiments.reports.tables import curve_rows, print_table, write_csv

_FLAGS = flags.FLAGS

_LABELS = {"aevb": "MAP (AEVB)", "full_vb": "full variational Bayes"}


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("num_train_images", ["50", "200", "1768"], "Training set sizes N, one panel per size.")
    flags.DEFINE_integer("latent_dim", 10, "Size of z.", lower_bound=1)
    flags.DEFINE_float("learning_rate", 1e-3, "Learning rate of Adam, for both methods.")
    members.define_flags(with_trials=False)
    launch.start(main)


def main() -> None:
    """Train the missing runs, draw the figure and print the table."""
    settings = {"latent_dim": _FLAGS.latent_dim, "optimizer": "adam", "learning_rate": _FLAGS.learning_rate}
    shown = {
        (size, label): members.member(
            "frey_face", algorithm=algorithm, num_train_images=size, **settings, **members.length()
        )
        for size in shared_flags.integers("num_train_images")
        for algorithm, label in _LABELS.items()
    }
    runs = [configs.change(config, seed=seed) for config in shown.values() for seed in range(_FLAGS.num_seeds)]
    if members.work_through({config: config for config in runs}, members.train):
        _draw(shown)


def _draw(shown: Mapping[tuple[int, str], Config]) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments.reports import pictures
    from experiments.reports.figure_files import save_figure

    rows, points, panels = [], [], []
    for size in dict.fromkeys(size for size, _ in shown):
        curves = []
        for label in _LABELS.values():
            histories = members.train_seeds(shown[size, label])
            curves.append(pictures.curve(label, histories))
            points += curve_rows({"N": size, "method": label}, histories)
            rows.append(_row(size, label, histories))
        panels.append(figures.Panel(f"N = {size:,}", curves))
    path = Path(_FLAGS.workdir) / "full_vb.png"
    save_figure(figures.bound_panels(panels, num_columns=3), path, data=())
    write_csv(path.with_suffix(".csv"), points)
    print_table(rows)
    print(f"figure: {path}")


def _row(size: int, label: str, histories: Sequence) -> dict[str, Any]:
    """Return the means over seeds at the end of training, and of the best test bound, which only hindsight knows."""
    mean = lambda values: round(sum(values) / len(values), 2)
    return {
        "N": size,
        "method": label,
        "seeds": len(histories),
        "num_train_samples": histories[0][-1].num_train_samples,
        "train_elbo": mean([history[-1].train_elbo for history in histories]),
        "test_elbo": mean([history[-1].test_elbo for history in histories]),
        "best test_elbo": mean([max(row.test_elbo for row in history) for history in histories]),
        "seconds": mean([history[-1].seconds for history in histories]),
    }
