"""Fit and compare hidden Markov models of several sizes. The command is `experiments.hmm`."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, new_folders, shared_flags
from experiments.runs.folder import write_json

if TYPE_CHECKING:
    from experiments.studies.hmm_sizes import Data, Size

_FLAGS = flags.FLAGS
_EMISSIONS = ("bernoulli", "gaussian", "poisson", "categorical")
_CONFIG, _RESULTS = "config.json", "results.json"
_SETTINGS = (  # the flags that results depend on, besides the number of states
    "data", "emission", "num_restarts", "num_iterations", "evaluate_every", "patience", "pseudo_count", "seed",
)  # fmt: skip


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_string("dataset", "jsb_chorales", "A registered data set of sequences.")
    flags.DEFINE_string(
        "data", None, "Your own data set, instead of --dataset: a .npz file of values [N, T, D] and lengths [N]."
    )
    flags.DEFINE_enum(
        "emission",
        None,
        _EMISSIONS,
        "Emission family; by default bernoulli where all values are 0 or 1, else gaussian.",
    )
    flags.DEFINE_list("num_states", ["10", "20", "50", "100"], "Numbers of states; one model is fitted per number.")
    flags.DEFINE_integer("num_restarts", 5, "Random starts per model.", lower_bound=1)
    flags.DEFINE_integer("num_iterations", 200, "Maximum number of EM steps per start.", lower_bound=1)
    flags.DEFINE_integer("evaluate_every", 5, "EM steps between validations.", lower_bound=1)
    flags.DEFINE_integer(
        "patience", 4, "Stop after this many validations without an improvement at any start.", lower_bound=1
    )
    flags.DEFINE_float("pseudo_count", 0.1, "Pseudo-count added to every expected count.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "Seed for the random starts.", lower_bound=0)
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default under runs/hmm.")
    launch.start(_compare)


def _compare() -> None:
    all_states = shared_flags.integers("num_states")
    if len(set(all_states)) < len(all_states):
        raise ValueError(f"--num_states names a size twice: {','.join(_FLAGS.num_states)}")
    if _FLAGS.data is not None and _FLAGS["dataset"].present:
        raise ValueError("--data and --dataset are alternatives: give one of them")
    from experiments.studies import hmm_sizes

    data = hmm_sizes.load(_FLAGS.data or _FLAGS.dataset, bool(_FLAGS.data), _FLAGS.data_dir, _FLAGS.source_dir)
    family = _FLAGS.emission or hmm_sizes.suitable_emission(data)
    emission = hmm_sizes.make_emission(family, data, _FLAGS.pseudo_count)
    hmm_sizes.check(data, emission, max(all_states), _FLAGS.seed)
    workdir = Path(_FLAGS.workdir or f"runs/hmm/{data.name},seed-{_FLAGS.seed}")
    _start_workdir(workdir, {**_settings(), "dataset": data.name, "emission": family})
    print(f"{data.name}, {family}: {_sizes_in_words(data)}", flush=True)
    sizes = []
    for num_states in all_states:
        size = hmm_sizes.read(workdir, num_states, emission)
        if size is None:
            size = _learn(data, emission, num_states)
            hmm_sizes.write(workdir, size)
        _print_size(size)
        sizes.append(size)
    _print_table(data, sizes)
    _draw(workdir, data, emission, sizes)
    _write(workdir, data, family, sizes)


def _settings() -> dict[str, Any]:
    return {name: _FLAGS[name].value for name in _SETTINGS}


def _start_workdir(workdir: Path, settings: dict[str, Any]) -> None:
    """Create the folder, or check that it was written with the same settings.

    Raises:
      RunError: If it was written with other settings, or cannot be written to.
    """
    from aevb.checkpoints import RunError

    path = workdir / _CONFIG
    if path.exists():
        try:
            there = json.loads(path.read_text())
            different = [name for name in settings if there[name] != settings[name]]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged ({error!r}): remove {workdir}") from None
        if different:
            raise RunError(
                f"{workdir} holds results with {different[0]} {there[different[0]]}, not {settings[different[0]]}: "
                f"choose another --workdir, or remove that folder"
            )
        return
    new_folders.make(workdir)
    write_json(path, settings)


def _learn(data: "Data", emission: Any, num_states: int) -> "Size":
    """Fit a model of one size from all starts, and report progress."""
    from aevb.checkpoints import RunError
    from experiments.reports.progress import counting
    from experiments.studies import hmm_sizes

    start = time.perf_counter()
    advance = counting(f"{num_states} states", _FLAGS.num_iterations, " steps of EM")
    try:
        return hmm_sizes.learn(
            data,
            emission,
            num_states,
            seed=_FLAGS.seed,
            num_restarts=_FLAGS.num_restarts,
            num_iterations=_FLAGS.num_iterations,
            evaluate_every=_FLAGS.evaluate_every,
            patience=_FLAGS.patience,
            pseudo_count=_FLAGS.pseudo_count,
            on_evaluation=lambda evaluation: advance(evaluation.iteration),
            seconds=lambda: time.perf_counter() - start,
        )
    except FloatingPointError as error:
        raise RunError(f"{num_states} states: {error}") from None


def _sizes_in_words(data: "Data") -> str:
    from experiments.studies.hmm_sizes import num_steps

    each = [f"{name} {len(x):,} sequences, {num_steps(x):,} steps" for name, x in data.splits.items()]
    return "; ".join(each)


def _print_size(size: "Size") -> None:
    row = size.row
    log_p = "  ".join(f"{split} {row[split]:.3f}" for split in ("train", "valid", "test"))
    print(
        f"{row['num_states']:,} states  log p: {log_p} nats per step  (restart {row['restart']}, {row['iterations']} "
        f"steps of EM)  {row['seconds']:.0f} s",
        flush=True,
    )


def _print_table(data: "Data", sizes: "list[Size]") -> None:
    from experiments.reports.tables import print_table

    print(f"\n{data.name}: exact log p in nats per time step; validation sequences choose iteration and restart:")
    rows = []
    for size in sizes:
        row = size.row
        rows.append(
            {
                "states": row["num_states"],
                "train": f"{row['train']:.3f}",
                "valid": f"{row['valid']:.3f}",
                "test": f"{row['test']:.3f}",
                "test, all restarts": f"{min(row['test_of_restarts']):.3f} to {max(row['test_of_restarts']):.3f}",
                "restart": row["restart"],
                "iterations": row["iterations"],
                "used": row["states_used"],
                "seconds": f"{row['seconds']:.0f}",
            }
        )
    print_table(rows)
    print("used: states on the most probable paths of test sequences (Viterbi)")


def _draw(workdir: Path, data: "Data", emission: Any, sizes: "list[Size]") -> None:
    from aevb import figures
    from experiments.reports.figure_files import save_figure
    from experiments.studies import hmm_sizes

    title = f"{figures.literal(data.name)}, hidden Markov models"
    save_figure(
        figures.log_likelihoods([size.curve for size in sizes], title),
        workdir / "log_likelihood.png",
    )
    for size in sizes:
        transition, means, values = hmm_sizes.ordered(size, emission, data)
        of_size = f"{title}: {len(transition):,} states"
        path = workdir / f"states_{len(transition)}.png"
        save_figure(figures.hidden_states(transition, means, values, of_size), path)


def _write(workdir: Path, data: "Data", family: str, sizes: "list[Size]") -> None:
    from experiments.reports.provenance import provenance
    from experiments.studies.hmm_sizes import num_steps

    results = {
        "command": shlex.join(["python", "-m", "experiments.hmm", *sys.argv[1:]]),
        "dataset": data.name,
        **_settings(),
        "emission": family,
        "num_sequences": {name: len(x) for name, x in data.splits.items()},
        "num_steps": {name: num_steps(x) for name, x in data.splits.items()},
        "seconds": sum(size.row["seconds"] for size in sizes),
        **provenance(),
        "rows": [size.row for size in sizes],
    }
    write_json(workdir / _RESULTS, results)
    print(f"written: {workdir}")
