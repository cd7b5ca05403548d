"""Figure 3: estimated marginal likelihood against training samples, AEVB, wake-sleep and Monte Carlo EM.

    python -m experiments.figure3
    python -m experiments.figure3 --num_train_images=1000 --num_train_samples=1000000
    python -m experiments.figure3 --num_train_samples=1000000,3000000 --num_train_samples_mcem=1000000,300000

MNIST, 100 hidden units and 3 latents, so that the estimator of Appendix D works. A sample is one visit of a datapoint,
as in the paper, but not the same work: of AEVB it is one gradient of both networks, of wake-sleep one gradient of each
and a dream, of Monte Carlo EM 10 leapfrogs and 5 updates. The lower row has wall time instead.

Estimates are of a random part of both splits by seed 0, and are kept beside the checkpoint that they are of.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from absl import flags

from experiments import launch, members
from experiments.tables import print_table, write_csv

_FLAGS = flags.FLAGS
Unit: TypeAlias = tuple[int, str, int]  # N, the algorithm, its budget

flags.DEFINE_list("num_train_images", ["1000", "50000"], "N, a panel each.")
flags.DEFINE_list(
    "num_train_samples",
    [],
    "Training samples seen, one number for all panels or one each; by default 10^8 on an accelerator, 3x10^6 on a CPU.",
)
flags.DEFINE_list(
    "num_train_samples_mcem", [], "The same for Monte Carlo EM, which costs more; as the others if empty."
)
flags.DEFINE_list("algorithm", list(members.LABELS), "Which of the three.")
flags.DEFINE_integer("num_datapoints", 100, "Of each split, that the marginal likelihood is estimated of.", 1)

_LATENT_DIM, _HIDDEN_DIM = 3, 100
_CHECKPOINTS_BETWEEN = 2  # every second of those that a run keeps has its marginal likelihood estimated


def main() -> None:
    """Trains and estimates what is missing, draws the figure and prints the table."""
    algorithms = launch.choices("algorithm", members.LABELS)
    sizes = launch.integers("num_train_images")
    budgets = _budgets("num_train_samples", sizes, [members.default_budget()] * len(sizes))
    mcem_budgets = _budgets("num_train_samples_mcem", sizes, budgets)
    units = [
        (size, algorithm, mcem_budget if algorithm == "monte_carlo_em" else budget)
        for size, budget, mcem_budget in zip(sizes, budgets, mcem_budgets, strict=True)
        for algorithm in algorithms
    ]
    if members.work_through({unit: _member(*unit[:2]) for unit in units}, _train):
        _draw(sizes, units)


def _member(size: int, algorithm: str) -> members.Member:
    return members.Member("mnist", algorithm, _LATENT_DIM, _HIDDEN_DIM, size)


def _train(units: Sequence[Unit]) -> None:
    for unit in units:
        _estimates(*unit)


def _draw(sizes: Sequence[int], units: Sequence[Unit]) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures

    found = {size: {unit[1]: _estimates(*unit) for unit in units if unit[0] == size} for size in sizes}
    panels = [
        figures.Panel(f"N = {size:,}", [_curve(name, seeds, x) for name, seeds in found[size].items()], x_label)
        for x, x_label in (("samples", "training samples"), ("seconds", "seconds of training"))
        for size in sizes
    ]
    path = Path(_FLAGS.workdir) / "figure3.png"
    figures.save(figures.bound_panels(panels, len(sizes), "estimated log p(x)\n(nats per datapoint)"), path)
    curves = [
        [{"N": size, "algorithm": members.LABELS[name], **row} for row in rows]
        for size in sizes
        for name, seeds in found[size].items()
        for rows in seeds
    ]
    write_csv(path.with_suffix(".csv"), [row for rows in curves for row in rows])
    print_table([rows[-1] for rows in curves])
    print(f"figure: {path}")


def _estimates(size: int, algorithm: str, num_samples: int) -> list[list[dict[str, Any]]]:
    """For each seed the rows of estimates, one a checkpoint, at the step size that does best early on."""
    member = _member(size, algorithm)

    def score(member: members.Member, learning_rate: float, history: Sequence) -> float:
        return _estimate(member, learning_rate, 0, history[-1])["train"]

    learning_rate = members.best_step_size(member, num_samples, score)
    histories = members.train_seeds(member, num_samples, learning_rate)
    return [
        [_estimate(member, learning_rate, seed, row) for row in _thinned(history)]
        for seed, history in enumerate(histories)
    ]


def _thinned(history: Sequence) -> list:
    """Every second evaluation, counted from the last."""
    return list(history[:0:-_CHECKPOINTS_BETWEEN])[::-1]


def _estimate(member: members.Member, learning_rate: float, seed: int, evaluation: Any) -> dict[str, Any]:
    """The estimated marginal likelihood of both splits at one checkpoint."""
    from experiments.estimates import estimate

    splits = members.load(member)
    folder = members.folder(member, learning_rate, seed)
    step = members.step(member, evaluation)
    row: dict[str, Any] = {
        "step size": learning_rate,
        "seed": seed,
        "samples": evaluation.num_train_samples,
        "seconds": round(evaluation.seconds, 2),
    }
    for split, data in (("train", splits.train), ("test", splits.test)):
        found = estimate(folder, step, data.subset(min(_FLAGS.num_datapoints, len(data.images))))
        row |= {
            split: found["log_marginal"],
            f"{split} error": found["standard_error"],
            f"{split} R-hat over 1.1": found["disagreeing"],
        }
    return row


def _curve(algorithm: str, seeds: Sequence[Sequence[dict[str, Any]]], x: str) -> Any:
    import numpy as np

    from aevb import figures

    columns = {name: np.array([[row[name] for row in rows] for rows in seeds]) for name in (x, "train", "test")}
    return figures.Curve(members.LABELS[algorithm], columns[x].mean(0), columns["train"], columns["test"])


def _budgets(name: str, sizes: Sequence[int], default: list[int]) -> list[int]:
    given = launch.integers(name, may_be_empty=True)
    if len(given) not in (0, 1, len(sizes)):
        raise ValueError(f"--{name} takes one number, or one for each of --num_train_images, got {len(given)}")
    return given * len(sizes) if len(given) == 1 else given or default


if __name__ == "__main__":
    members.define_flags(with_budget=False)
    launch.start(members.__name__, main)
