"""Full variational Bayes against the MAP fit as the training set shrinks (Appendix F): Frey Face.

    python -m experiments.full_vb
    python -m experiments.full_vb --num_train_images=50,200,1768 --latent_dim=10

Both train the same networks by the same optimizer for as long; full variational Bayes has a Gaussian posterior over the
decoder's weights where the MAP fit has a point. Bounds are of the held-out images: for full variational Bayes the mean
over weights drawn from their posterior, which is a lower bound on the log predictive density too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import launch, members
from experiments.tables import curve_rows, print_table, write_csv

_FLAGS = flags.FLAGS

flags.DEFINE_list("num_train_images", ["50", "200", "1768"], "N, a panel each.")
flags.DEFINE_integer("latent_dim", 10, "Size of z.", lower_bound=1)
flags.DEFINE_float("learning_rate", 1e-3, "Step size of Adam, for both.")

_LABELS = {"aevb": "MAP (AEVB)", "full_vb": "full variational Bayes"}


def main() -> None:
    """Trains what is missing, draws the figure and prints the table."""
    num_samples = members.budget()
    shown = {
        (size, label): members.Member("frey_face", algorithm, _FLAGS.latent_dim, 200, size, optimizer="adam")
        for size in launch.integers("num_train_images")
        for algorithm, label in _LABELS.items()
    }
    attempts = [
        members.Attempt(member, _FLAGS.learning_rate, seed)
        for member in shown.values()
        for seed in range(_FLAGS.num_seeds)
    ]
    if members.work_through(
        {attempt: attempt.member for attempt in attempts}, lambda mine: members.train_together(mine, num_samples)
    ):
        _draw(shown, num_samples)


def _draw(shown: Mapping[tuple[int, str], members.Member], num_samples: int) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments import pictures

    rows, points, panels = [], [], []
    for size in dict.fromkeys(size for size, _ in shown):
        curves = []
        for label in _LABELS.values():
            histories = members.train_seeds(shown[size, label], num_samples, _FLAGS.learning_rate)
            curves.append(pictures.curve(label, histories))
            points += curve_rows({"N": size, "method": label}, histories)
            rows.append(_row(size, label, histories))
        panels.append(figures.Panel(f"N = {size:,}", curves))
    path = Path(_FLAGS.workdir) / "full_vb.png"
    figures.save(figures.bound_panels(panels, num_columns=len(panels)), path)
    write_csv(path.with_suffix(".csv"), points)
    print_table(rows)
    print(f"figure: {path}")


def _row(size: int, label: str, histories: Sequence) -> dict[str, Any]:
    """The mean over seeds at the end, and at the best moment of the test bound, which only hindsight knows."""
    mean = lambda values: round(sum(values) / len(values), 2)
    return {
        "N": size,
        "method": label,
        "seeds": len(histories),
        "samples": histories[0][-1].num_train_samples,
        "train": mean([history[-1].train_elbo for history in histories]),
        "test": mean([history[-1].test_elbo for history in histories]),
        "best test": mean([max(row.test_elbo for row in history) for history in histories]),
        "seconds": mean([history[-1].seconds for history in histories]),
    }


if __name__ == "__main__":
    members.define_flags(with_trials=False)
    launch.start(members.__name__, main)
