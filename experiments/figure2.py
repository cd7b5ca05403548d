"""Figure 2: lower bound against training samples, AEVB and wake-sleep, MNIST and Frey Face.

    python -m experiments.figure2
    python -m experiments.figure2 --num_train_samples=300000 --latent_dim_mnist=3,20 --latent_dim_frey_face=

Every member is a run folder under --workdir: an interrupted command goes on where it was. On a CPU a process a core
shares the members out; on a cluster --shard=i/n does, and the command without it draws them together at the end. On an
accelerator all latent sizes and step sizes of an algorithm are trained as one program.
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
    algorithms = launch.choices("algorithm", _ALGORITHMS)
    num_samples = members.budget()
    panels = {
        (dataset, latent_dim): [members.paper_member(dataset, algorithm, latent_dim) for algorithm in algorithms]
        for dataset in members.TITLES
        for latent_dim in launch.integers(f"latent_dim_{dataset}", may_be_empty=True)
    }
    units = {member: member for of_panel in panels.values() for member in of_panel}
    if members.work_through(units, lambda units: members.prepare(units, num_samples)):
        _draw(panels, num_samples)


def _draw(panels: dict[tuple[str, int], list[members.Member]], num_samples: int) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments import pictures

    rows, points, drawn = [], [], []
    for (dataset, latent_dim), of_panel in panels.items():
        curves = []
        for member in of_panel:
            learning_rate = members.best_step_size(member, num_samples)
            histories = members.train_seeds(member, num_samples, learning_rate)
            label = {
                "data": members.TITLES[dataset],
                "latent": latent_dim,
                "algorithm": members.LABELS[member.algorithm],
                "step size": learning_rate,
            }
            curves.append(pictures.curve(members.LABELS[member.algorithm], histories))
            points += curve_rows(label, histories)
            rows.append(label | _ends(histories))
        drawn.append(figures.Panel(f"{members.TITLES[dataset]}, $N_z$ = {latent_dim}", curves))
    path = Path(_FLAGS.workdir) / "figure2.png"
    figures.save(figures.bound_panels(drawn, num_columns=5), path)
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
