"""Complete missing parts of sequences with a trained model. The command is `experiments.complete_sequences`."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from experiments import launch, shared_flags, trained_run
from experiments.runs.folder import write_json

if TYPE_CHECKING:
    import numpy as np

    from aevb.model import Model, Params

_FLAGS = flags.FLAGS
_MODEL, _CHAINS, _FREQUENCIES = "the run's model", "a chain for each key", "frequency of each key"
_TASKS = {"forecast": "the second half", "stretch": "a stretch in the middle", "soprano": "the soprano"}
_SHOWN_STEPS = (1, 2, 4, 8, 16)
_BATCH = 10  # sequences whose draws are in memory at a time


class Task(NamedTuple):
    """Sequences with a part held out.

    Attributes:
      name: A key of `_TASKS`.
      xs: The sequences `[N, T, D]`, NaN where values are missing and after the end of each.
      held_out: The missing values that are scored, `[N, T, D]`, NaN elsewhere.
    """

    name: str
    xs: "np.ndarray"
    held_out: "np.ndarray"


class Completed(NamedTuple):
    """A task completed by the run's model and by the baselines without latents.

    Attributes:
      task: The task.
      chances: P(x = 1) given the known values, `[N, T, D]`, by model.
      log_likelihoods: The log-likelihood of the held-out values at each step, `[N, T]`, in nats, by model; NaN where
        nothing is held out.
      draws: Completions of the first sequence by the run's model, `[S, T, D]`.
    """

    task: Task
    chances: "dict[str, np.ndarray]"
    log_likelihoods: "dict[str, np.ndarray]"
    draws: "np.ndarray"


def run() -> None:
    """Define the flags and run."""
    trained_run.define_flags()
    flags.DEFINE_integer(
        "num_sequences", 0, "Number of random sequences of the test split (0: all of them).", lower_bound=0
    )
    flags.DEFINE_list("tasks", list(_TASKS), f"Comma-separated subset of {', '.join(_TASKS)}.")
    flags.DEFINE_integer("stretch", 8, "Number of missing steps in the task `stretch`.", lower_bound=1)
    flags.DEFINE_integer("horizon", 16, "Number of steps to forecast.", lower_bound=1)
    flags.DEFINE_enum(
        "method",
        "bootstrap",
        ["posterior", "particle", "bootstrap"],
        "How z is drawn given the known values. An encoder trained without gaps does not account for missing values.",
    )
    flags.DEFINE_integer("num_particles", 500, "Particles per filter.", lower_bound=2)
    flags.DEFINE_integer("num_draws", 200, "Draws of z per sequence.", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Seed for choosing sequences and for the draws.", lower_bound=0)
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default `completions` in the run folder.")
    launch.start(_complete)


def _complete() -> None:
    start = time.perf_counter()
    names = shared_flags.choices("tasks", _TASKS)
    trained_run.check_flags()
    from experiments.studies.key_chains import KeyChains

    model, params = trained_run.load()
    workdir = Path(_FLAGS.workdir or Path(_FLAGS.run) / "completions")
    if (workdir / "results.json").exists():
        raise ValueError(f"{workdir} holds results already: choose another --workdir, or remove that folder")
    train, test, lengths, has_keys = _sequences()
    if not has_keys:
        names = [name for name in names if name != "soprano"]
    chains = KeyChains.of(train)
    done = [_completed(_task(name, test, lengths), model, params, chains) for name in names]
    rows = [row for each in done for row in _rows(each, lengths)]
    _print_table(rows, len(test))
    _draw(workdir, done, test, lengths, has_keys)
    _write(workdir, rows, done, len(test), time.perf_counter() - start)


def _sequences() -> "tuple[np.ndarray, np.ndarray, np.ndarray, bool]":
    """Return the training sequences, the chosen test sequences and their lengths, and whether they are chorales."""
    import numpy as np

    from experiments import config_files
    from experiments.runs.splits import load_splits

    splits = load_splits(config_files.read(_FLAGS.run), _FLAGS.data_dir, _FLAGS.source_dir)
    test = splits.test
    if not test.is_sequences or test.images.dtype != np.uint8 or test.max_value != 1:
        raise ValueError(
            f"{test.name} holds no binary sequences (values 0 and 1): use experiments.forecast for real-valued series"
        )
    size = _FLAGS.num_sequences or len(test.images)
    if size > len(test.images):
        raise ValueError(f"--num_sequences={size} is more than the {len(test.images)} sequences of the test split")
    chosen = np.sort(np.random.RandomState(_FLAGS.seed).permutation(len(test.images))[:size])
    lengths = test.others["lengths"][chosen]
    xs = test.lazy_sequences()[chosen][:, : lengths.max()]
    return splits.train.sequences(), xs, lengths, test.main == "rolls"


def _task(name: str, xs: "np.ndarray", lengths: "np.ndarray") -> Task:
    """Hold out the part of sequences `[N, T, D]` that the task `name` defines."""
    import numpy as np

    steps, half = np.arange(xs.shape[1]), (lengths // 2)[:, None]
    if name == "forecast":
        is_missing = np.broadcast_to((steps >= half)[..., None], xs.shape)
        is_scored = is_missing & (steps < half + _FLAGS.horizon)[..., None]
    elif name == "stretch":
        first = half - _FLAGS.stretch // 2
        is_missing = np.broadcast_to(((steps >= first) & (steps < first + _FLAGS.stretch))[..., None], xs.shape)
        is_scored = is_missing
    else:
        # Hide all keys above the second highest note: hiding only the highest note would reveal its position.
        from_above = np.cumsum(np.nan_to_num(xs)[..., ::-1], axis=-1)[..., ::-1]
        is_missing = (from_above < 2) & (from_above[..., :1] >= 2)
        is_scored = is_missing
    return Task(name, np.where(is_missing, np.nan, xs), np.where(is_scored, xs, np.nan))


def _completed(task: Task, model: "Model", params: "Params", chains: Any) -> Completed:
    import jax
    import numpy as np

    from aevb import sequences
    from experiments.studies import key_chains

    options = {"method": _FLAGS.method, "num_particles": _FLAGS.num_particles}
    x_key, likelihood_key, draw_key = jax.random.split(jax.random.key(_FLAGS.seed), 3)
    by_model = sequences.log_likelihood(
        params, likelihood_key, task.xs, task.held_out, model, _FLAGS.num_draws, **options
    )
    found = []
    for number, first in enumerate(range(0, len(task.xs), _BATCH)):
        xs = task.xs[first : first + _BATCH]
        means = _filled(jax.random.fold_in(x_key, number), xs, model, params, True, options)
        found.append(means.mean(axis=1))
    chances = {
        _MODEL: np.concatenate(found),
        _CHAINS: chains.chances(task.xs),
        _FREQUENCIES: np.broadcast_to(chains.frequency, task.xs.shape),
    }
    log_likelihoods = {name: key_chains.log_likelihood(each, task.held_out) for name, each in chances.items()}
    draws = _filled(draw_key, task.xs[:1], model, params, False, options)[0]
    return Completed(task, chances, log_likelihoods | {_MODEL: by_model}, draws)


def _filled(
    key: Any, xs: "np.ndarray", model: "Model", params: "Params", mean: bool, options: dict[str, Any]
) -> "np.ndarray":
    """Fill all missing values, also those after the last known step, with draws or means, `[N, S, T, D]`."""
    import numpy as np

    from aevb import sequences
    from aevb.data.sequences import lengths_of

    ends = lengths_of(xs)
    num_more = int(xs.shape[1] - ends.min())
    found = np.broadcast_to(xs[:, None], (len(xs), _FLAGS.num_draws, *xs.shape[1:]))
    if np.any(np.isnan(xs) & (np.arange(xs.shape[1]) < ends[:, None])[..., None]):
        found = sequences.impute(params, key, xs, model, _FLAGS.num_draws, mean=mean, **options)
    if num_more:
        past = xs[:, : ends.max()]
        after = sequences.forecast(params, key, past, model, num_more, _FLAGS.num_draws, mean=mean, **options)
        steps = np.arange(xs.shape[1])
        at = np.clip(steps - ends[:, None], 0, num_more - 1)[:, None, :, None]
        is_after = (steps >= ends[:, None])[:, None, :, None]
        found = np.where(is_after, np.take_along_axis(after, at, axis=2), found)
    return found


def _rows(done: Completed, lengths: "np.ndarray") -> list[dict[str, Any]]:
    """Return the table's rows: one per task and, for forecasts, one per number of steps ahead that is shown."""
    import numpy as np

    def row(part: str, chosen: "np.ndarray") -> dict[str, Any]:
        cells = {}
        for name, values in done.log_likelihoods.items():
            cells[name] = float(np.nanmean(np.where(chosen, values, np.nan)))
        return {"missing": part, "steps": int(np.sum(chosen)), **cells}

    is_scored = ~np.isnan(done.log_likelihoods[_MODEL])
    rows = [row(_TASKS[done.task.name], is_scored)]
    if done.task.name == "forecast":
        rows[0]["missing"] += f", {_FLAGS.horizon} steps"
        ahead = np.arange(is_scored.shape[1]) - (lengths // 2)[:, None] + 1
        shown = [steps for steps in _SHOWN_STEPS if steps <= _FLAGS.horizon]
        rows += [row(f"{steps} ahead", is_scored & (ahead == steps)) for steps in shown]
    return rows


def _print_table(rows: list[dict[str, Any]], size: int) -> None:
    from experiments.reports.tables import print_table

    print(f"\n{size} test sequences; log p(missing | known), each step by itself, in nats per step:")
    print_table(
        [{name: f"{cell:.3f}" if isinstance(cell, float) else cell for name, cell in row.items()} for row in rows]
    )


def _draw(workdir: Path, done: list[Completed], test: "np.ndarray", lengths: "np.ndarray", has_keys: bool) -> None:
    import numpy as np

    from aevb import figures
    from aevb.data.sources.jsb_chorales import LOWEST_PITCH
    from experiments.reports import midi
    from experiments.reports.figure_files import save_figure

    end, labels = lengths[0], {"y_label": "MIDI pitch", "first": LOWEST_PITCH} if has_keys else {}
    heard = {"test": test[0, :end]}
    for each in done:
        means, draws = each.chances[_MODEL][0, :end], each.draws[:, :end]
        panels = [
            ("test sequence", test[0, :end]),
            ("known values", each.task.xs[0, :end]),
            (f"probabilities given the known values, mean of {len(draws)} draws", means),
            *((f"completion {number}", draw) for number, draw in enumerate(draws[:2], 1)),
        ]
        title = f"A test sequence without {_TASKS[each.task.name]}"
        save_figure(figures.rolls(panels, title, **labels), workdir / f"{each.task.name}.png")
        chosen = ~np.isnan(each.task.held_out)
        chances = {name: values[chosen] for name, values in each.chances.items()}
        reliability = figures.reliability(
            chances, each.task.held_out[chosen], f"{len(test)} test sequences: {_TASKS[each.task.name]}"
        )
        save_figure(reliability, workdir / f"{each.task.name}_reliability.png")
        heard |= {f"{each.task.name}_{number}": draw for number, draw in enumerate(draws[:2], 1)}
        if each.task.name == "forecast":
            curves = {name: _by_steps_ahead(values, lengths) for name, values in each.log_likelihoods.items()}
            title = f"Forecasts of {len(test)} test sequences from their first half"
            save_figure(figures.by_horizon(curves, "nats per step", title), workdir / "forecast_by_horizon.png")
    if has_keys:
        midi.write_all(workdir / "midi", heard, LOWEST_PITCH)


def _by_steps_ahead(by_step: "np.ndarray", lengths: "np.ndarray") -> "np.ndarray":
    import numpy as np

    from experiments.studies.series import futures

    aligned = [
        futures(row[:, None], np.array([length // 2]), _FLAGS.horizon)
        for row, length in zip(by_step, lengths, strict=True)
    ]
    values = np.concatenate(aligned)[..., 0]
    return np.nanmean(values[:, ~np.all(np.isnan(values), axis=0)], axis=0)


def _write(workdir: Path, rows: list[dict[str, Any]], done: list[Completed], size: int, seconds: float) -> None:
    from experiments.reports.provenance import provenance

    names = (
        "run", "checkpoint", "tasks", "stretch", "horizon", "method", "num_particles", "num_draws", "seed",
    )  # fmt: skip
    results = {
        "command": shlex.join(["python", "-m", "experiments.complete_sequences", *sys.argv[1:]]),
        **{name: _FLAGS[name].value for name in names},
        "num_sequences": size,
        "seconds": seconds,
        **provenance(),
        "rows": rows,
    }
    write_json(workdir / "results.json", results)
    print(f"{seconds:.0f} seconds; written: {workdir}")
