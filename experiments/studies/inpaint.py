"""In-paint hidden parts of test images, or denoise them, with a run's model. The command is `experiments.inpaint`."""

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from experiments import launch, new_folders, shared_flags, trained_run
from experiments.runs.folder import write_json
from experiments.studies import hidden_pixels

if TYPE_CHECKING:
    import numpy as np

    from aevb.model import Model, Params
    from experiments.configs import Config

_FLAGS = flags.FLAGS
_ZEROS = "zeros"
_METHODS = {
    "hmc": "HMC",
    "refined": "refined encoder",
    "encoder": "encoder, mean filled in",
    _ZEROS: "encoder, zeros filled in",
}


_COUNTS = ("num_chains", "num_warmup", "num_transitions", "num_steps")


class Task(NamedTuple):
    """Images, and their visible parts.

    Attributes:
      truth: Datapoints `[N, ...]`, with their conditions if the model takes any.
      seen: The datapoints after the noise, NaN where hidden.
      image_shape: `[H, W]`, `[H, W, C]` or `[D]`.
    """

    truth: Any
    seen: Any
    image_shape: tuple[int, ...]

    def images(self, values: Any) -> "np.ndarray":
        """Reshape values of datapoints to images, `[..., *image_shape]`."""
        import numpy as np

        values = np.asarray(values)
        leading = values.shape[: values.ndim - (np.ndim(value_of(self.truth)) - 1)]
        return values.reshape(*leading, *self.image_shape)


def value_of(xs: Any) -> Any:
    """Return the images of datapoints, without their conditions."""
    return getattr(xs, "value", xs)


def run() -> None:
    """Define the flags and run."""
    trained_run.define_flags()
    flags.DEFINE_string("mask", None, "Hidden pixels: lower, random, block, none, or a .npy file of one mask.")
    flags.DEFINE_string("noise", None, "Noise added to the images: flips:PROBABILITY or gaussian:SCALE.")
    flags.DEFINE_list(
        "methods",
        list(_METHODS),
        f"Comma-separated subset of {', '.join(_METHODS)}: how z is drawn given the visible pixels.",
    )
    flags.DEFINE_integer("num_images", 40, "Number of random test images (0: all of them).", lower_bound=0)
    flags.DEFINE_integer("num_samples", 200, "Draws of z per image.", lower_bound=2)
    flags.DEFINE_integer("num_chains", 4, "Chains of `hmc` per image.", lower_bound=1)
    flags.DEFINE_integer("num_warmup", 200, "Warm-up transitions per chain, which are discarded.", lower_bound=1)
    flags.DEFINE_integer("num_transitions", 200, "Transitions per chain after the warm-up.", lower_bound=4)
    flags.DEFINE_integer("num_steps", 200, "Gradient steps of `refined`.", lower_bound=1)
    flags.DEFINE_enum(
        "estimator",
        "mixture",
        ["mixture", "is", "none"],
        "Estimator of the marginal likelihoods in log p(hidden | seen); `none` omits that estimate.",
    )
    flags.DEFINE_integer("num_importance_samples", 5000, "Draws of the estimator per image.", lower_bound=2)
    flags.DEFINE_integer(
        "seed", 0, "Seed for choosing images, binarization, masks, noise and all draws.", lower_bound=0
    )
    flags.DEFINE_integer("num_shown", 10, "Images in the figure.", lower_bound=1)
    flags.DEFINE_integer("chunk_size", 100, "Images processed at a time.", lower_bound=1)
    shared_flags.define_data_flags()
    shared_flags.define_figure_flags()
    flags.DEFINE_string("workdir", None, "Output folder; by default a folder in the run folder.")
    launch.start(_inpaint)


def _inpaint() -> None:
    start = time.perf_counter()
    methods = _checked_flags()
    noise = hidden_pixels.channel(_FLAGS.noise)
    from experiments import config_files
    from experiments.reports import inpainting

    config = config_files.read(_FLAGS.run)
    model, params = trained_run.load()
    _check_noise_suits(config)
    workdir = Path(_FLAGS.workdir or Path(_FLAGS.run) / _folder_name())
    if (workdir / "results.json").exists():
        raise ValueError(f"{workdir} holds results already: choose another --workdir, or remove that folder")
    task = _task(config)
    new_folders.make(workdir)
    found = {name: _imputed(name, task, model, params, noise) for name in methods}
    rows = [_row(name, task, *found[name]) for name in methods]
    joint = None if _FLAGS.estimator == "none" else _log_predictive(task, model, params, noise)
    what = "all pixels" if _FLAGS.noise else "the hidden pixels"
    print(
        f"\n{config.data.name} ({config.objective.binarization}), {len(value_of(task.truth))} random test images, seed "
        f"{_FLAGS.seed}:"
    )
    inpainting.print_rows(rows, joint, what)
    _write(workdir, rows, joint, task, config, {name: imputed for name, (imputed, _) in found.items()})
    print(f"{time.perf_counter() - start:.0f} seconds; written: {workdir}")


def _checked_flags() -> list[str]:
    """Check the flags that need no run, and return the methods."""
    methods = shared_flags.choices("methods", _METHODS)
    trained_run.check_flags()
    if (_FLAGS.mask or "none") == "none" and _FLAGS.noise is None:
        raise ValueError("nothing is hidden: give --mask or --noise")
    if (_FLAGS.mask or "none") == "none":  # nothing is missing, so there are no zeros to fill in
        methods = [name for name in methods if name != _ZEROS]
    if not methods:
        raise ValueError(f"--methods={_ZEROS} needs a --mask")
    kept, rest = divmod(_FLAGS.num_samples, _FLAGS.num_chains)
    if "hmc" in methods and (rest or kept > _FLAGS.num_transitions // 2 * 2):
        raise ValueError(
            f"--num_samples={_FLAGS.num_samples} must be a multiple of --num_chains={_FLAGS.num_chains}, and at most "
            f"that times --num_transitions={_FLAGS.num_transitions}"
        )
    return methods


def _folder_name() -> str:
    mask = Path(_FLAGS.mask).stem if _FLAGS.mask else "none"
    noise = "" if _FLAGS.noise is None else f",noise-{_FLAGS.noise.replace(':', '-')}"
    return f"inpaint,mask-{mask}{noise}"


def _check_noise_suits(config: "Config") -> None:
    arguments = config.model.arguments
    if _FLAGS.noise and config.objective.binarization == "grey" and arguments.get("likelihood") == "bernoulli":
        raise ValueError(
            "--noise needs the probability of each pixel, which a Bernoulli likelihood of grey pixels does not define: "
            "train with --binarization=stochastic, or with a likelihood over 0..255"
        )


def _task(config: "Config") -> Task:
    """Return random test images with the run's own binarization, and their visible parts."""
    import jax
    import numpy as np

    from aevb.data.binarization import binarize_batch, binarize_once
    from aevb.data.rows import num_rows, rows
    from aevb.models.families import takes_images
    from experiments.runs.splits import load_splits

    test = load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir).test
    if test.is_sequences:
        raise ValueError(f"{test.name} holds sequences: experiments.complete_sequences fills their missing parts")
    datapoints = test.datapoints(not takes_images(config.model.name), config.data.condition)
    available = num_rows(datapoints)
    size = _FLAGS.num_images or available
    if size > available:
        raise ValueError(f"--num_images={size} is more than the {available} images of the test split")
    # The whole split is binarized, so that an image's pixels do not depend on which others were chosen.
    binarization = config.objective.binarization
    targets = binarize_once(jax.tree.map(jax.numpy.asarray, datapoints), binarization)
    targets = jax.tree.map(np.asarray, binarize_batch(jax.random.key(_FLAGS.seed), targets, binarization))
    truth = rows(targets, np.sort(np.random.RandomState(_FLAGS.seed).permutation(available)[:size]))
    values = value_of(truth)
    hidden = hidden_pixels.hidden_pixels(_FLAGS.mask or "none", size, test.image_shape, _FLAGS.seed)
    through = hidden_pixels.through(_FLAGS.noise, values, _FLAGS.seed + 1)
    seen = np.where(hidden.reshape(values.shape), np.float32(np.nan), through)
    if not np.any(np.isnan(seen)) and _FLAGS.noise is None:
        raise ValueError(f"{_FLAGS.mask} hides nothing")
    return Task(truth, truth._replace(value=seen) if hasattr(truth, "value") else seen, test.image_shape)


def _imputed(name: str, task: Task, model: "Model", params: "Params", noise: Any) -> tuple[Any, float]:
    """Return the result of a method and its run time in seconds, compilation included."""
    import jax

    from aevb import posterior
    from experiments.reports.progress import counting

    start, size = time.perf_counter(), len(value_of(task.truth))
    method: Any = "encoder" if name == _ZEROS else name
    counts: dict[str, Any] = {
        count: _FLAGS[count].value for count in ("num_chains", "num_warmup", "num_transitions", "num_steps")
    }
    found = posterior.impute(
        params,
        jax.random.key(_FLAGS.seed),
        task.seen,
        _with_zeros(model) if name == _ZEROS else model,
        _FLAGS.num_samples,
        truth=value_of(task.truth),
        num_draws=min(4, _FLAGS.num_samples),
        method=method,
        noise=noise,
        chunk_size=_FLAGS.chunk_size,
        on_chunk=counting(name, size, " images"),
        **counts,
    )
    return found, time.perf_counter() - start


def _with_zeros(model: "Model") -> "Model":
    """Return the model with an encoder that takes hidden values for observed zeros."""
    import dataclasses

    import jax

    from aevb import posterior

    def encode(params: Any, x: Any, *condition: Any) -> Any:
        return model.encode(params, jax.numpy.nan_to_num(x), *condition)

    return dataclasses.replace(posterior.as_seen(model), encode=encode)


def _row(name: str, task: Task, found: Any, seconds: float) -> dict[str, Any]:
    """Return a row of the table: sums and roots over the evaluated values of each image, then means over images."""
    import numpy as np

    from experiments.reports.inpainting import MAX_R_HAT

    log_likelihood = np.asarray(found.log_likelihood, np.float64)
    counts = ~np.isnan(log_likelihood)
    squares = np.where(counts, np.square(np.asarray(found.mean, np.float64) - value_of(task.truth)), 0)
    axes = tuple(range(1, squares.ndim))
    number = np.maximum(counts.sum(axis=axes), 1)
    r_hat = None if found.r_hat is None else np.asarray(found.r_hat, np.float64)
    return {
        "method": name,
        "log_likelihood": float(np.mean(np.nansum(log_likelihood, axis=axes))),
        "rmse": float(np.mean(np.sqrt(squares.sum(axis=axes) / number))),
        "median_r_hat": None if r_hat is None else float(np.median(r_hat)),
        "max_r_hat": None if r_hat is None else float(np.max(r_hat)),
        "num_above_r_hat_limit": None if r_hat is None else int(np.sum(~(r_hat <= MAX_R_HAT))),
        "acceptance": None if found.acceptance is None else float(np.mean(found.acceptance)),
        "seconds": seconds,
    }


def _log_predictive(task: Task, model: "Model", params: "Params", noise: Any) -> dict[str, Any]:
    """Estimate log p(hidden | seen), jointly over the hidden values of each image; return means over images."""
    import jax
    import numpy as np

    from aevb import posterior
    from experiments.reports.progress import counting

    start, size = time.perf_counter(), len(value_of(task.truth))
    found = posterior.log_predictive(
        params,
        jax.random.fold_in(jax.random.key(_FLAGS.seed), 1),
        task.seen,
        value_of(task.truth),
        model,
        noise=noise,
        method=_FLAGS.estimator,
        num_samples=_FLAGS.num_importance_samples,
        chunk_size=_FLAGS.chunk_size,
        on_chunk=counting("log p(hidden | seen)", 2 * size, " estimates"),
    )
    values = np.asarray(found.log_predictive, np.float64)
    return {
        "estimator": _FLAGS.estimator,
        "log_predictive": float(np.mean(values)),
        "standard_error": float(np.std(values, ddof=1) / size**0.5) if size > 1 else None,
        "monte_carlo_error": float(np.sqrt(np.sum(np.square(found.standard_error))) / size),
        "min_effective_sample_size": float(
            min(np.min(each.effective_sample_size) for each in (found.seen, found.both))
        ),
        "seconds": time.perf_counter() - start,
        "log_predictives": values.tolist(),
        "standard_errors": np.asarray(found.standard_error, np.float64).tolist(),
    }


def _write(
    workdir: Path,
    rows: list[dict[str, Any]],
    joint: dict[str, Any] | None,
    task: Task,
    config: "Config",
    found: dict[str, Any],
) -> None:
    import numpy as np

    from experiments import defaults
    from experiments.reports.inpainting import draw
    from experiments.reports.provenance import provenance
    from experiments.reports.tables import write_csv

    write_csv(workdir / "table.csv", rows)
    images: dict[str, Any] = {"truth": task.images(value_of(task.truth)), "seen": task.images(value_of(task.seen))}
    for name, imputed in found.items():
        images |= {f"{name}_mean": task.images(imputed.mean), f"{name}_draws": task.images(imputed.draws)}
    np.savez(workdir / "images.npz", **images)
    if len(task.image_shape) in (2, 3):
        title = f"{defaults.title_of(config.data)} ({config.objective.binarization}), test images, and E[x | seen]"
        draw(workdir / "inpaint.png", images, {name: _METHODS[name] for name in found}, _FLAGS.num_shown, title)
    names = ("checkpoint", "mask", "noise", "num_samples", *_COUNTS, "num_importance_samples", "seed")
    results = {
        "command": shlex.join(["python", "-m", "experiments.inpaint", *sys.argv[1:]]),
        "run": str(_FLAGS.run),
        "dataset": config.data.name,
        "binarization": config.objective.binarization,
        "num_images": len(images["truth"]),
        **{name: _FLAGS[name].value for name in names},
        **provenance(),
        "rows": rows,
        "log_predictive": joint,
    }
    write_json(workdir / "results.json", results)
