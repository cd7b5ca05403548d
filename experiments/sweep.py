"""The cross product of latent sizes, step sizes and seeds: one table, one figure.

    python -m experiments.sweep --dataset=mnist --latent_dims=3,5,10,20,200 --learning_rates=0.01,0.02,0.1 --num_seeds=3
    python -m experiments.sweep ... --shard=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

Every run is a folder under --workdir, shared with the paper's figures where that is the same: what is there is not
trained again, and what was interrupted goes on. On a CPU a process a core shares the runs out. On an accelerator all
runs are one program, latent sizes padded to the largest. A run that diverges is said so in the table; sweep.csv says
why.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import launch, members
from experiments.members import Attempt
from experiments.tables import print_table, write_csv

_FLAGS = flags.FLAGS
_BELOW_THE_AXIS = 40  # per cent of values: one step size out of three may be hopeless

flags.DEFINE_enum("dataset", "mnist", list(members.TITLES), "What to train on, with the paper's settings for it.")
flags.DEFINE_enum("algorithm", "aevb", ["aevb", "wake_sleep"], "What trains; both have a bound to compare.")
flags.DEFINE_list("latent_dims", ["3", "5", "10", "20", "200"], "Sizes of z.")
flags.DEFINE_list("learning_rates", ["0.01", "0.02", "0.1"], "Step sizes.")
flags.DEFINE_enum("optimizer", "adagrad", ["adagrad", "adam", "rmsprop", "sgd"], "From optax; Adagrad starts at 0.")


def main() -> None:
    """Trains what is missing, draws the figure and prints the table."""
    latent_dims, rates = launch.integers("latent_dims"), launch.positive_numbers("learning_rates")
    num_samples = members.budget()
    attempts = [
        Attempt(members.paper_member(_FLAGS.dataset, _FLAGS.algorithm, latent_dim, _FLAGS.optimizer), rate, seed)
        for latent_dim in latent_dims
        for rate in rates
        for seed in range(_FLAGS.num_seeds)
    ]
    if members.work_through(
        {attempt: attempt.member for attempt in attempts}, lambda mine: members.train_together(mine, num_samples)
    ):
        _report(attempts, num_samples)


def _report(attempts: Sequence[Attempt], num_samples: int) -> None:
    # Imported late: matplotlib takes two seconds.
    from aevb import figures
    from experiments import pictures

    histories = {attempt: members.history_of(attempt, num_samples) for attempt in attempts}
    finished = {attempt: history for attempt, history in histories.items() if history is not None}
    panels = []
    for member in dict.fromkeys(attempt.member for attempt in attempts):
        curves = []
        for rate in dict.fromkeys(attempt.learning_rate for attempt in attempts):
            seeds = [finished[key] for key in attempts if key[:2] == (member, rate) and key in finished]
            if seeds:
                curves.append(pictures.curve(f"step size {rate:g}", seeds))
        panels.append(figures.Panel(f"{members.TITLES[member.dataset]}, $N_z$ = {member.latent_dim}", curves))
    path = Path(_FLAGS.workdir) / "sweep.png"
    figures.save(figures.bound_panels(panels, num_columns=5, y_quantile=_BELOW_THE_AXIS), path)
    rows = [_row(attempt, histories[attempt]) for attempt in attempts]
    why = ["" if histories[attempt] else members.why_diverged(attempt, num_samples) for attempt in attempts]
    write_csv(path.with_suffix(".csv"), [row | {"why": words} for row, words in zip(rows, why, strict=True)])
    print_table(rows)
    print(f"table: {path.with_suffix('.csv')}\nfigure: {path}")


def _row(attempt: Attempt, history: Sequence | None) -> dict[str, Any]:
    end = history[-1] if history else None
    bound = lambda name: round(getattr(end, name), 4) if end and math.isfinite(getattr(end, name)) else None
    return {
        "latent": attempt.member.latent_dim,
        "step size": attempt.learning_rate,
        "seed": attempt.seed,
        "samples": end.num_train_samples if end else 0,
        "train": bound("train_elbo"),
        "test": bound("test_elbo"),
        "KL": bound("test_kl"),
        "active": end.active_units if end else None,
        "seconds": round(end.seconds, 1) if end else None,
        "state": "finished" if end else "diverged",
    }


if __name__ == "__main__":
    members.define_flags(with_trials=False, workdir="runs/sweep")
    launch.start(members.__name__, main)
