"""Files of images by a trained model, and their size beside other formats. The command is `experiments.compress`."""

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
    flags.DEFINE_bool("decompress", False, "IN is a file that this command wrote, OUT becomes its images.")
    flags.DEFINE_bool("compare", True, "Print the lower bound and the sizes by other formats beside the file's.")
    flags.DEFINE_integer("num_samples", 4, "Draws of z for each image, of the lower bound.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of these draws.", lower_bound=0)
    launch.start(_convert, ["IN", "OUT"])


def _convert(source: str, target: str) -> None:
    trained_run.check_flags()
    if os.path.lexists(target):
        raise ValueError(f"{target} is there already: choose another name, or remove it")

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
        raise ValueError("the file would not decompress to the same images, and is not written")
    summary = compression.summary(params, data, model)
    sizes = {"this file": len(data), "without initial bits": len(data) - summary.initial_bits / 8}
    if _FLAGS.compare:
        sizes["-ELBO"] = _minus_elbo(back, summary.num_values, params, model)
        sizes |= other_formats.sizes(back, summary.num_values)
    image_files.write_bytes(target, data)
    _print(sizes, summary, images.size, seconds)
    print(f"written: {target}")


def _check_trained_on_mass() -> None:
    """Raise `ValueError` for a run whose likelihood was trained as a cross-entropy."""
    from experiments import config_files

    config = config_files.read(_FLAGS.run)
    if config.model.arguments.get("likelihood") == "bernoulli" and config.objective.binarization == "grey":
        raise ValueError(
            f"{_FLAGS.run} was trained on grey pixels, of which a Bernoulli likelihood is no probability: train with "
            f"--binarization=stochastic, or with --likelihood=discretized_logistic"
        )


def _progress(name: str, total: int) -> Any:
    from experiments.reports.progress import counting

    return counting(name, total, " images")


def _are_same(images: "np.ndarray", back: "np.ndarray") -> bool:
    """Tell whether images, which may be k / 255, came back as these bytes."""
    import numpy as np

    if images.shape != back.shape:
        return False
    return np.array_equal(images, back) or (images.dtype.kind == "f" and np.allclose(255 * images, back, atol=1e-3))


def _minus_elbo(images: "np.ndarray", num_values: int, params: "Params", model: "Model") -> float:
    """Return minus the lower bound of all images, in bytes."""
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
    raw = f", {summary.num_raw:,} of them without the model" if summary.num_raw else ""
    speeds = [f"{summary.num_images / each:,.0f}" for each in seconds]
    if "-ELBO" in sizes:
        print(f"the file is {sizes['this file'] / sizes['-ELBO']:.4f} times -ELBO")
    print(
        f"{summary.num_images:,} images{raw}; {summary.initial_bits} initial bits; {speeds[0]} images per second "
        f"compressed, {speeds[1]} decompressed and found the same"
    )
