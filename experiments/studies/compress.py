"""Compress images with a trained model and compare sizes with other formats. The command is `experiments.compress`."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, trained_run

if TYPE_CHECKING:
    import numpy as np

    from aevb.compression import Summary
    from aevb.model import Model, Params

_FLAGS = flags.FLAGS


def run() -> None:
    """Define the flags and run."""
    trained_run.define_flags()
    flags.DEFINE_bool("decompress", False, "Decompress IN, a file written by this command, into the images OUT.")
    flags.DEFINE_bool("compare", True, "Also print the lower bound and the sizes in other formats.")
    flags.DEFINE_integer("num_samples", 4, "Draws of z per image for the lower bound.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed for these draws.", lower_bound=0)
    launch.start(_convert, ["IN", "OUT"])


def _convert(source: str, target: str) -> None:
    trained_run.check_flags()
    if os.path.lexists(target):
        raise ValueError(f"{target} exists already: choose another name, or remove it")

    model, params = trained_run.load()
    if _FLAGS.decompress:
        _decompress(Path(source), Path(target), params, model)
    else:
        _compress(Path(source), Path(target), params, model)


def _decompress(source: Path, target: Path, params: "Params", model: "Model") -> None:
    from aevb import compression
    from aevb.data.own.arrays import check_file
    from experiments.reports import image_files

    check_file(source)
    data = source.read_bytes()
    summary = compression.summary(params, data, model)
    image_files.check_target(target, summary.shape)
    start = time.perf_counter()
    images = compression.decompress(params, data, model, on_chunk=_progress("decompress", summary.num_images))
    seconds = time.perf_counter() - start
    image_files.write(target, images)
    print(f"{len(images):,} images, {len(images) / seconds:,.0f} per second; written: {target}")


def _compress(source: Path, target: Path, params: "Params", model: "Model") -> None:
    from aevb import compression
    from experiments.reports import image_files, other_formats

    _check_trained_on_mass()
    images = image_files.read(source)
    start = time.perf_counter()
    data = compression.compress(params, images, model, on_chunk=_progress("compress", len(images)))
    middle = time.perf_counter()
    back = compression.decompress(params, data, model, on_chunk=_progress("verify", len(images)))
    seconds = middle - start, time.perf_counter() - middle
    if not _are_same(images, back):
        raise ValueError("the compressed data do not decompress to the same images; no file was written")
    summary = compression.summary(params, data, model)
    sizes = {"this file": len(data), "without initial bits": len(data) - summary.initial_bits / 8}
    if _FLAGS.compare:
        sizes["-ELBO"] = _minus_elbo(back, summary.num_values, params, model)
        sizes |= other_formats.sizes(back, summary.num_values)
    image_files.write_bytes(target, data)
    _print(sizes, summary, images.size, seconds)
    print(f"written: {target}")


def _check_trained_on_mass() -> None:
    """Raise `ValueError` if the run's likelihood is a cross-entropy of grey pixels, not a probability mass."""
    from experiments import config_files

    config = config_files.read(_FLAGS.run)
    if config.model.arguments.get("likelihood") == "bernoulli" and config.objective.binarization == "grey":
        raise ValueError(
            f"{_FLAGS.run} was trained on grey pixels with a Bernoulli likelihood, which assigns them no probability: "
            f"train with --binarization=stochastic or --likelihood=discretized_logistic"
        )


def _progress(name: str, total: int) -> Any:
    from experiments.reports.progress import counting

    return counting(name, total, " images")


def _are_same(images: "np.ndarray", back: "np.ndarray") -> bool:
    """Return whether the decompressed images `back` equal `images`, which may hold k / 255 in place of bytes."""
    import numpy as np

    if images.shape != back.shape:
        return False
    return np.array_equal(images, back) or (images.dtype.kind == "f" and np.allclose(255 * images, back, atol=1e-3))


def _minus_elbo(images: "np.ndarray", num_values: int, params: "Params", model: "Model") -> float:
    """Return the negative lower bound of all images, in bytes."""
    import jax
    import numpy as np

    import aevb
    from aevb.model import data_shape

    largest = 255 if num_values == 256 else max(int(images.max()), 1)
    x = images.astype(np.float32).reshape(len(images), *data_shape(model, params)) / np.float32(largest)
    estimator = aevb.Estimator(num_samples=_FLAGS.num_samples)
    elbo = aevb.evaluate(params, jax.random.key(_FLAGS.seed), x, model, estimator).elbo
    return -elbo * len(images) / np.log(2) / 8


def _print(sizes: dict[str, float], summary: "Summary", num_values: int, seconds: tuple[float, float]) -> None:
    from experiments.reports.tables import print_table

    rows = [
        {"what": name, "bytes": f"{size:,.0f}", "bits/value": f"{8 * size / num_values:.4f}"}
        for name, size in sizes.items()
    ]
    print_table(rows)
    raw = f" ({summary.num_raw:,} of them stored without the model)" if summary.num_raw else ""
    speeds = [f"{summary.num_images / each:,.0f}" for each in seconds]
    if "-ELBO" in sizes:
        print(f"the file size is {sizes['this file'] / sizes['-ELBO']:.4f} times -ELBO")
    print(
        f"{summary.num_images:,} images{raw}; {summary.initial_bits} initial bits; {speeds[0]} images per second "
        f"compressed, {speeds[1]} decompressed and verified"
    )
