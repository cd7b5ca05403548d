"""Draw Figure 3: estimated marginal likelihood against training samples. The command is `experiments.figure3`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import configs, launch, shared_flags
from experiments.configs import Config
from experiments.paper import members
from experiments.reports.tables import print_table, write_csv

_FLAGS = flags.FLAGS
_CHECKPOINTS_BETWEEN = 2  # the marginal likelihood is estimated at every second checkpoint


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_list("num_train_images", ["1000", "50000"], "Training set sizes N, one panel per size.")
    flags.DEFINE_list(
        "num_train_samples",
        [],
        "Training samples to process, one number for all panels or one per panel; by default 10^8 on an accelerator, "
        "3x10^6 on a CPU.",
    )
    flags.DEFINE_list(
        "num_train_samples_mcem", [], "The same for Monte Carlo EM, which costs more; by default --num_train_samples."
    )
    flags.DEFINE_list("algorithm", list(members.LABELS), f"Comma-separated subset of {', '.join(members.LABELS)}.")
    flags.DEFINE_integer(
        "latent_dim", 3, "Size of z; the estimator of Appendix D only works for small sizes.", lower_bound=1
    )
    flags.DEFINE_integer("hidden_dim", 100, "Units of the hidden layer.", lower_bound=1)
    flags.DEFINE_integer("num_datapoints", 100, "Datapoints per split for the marginal likelihood.", 1)
    members.define_flags(with_budget=False)
    launch.start(main)


def main() -> None:
    """Train the missing runs, estimate the missing values, draw the figure and print the table."""
    algorithms = shared_flags.choices("algorithm", members.LABELS)
    sizes = shared_flags.integers("num_train_images")
    budgets = _budgets("num_train_samples", sizes, [members.default_budget()] * len(sizes))
    mcem_budgets = _budgets("num_train_samples_mcem", sizes, budgets)
    units = [
        _member(size, algorithm, mcem_budget if algorithm == "monte_carlo_em" else budget)
        for size, budget, mcem_budget in zip(sizes, budgets, mcem_budgets, strict=True)
        for algorithm in algorithms
    ]
    if members.work_through({unit: unit for unit in units}, _train):
        _draw(sizes, units)


def _member(size: int, algorithm: str, num_samples: int) -> Config:
    network = {"latent_dim": _FLAGS.latent_dim, "hidden_dim": [_FLAGS.hidden_dim]}
    wanted = {"num_train_images": size, "num_train_samples": num_samples}
    return members.member("mnist", algorithm=algorithm, **network, **wanted)


def _train(units: Sequence[Config]) -> None:
    for unit in units:
        _estimates(unit)


def _draw(sizes: Sequence[int], units: Sequence[Config]) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments.reports.figure_files import save_figure

    of_size = lambda size: [unit for unit in units if unit.data.num_train_images == size]
    found = {size: {unit.algorithm: _estimates(unit) for unit in of_size(size)} for size in sizes}
    panels = [
        figures.Panel(f"N = {size:,}", [_curve(name, seeds, x) for name, seeds in found[size].items()], x_label)
        for x, x_label in (("num_train_samples", "training samples"), ("seconds", "seconds of training"))
        for size in sizes
    ]
    path = Path(_FLAGS.workdir) / "figure3.png"
    figure = figures.bound_panels(panels, len(sizes), "estimated log p(x)\n(nats per datapoint)")
    save_figure(figure, path, data=())
    curves = [
        [{"N": size, "algorithm": members.LABELS[name], **row} for row in rows]
        for size in sizes
        for name, seeds in found[size].items()
        for rows in seeds
    ]
    write_csv(path.with_suffix(".csv"), [row for rows in curves for row in rows])
    print_table([rows[-1] for rows in curves])
    print(f"figure: {path}")


def _estimates(config: Config) -> list[list[dict[str, Any]]]:
    """Return the estimates of each seed, one row per checkpoint, at the learning rate that does best early on."""

    def score(trial: Config, history: Sequence) -> float:
        return _estimate(trial, history[-1])["train"]

    config = configs.change(config, learning_rate=members.best_step_size(config, score))
    return [
        [_estimate(configs.change(config, seed=seed), row) for row in _thinned(history)]
        for seed, history in enumerate(members.train_seeds(config))
    ]


def _thinned(history: Sequence) -> list:
    """Return every second evaluation, counted from the last."""
    return list(history[:0:-_CHECKPOINTS_BETWEEN])[::-1]


def _estimate(config: Config, evaluation: Any) -> dict[str, Any]:
    """Return the estimated marginal likelihood of both splits at one checkpoint."""
    from experiments.paper.estimates import estimate

    splits, folder, step = members.load(config), members.folder(config), members.step(config, evaluation)
    row: dict[str, Any] = {
        "learning_rate": config.optimizer.learning_rate,
        "seed": config.training.seed,
        "num_train_samples": evaluation.num_train_samples,
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
    given = shared_flags.integers(name, may_be_empty=True)
    if len(given) not in (0, 1, len(sizes)):
        raise ValueError(f"--{name} takes one number, or one per value of --num_train_images, got {len(given)}")
    return given * len(sizes) if len(given) == 1 else given or default
