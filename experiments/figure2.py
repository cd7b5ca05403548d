"""Figure 2: lower bound against training samples, AEVB and wake-sleep, MNIST and Frey Face.

    python -m experiments.figure2
    python -m experiments.figure2 --num_train_samples=300000 --latent_dim_mnist=3,20 --latent_dim_frey_face=

Every member is a run folder under --workdir: an interrupted command goes on where it was, and several commands with
different --algorithm or latent sizes may run side by side, the whole one drawing them together at the end.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import launch, members
from experiments.tables import curve_rows, print_table, write_csv

_FLAGS = flags.FLAGS
_ALGORITHMS = ("aevb", "wake_sleep")

flags.DEFINE_list("algorithm", list(_ALGORITHMS), "Which of aevb and wake_sleep.")
flags.DEFINE_list("latent_dim_mnist", ["3", "5", "10", "20", "200"], "Panels of MNIST.")
flags.DEFINE_list("latent_dim_frey_face", ["2", "5", "10", "20"], "Panels of Frey Face.")


def main() -> None:
    """Trains what is missing, draws the figure and prints the table."""
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments import pictures

    algorithms = launch.choices("algorithm", _ALGORITHMS)
    num_samples = members.budget()
    rows, points, panels = [], [], []
    for dataset, title in members.TITLES.items():
        for latent_dim in launch.integers(f"latent_dim_{dataset}", may_be_empty=True):
            curves = []
            for algorithm in algorithms:
                member = members.paper_member(dataset, algorithm, latent_dim)
                learning_rate = members.best_step_size(member, num_samples)
                histories = members.train_seeds(member, num_samples, learning_rate)
                curves.append(pictures.curve(members.LABELS[algorithm], histories))
                label = {
                    "data": title,
                    "latent": latent_dim,
                    "algorithm": members.LABELS[algorithm],
                    "step size": learning_rate,
                }
                points += curve_rows(label, histories)
                rows.append(label | _ends(histories))
            panels.append(figures.Panel(f"{title}, $N_z$ = {latent_dim}", curves))
    path = Path(_FLAGS.workdir) / "figure2.png"
    figures.save(figures.bound_panels(panels, num_columns=5), path)
    write_csv(path.with_suffix(".csv"), points)
    print_table(rows)
    print(f"figure: {path}")


def _ends(histories: Sequence) -> dict:
    """The mean over seeds at the end of training."""
    ends = [history[-1] for history in histories]
    mean = lambda name: sum(getattr(end, name) for end in ends) / len(ends)
    return {
        "seeds": len(ends),
        "samples": ends[0].num_train_samples,
        "train": round(mean("train_elbo"), 2),
        "test": round(mean("test_elbo"), 2),
        "train - test": round(mean("train_elbo") - mean("test_elbo"), 2),
        "seconds": round(mean("seconds"), 1),
    }


if __name__ == "__main__":
    members.define_flags()
    launch.start(members.__name__, main)
