"""Flags, one-line errors and the closing table: what all binaries that train on a data set share."""

import dataclasses
import gc
import os
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, get_args

from absl import app, flags, logging

from experiments import distributed, shards

_FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What a data set's binary assumes where no flag says otherwise."""

    dataset: str
    title: str  # of the data set, for people
    latent_dim: Sequence[int]
    hidden_dim: Sequence[int]
    likelihood: str
    squash_mean: bool
    weight_init: str
    optimizer: str
    learning_rate: float
    num_epochs: int
    eval_every: int
    split_rule: str


# Flags that name the run folder where they differ from the defaults, and that decide its numbers.
_MODEL_FLAGS = ("hidden_dim", "likelihood", "posterior", "squash_mean", "weight_init", "compute_dtype")
_TRAINING_FLAGS = (
    "algorithm",
    "optimizer",
    "learning_rate",
    "schedule",
    "epsilon",
    "batch_size",
    "num_samples",
    "num_epochs",
    "kl",
    "gradient",
    "map_prior",
    "binarization",
    "eval_every",
    "seed",
)


_SPLIT_FLAGS = ("num_train_images", "num_valid_images", "patience")

# 2 to 18 % of a training step on a CPU that has 512-bit vectors (RESULTS.md); read when JAX first computes.
XLA_FLAG = "--xla_cpu_prefer_vector_width=512"


def main(defaults: Defaults) -> None:
    """Defines the flags, parses them, trains, and exits: 0, or another status with one line that says why.

    2 is for what people can mend, 130 for Ctrl-C, 143 for SIGTERM.
    """
    gc.disable()  # until `start`: to look for garbage among what is being imported takes a tenth of a second
    _define_flags(defaults)
    start(__name__, lambda: _train_all(defaults))


def start(module: str, body: Callable[[], None]) -> None:
    """Parses the flags that `module` defined, runs `body`, and turns what people can mend into one line."""
    gc.freeze()  # What is imported stays: to look through it whenever a program is traced takes two tenths of a second.
    gc.enable()
    for flag in _FLAGS.get_flags_for_module(module):
        _FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # so that --help shows them
    shards.pin()
    os.environ["XLA_FLAGS"] = " ".join([XLA_FLAG, os.environ.get("XLA_FLAGS", "")]).strip()
    app.run(lambda argv: _one_line_errors(argv, body), flags_parser=_parse)


def _define_flags(defaults: Defaults) -> None:
    # Imported late, here and below: --help and a misspelt flag need not wait for JAX.
    from aevb.data.binarization import Binarization
    from aevb.gradients import Gradient
    from aevb.likelihoods import LIKELIHOODS
    from aevb.models.mlp import Posterior
    from aevb.networks import WeightInit
    from aevb.objectives import KL
    from experiments.run import ALGORITHMS, OPTIMIZERS, SCHEDULES

    def text(values: Sequence[int]) -> list[str]:
        return [str(value) for value in values]

    flags.DEFINE_list("latent_dim", text(defaults.latent_dim), "Size of z; 3,5,10 trains each in turn.")
    flags.DEFINE_list("hidden_dim", text(defaults.hidden_dim), "Units of the hidden layer; 200,200 stacks two.")
    flags.DEFINE_enum("likelihood", defaults.likelihood, LIKELIHOODS.names(), "p(x|z).")
    flags.DEFINE_enum("posterior", "gaussian", get_args(Posterior), "q(z|x); all but gaussian need --kl=sampled.")
    flags.DEFINE_bool("squash_mean", defaults.squash_mean, "Keep the Gaussian likelihood's mean within (0, 1).")
    flags.DEFINE_enum("weight_init", defaults.weight_init, get_args(WeightInit), "Distribution of the initial weights.")
    flags.DEFINE_string("compute_dtype", None, "Of the matrix products; bfloat16 keeps float32 parameters.")
    flags.DEFINE_enum("algorithm", "aevb", ALGORITHMS.names(), "AEVB, a baseline, or Appendix F (full_vb).")
    flags.DEFINE_enum("optimizer", defaults.optimizer, list(OPTIMIZERS), "From optax; Adagrad starts at 0.")
    flags.DEFINE_float("learning_rate", defaults.learning_rate, "Step size.")
    flags.DEFINE_enum("schedule", "constant", SCHEDULES, "Of the step size; burda: x 10^(-i/7) for 3^i epochs.")
    flags.DEFINE_float("epsilon", None, "Of an adaptive optimizer's denominator; optax's own if not given.")
    flags.DEFINE_integer("batch_size", 100, "M, datapoints in a minibatch.")
    flags.DEFINE_integer("num_samples", 1, "L, draws of z for each datapoint.")
    flags.DEFINE_integer("num_epochs", defaults.num_epochs, "Passes over the training set.")
    flags.DEFINE_enum("kl", "analytic", get_args(KL), "Estimator B (analytic) or A (sampled) of the paper.")
    flags.DEFINE_enum("gradient", "pathwise", get_args(Gradient), "Estimator of the gradient, with --algorithm=aevb.")
    flags.DEFINE_bool("map_prior", True, "Include log p(theta) = log N(theta; 0, I) in the objective.")
    flags.DEFINE_enum("binarization", "grey", get_args(Binarization), "What the pixels become.")
    flags.DEFINE_string("eval_every", str(defaults.eval_every), "Epochs between evaluations; log: 8 a factor of ten.")
    flags.DEFINE_integer("seed", 0, "Of initial weights, shuffles and noise.")
    flags.DEFINE_string("split_rule", defaults.split_rule, "How training and test images are told apart.")
    flags.DEFINE_integer("num_train_images", 0, "Trains on so many, random ones by seed 0; 0 for all.", lower_bound=0)
    flags.DEFINE_integer(
        "num_valid_images",
        0,
        "Hold out this many training images for validation, drawn with seed 1 (0: none).",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "patience",
        None,
        "Stop after this many evaluations without a higher bound on the validation images.",
        lower_bound=1,
    )
    flags.DEFINE_string("data_dir", None, "Where prepared data are kept; TFDS's own folder if not given.")
    flags.DEFINE_string("source_dir", None, "A folder of the original files, instead of the network.")
    flags.DEFINE_string("workdir", None, f"The run folder; under runs/{defaults.dataset} if not given.")
    flags.DEFINE_bool("stream", False, "Read the data while training instead of holding them; the same numbers.")
    flags.DEFINE_float(
        "checkpoint_minutes", 10.0, "Between checkpoints where evaluations are far apart.", lower_bound=0
    )
    distributed.define_flags()
    flags.DEFINE_bool("resume", False, "Go on with the run that is in the folder; nothing if it is finished.")


def _parse(argv: list[str]) -> list[str]:
    app.define_help_flags()
    logging.set_verbosity(logging.WARNING)  # of JAX's search for accelerators that are not there
    try:
        return _FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()))
        raise AssertionError from error


def _one_line_errors(argv: list[str], body: Callable[[], None]) -> None:
    from aevb.checkpoints import RunError
    from aevb.data import DatasetError
    from aevb.training.divergence import DivergedError
    from experiments.termination import TerminatedError

    _keep_compiled_programs()
    _one_line_warnings()
    try:
        distributed.start()
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
        body()
    except (ValueError, TypeError, RunError, DatasetError, DivergedError) as error:
        if _FLAGS.pdb or _FLAGS.only_check_args:
            raise
        _fail(str(error))
    except KeyboardInterrupt:
        _fail(f"interrupted; {_same_command()} goes on from the last checkpoint", status=130)
    except TerminatedError:
        _fail(f"terminated, and saved; {_same_command()} goes on from here", status=143)


def _same_command() -> str:
    return "the same command with --resume" if "resume" in _FLAGS else "the same command"  # figures always resume


def _one_line_warnings() -> None:
    """What was passed over in a run folder, without the line of code that found it."""
    from aevb.checkpoints import RunWarning

    show = warnings.showwarning

    def show_in_one_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, RunWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, *where, **more)

    warnings.showwarning = show_in_one_line


def _keep_compiled_programs() -> None:
    """JAX's compilation cache, in the user's cache folder unless $JAX_COMPILATION_CACHE_DIR says otherwise."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "aevb" / "compiled"))
    # All of them: dozens of small programs that take a moment each add up to two seconds of every start.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _fail(message: str, status: int = 2) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def _train_all(defaults: Defaults) -> None:
    latent_dims, hidden_dims = integers("latent_dim"), integers("hidden_dim")
    from experiments.run import make_config, run
    from experiments.splits import Splits

    if _FLAGS.patience and not _FLAGS.num_valid_images:
        raise ValueError("--patience stops by the bound on validation images: keep some aside by --num_valid_images")
    arguments = (_FLAGS.data_dir, _FLAGS.source_dir, _FLAGS.split_rule)
    splits = Splits.load(defaults.dataset, *arguments, _FLAGS.num_valid_images, _FLAGS.num_train_images)
    base = Path(_FLAGS.workdir or Path("runs") / defaults.dataset / _settings_name(defaults))
    model: dict[str, Any] = {name: _FLAGS[name].value for name in _MODEL_FLAGS} | {"hidden_dim": hidden_dims}
    training = {name: _FLAGS[name].value for name in _TRAINING_FLAGS} | {"eval_every": _eval_every()}
    if _FLAGS.patience:
        training["patience"] = _FLAGS.patience
    results = []
    for latent_dim in latent_dims:
        config = make_config(splits.train, {"latent_dim": latent_dim, **model}, training)
        alone = len(latent_dims) == 1 and _FLAGS.workdir
        workdir = base if alone else base / f"latent_{latent_dim}"
        name = f"{defaults.title}, latent {latent_dim}"
        outcome = run(
            config, splits, workdir, _FLAGS.resume, name, False, _FLAGS.stream, 60 * _FLAGS.checkpoint_minutes
        )
        results.append((latent_dim, workdir, *outcome))
    if not distributed.is_writer():
        return
    if len(results) > 1:
        from experiments import pictures

        labelled = [(f"{latent_dim}", history) for latent_dim, _, _, history in results]
        pictures.draw_curves(base / "figures", labelled, f"{defaults.title}, by latent size")
        print(f"all of them in one figure: {base / 'figures' / 'lower_bounds.png'}")
    _print_table([(workdir, summary) for _, workdir, summary, _ in results])


def _eval_every() -> int | str:
    try:
        return _FLAGS.eval_every if _FLAGS.eval_every == "log" else int(_FLAGS.eval_every)
    except ValueError:
        raise ValueError(f"--eval_every takes a number of epochs or log, got {_FLAGS.eval_every}") from None


def integers(name: str, may_be_empty: bool = False) -> list[int]:
    """The positive integers of a list flag.

    Raises:
      ValueError: there is something else in it, or nothing.
    """
    given: Any = _FLAGS[name].value
    shown = ",".join(given)
    try:
        values = [int(value) for value in given]
    except ValueError:
        raise ValueError(f"--{name} takes integers separated by commas, got {shown}") from None
    if min(values, default=may_be_empty) < 1:
        raise ValueError(f"--{name} must be positive, got {shown}")
    if name.startswith("latent_dim") and len(set(values)) < len(values):
        raise ValueError(f"--{name} names a size twice: {shown}")
    return values


def _settings_name(defaults: Defaults) -> str:
    """A folder name out of the flags that are not at their defaults, and the seed."""
    kept = ("num_epochs", "seed")
    changed = [name for name in (*_MODEL_FLAGS, *_TRAINING_FLAGS, "split_rule", *_SPLIT_FLAGS) if name not in kept]
    changed = [name for name in changed if _FLAGS[name].value != _FLAGS[name].default]
    values = [(name, _FLAGS[name].value) for name in changed]
    words = [f"{name}-{'-'.join(value) if isinstance(value, list) else value}" for name, value in values]
    return ",".join([*words, f"seed-{_FLAGS.seed}"])


_COLUMNS = {  # heading: (field of the summary, format)
    "latent": ("latent_dim", "d"),
    "samples": ("num_train_samples", ",d"),
    "train": ("train_elbo", ".2f"),
    "valid": ("valid_elbo", ".2f"),
    "test": ("test_elbo", ".2f"),
    "recon.": ("test_reconstruction", ".2f"),
    "KL": ("test_kl", ".2f"),
    "active": ("active_units", "d"),
    "seconds": ("train_seconds", ".1f"),
}


def positive_numbers(name: str) -> list[float]:
    """The positive finite numbers of a list flag, each once.

    Raises:
      ValueError: there is something else in it, or nothing.
    """
    given: list[str] = _FLAGS[name].value or []
    try:
        values = [float(value) for value in given]
    except ValueError:
        raise ValueError(f"--{name} takes numbers separated by commas, got {','.join(given)}") from None
    if not values or not all(0 < value < float("inf") for value in values) or len(set(values)) < len(values):
        raise ValueError(f"--{name} must be positive, each a different one, got {','.join(given)}")
    return values


def choices(name: str, allowed: Collection[str]) -> list[str]:
    """The values of a list flag.

    Raises:
      ValueError: one of them is not `allowed`, or there is none.
    """
    given: list[str] = _FLAGS[name].value or []
    if not given or not set(given) <= set(allowed):
        raise ValueError(f"--{name} must be of {','.join(allowed)}, got {','.join(given)}")
    return given


def _print_table(results: list[tuple[Path, dict[str, Any]]]) -> None:
    first = results[0][1]
    subset = f", {first['num_train_images']:,} random training images" if first.get("num_train_images") else ""
    print(f"\n{first['dataset']} ({first['binarization']}, split {first['split_rule']}{subset}), nats per datapoint:")
    columns = {heading: column for heading, column in _COLUMNS.items() if column[0] in first}
    print("".join(f"{heading:>11}" for heading in columns))
    for _, row in results:
        cells = ("-" if row[field] is None else format(row[field], form) for field, form in columns.values())
        print("".join(f"{cell:>11}" for cell in cells))
    for _, row in results:
        if row.get("best_epoch") is not None:
            stopped = f", stopped early at {row['num_epochs']:,}" if row["stopped_early"] else ""
            print(
                f"latent {row['latent_dim']}: best by validation after {row['best_epoch']:,} epochs{stopped}: "
                f"valid {row['best_valid_bound']:.2f}, test {row['best_test_elbo']:.2f} nats"
            )
    print("written, each with its figures:")
    for workdir, _ in results:
        print(f"  {workdir}")
