"""One HTML file to explore the latent space of a trained model of images. The command is `experiments.explore`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, shared_flags

if TYPE_CHECKING:
    import numpy as np

    from aevb.data import Dataset
    from experiments.configs import Config

_FLAGS = flags.FLAGS
_FILE = "explore.html"
_MOST_BYTES = 3_900_000  # of the file, as far as the number of images decides
_MOST_PIXELS = 12_000_000  # of all thumbnails, whose sheet browsers limit
_MOST_IMAGES, _FEWEST_IMAGES = 10_000, 200
_LARGEST_MODEL = 64_000_000  # bytes of text of the weights: what a browser reads without complaint


def run() -> None:
    """Define the flags and run."""
    flags.DEFINE_string("run", None, "The run folder that an experiment wrote.")
    flags.DEFINE_string("checkpoint", "latest", "Checkpoint to use: latest, best (by validation) or a step number.")
    flags.DEFINE_integer(
        "num_images",
        0,
        "Random test images to show; 0: as many as keep the file under 4 MB, but at least 200 and at most 10,000.",
        lower_bound=0,
    )
    flags.DEFINE_integer("seed", 0, "Seed for drawing stochastic targets and the latents that the page checks.")
    flags.DEFINE_string("output", None, f"The HTML file to write; by default {_FILE} in the run folder.")
    shared_flags.define_data_flags()
    launch.start(_explore)


def _explore() -> None:
    if not _FLAGS.run:
        raise ValueError("--run must name a run folder")
    if _FLAGS.checkpoint not in ("latest", "best") and not _FLAGS.checkpoint.isdecimal():
        raise ValueError(f"--checkpoint takes latest, best or a step, got {_FLAGS.checkpoint!r}")
    output = Path(_FLAGS.output) if _FLAGS.output else Path(_FLAGS.run) / _FILE
    if output.exists():
        raise ValueError(f"{output} exists already: choose another --output, or remove it")
    from aevb.saved import load_run
    from experiments import config_files
    from experiments.explorer import networks
    from experiments.explorer.references import in_single_precision
    from experiments.runs.splits import load_splits

    config = config_files.read(_FLAGS.run)
    names: dict[str, Any] = {"latest": "last", "best": "best"}
    model, params = load_run(_FLAGS.run, names.get(_FLAGS.checkpoint) or int(_FLAGS.checkpoint))
    arguments = config.model.arguments
    networks.check_family(config.model.name, arguments)
    data = load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir).test
    _check_images(data)
    page = _page(config, in_single_precision(model), params, data)
    _write(output, page)
    print(f"written: {output}, {len(page.encode()) / 1e6:.2f} MB; open it in a browser")


def _check_images(data: "Dataset") -> None:
    is_image = not data.is_sequences and len(data.image_shape) in (2, 3)
    if not is_image or (*data.image_shape, 1)[2] not in (1, 3):
        raise ValueError(
            f"{data.name} has datapoints of shape {list(data.image_shape)}: the page is for images, [H, W] or [H, W, C] "
            f"in grey or in colour"
        )


def _page(config: "Config", model: Any, params: Any, data: "Dataset") -> str:
    """Return the file with as many images as are asked for or fit."""
    import jax

    from aevb.data.rows import rows
    from experiments import defaults
    from experiments.explorer import networks
    from experiments.explorer.arrays import encode_array
    from experiments.explorer.page import page
    from experiments.explorer.references import NUM_IMAGES, references, rounding_is_harmless

    available = len(data.images)
    if not NUM_IMAGES <= (_FLAGS.num_images or available) <= available:
        raise ValueError(f"--num_images={_FLAGS.num_images} must be from {NUM_IMAGES} to the {available} of the test split")
    most = _MOST_PIXELS // _num_values(data.image_shape[:2])
    chosen = data.subset(_FLAGS.num_images or min(available, most, _MOST_IMAGES))
    targets = _targets(config, chosen)
    checks = references(params, jax.random.key(_FLAGS.seed), targets, model)
    dtype = "float16" if rounding_is_harmless(params, checks, model) else "float32"
    image = networks.image_shape(data.image_shape)
    described = networks.describe(
        config.model.name, config.model.arguments, params, image, lambda weights: encode_array(weights, dtype)
    )
    title = f"Latent space of {defaults.title_of(config.data)}"
    fixed = {
        "about": _about(config, data, dtype),
        "model": described,
        "checks": [_encoded_reference(each) for each in checks],
    }
    size_of_rest = len(page(title, fixed))
    if size_of_rest > _LARGEST_MODEL:
        raise ValueError(f"the page would take {size_of_rest / 1e6:,.0f} MB, most of it weights: the model is too large")
    shown = targets
    for _ in range(4):
        payload = fixed | {"points": _points(params, shown, model, chosen, image)}
        whole = page(title, payload)
        count = payload["points"]["count"]
        if _FLAGS.num_images or len(whole) <= _MOST_BYTES or count <= _FEWEST_IMAGES:
            break
        share = max(_MOST_BYTES - size_of_rest, 0) / (len(whole) - size_of_rest)
        shown = rows(targets, slice(max(_FEWEST_IMAGES, int(0.98 * share * count))))
    print(f"{count:,} of {available:,} test images, weights in {dtype}")
    return whole


def _num_values(shape: tuple[int, ...]) -> int:
    import math

    return math.prod(shape)


def _about(config: "Config", data: "Dataset", dtype: str) -> dict[str, Any]:
    """Return what the page says of the run."""
    return {
        "data": data.name,
        "numTest": len(data.images),
        "binarization": config.objective.binarization,
        "classNames": list(data.label_names) if data.label_names else None,
        "numClasses": data.num_classes or 0,
        "weights": dtype,
        "epochs": config.training.num_epochs,
    }


def _targets(config: "Config", data: "Dataset") -> Any:
    """Return the datapoints under the run's own binarization, leaves `[N, ...]`."""
    import jax

    from aevb.data.binarization import binarize_batch, binarize_once
    from aevb.models.families import takes_images

    binarization = config.objective.binarization
    datapoints = data.datapoints(not takes_images(config.model.name), config.data.condition)
    targets = binarize_once(jax.tree.map(jax.numpy.asarray, datapoints), binarization)
    return binarize_batch(jax.random.key(_FLAGS.seed), targets, binarization)


def _points(params: Any, xs: Any, model: Any, data: "Dataset", image: tuple[int, int, int]) -> dict[str, Any]:
    """Return the first images of `data`, where they lie, and their classes."""
    import numpy as np

    from aevb.data.rows import num_rows
    from aevb.model import Given
    from experiments.explorer.arrays import encode_array, sprite
    from experiments.explorer.latents import plane_of, posterior_means

    count = num_rows(xs)
    levels = {}
    for name, means in posterior_means(params, xs, model).items():
        plane = plane_of(means)
        levels[name] = {
            "means": encode_array(means, "float16"),
            "center": encode_array(plane.mean, "float32"),
            "components": encode_array(plane.components, "float32"),
            "explained": plane.explained.tolist(),
            "variances": plane.variances.tolist(),
        }
    values: np.ndarray = np.asarray(xs.value if isinstance(xs, Given) else xs)
    is_class = data.labels is not None and data.labels.ndim == 1 and data.num_classes
    return {
        "count": count,
        "labels": encode_array(data.labels[:count], "int32") if is_class else None,
        "levels": levels,
        "sprite": sprite(values.reshape(count, *image)),
    }


def _encoded_reference(reference: Any) -> dict[str, Any]:
    from experiments.explorer.arrays import encode_array

    half = lambda values: encode_array(values, "float16")
    by_level = lambda levels: {name: encode_array(values, "float32") for name, values in levels.items()}
    return {
        "image": None if reference.image is None else half(reference.image),
        "condition": reference.condition,
        "z": by_level(reference.z),
        "scale": None if reference.scale is None else by_level(reference.scale),
        "prior": by_level(reference.prior),
        "mean": half(reference.mean),
        "deviation": half(reference.deviation),
    }


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
