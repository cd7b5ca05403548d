"""Write an HTML page to explore the latent space of a trained model of images. The command is `experiments.explore`."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments import launch, shared_flags, trained_run

if TYPE_CHECKING:
    import numpy as np

    from aevb.data import Dataset
    from experiments.configs import Config

_FLAGS = flags.FLAGS
_FILE, _POSITIONS = "explore.html", "positions"
_MOST_PIXELS = 12_000_000  # of all thumbnails: browsers limit the size of an image
_MOST_IMAGES, _FEWEST = 10_000, 4  # the page's self-check takes four images
_LARGEST_MODEL = 64_000_000  # bytes of the page without images, most of them weights


def run() -> None:
    """Define the flags and run."""
    trained_run.define_flags()
    flags.DEFINE_integer(
        "num_images",
        0,
        "Number of random test images to show (0: as many as fit into 4 MB, between 200 and 10,000).",
        lower_bound=0,
    )
    flags.DEFINE_integer("seed", 0, "Seed for drawing stochastic targets and the latents that the page checks.")
    flags.DEFINE_string("output", None, f"The HTML file to write; by default {_FILE} in the run folder.")
    shared_flags.define_data_flags()
    launch.start(_explore)


def _explore() -> None:
    trained_run.check_flags()
    output = Path(_FLAGS.output) if _FLAGS.output else Path(_FLAGS.run) / _FILE
    if output.exists():
        raise ValueError(f"{output} exists already: choose another --output, or remove it")
    from experiments import config_files
    from experiments.explorer import networks
    from experiments.runs.splits import load_splits

    config = config_files.read(_FLAGS.run)
    networks.check_family(config.model.name, config.model.arguments)
    model, params = trained_run.load()
    data = load_splits(config, _FLAGS.data_dir, _FLAGS.source_dir).test
    _check_images(data)
    page = _page(config, model, params, data)
    _write(output, page)
    print(f"written: {output}, {len(page.encode()) / 1e6:.2f} MB; open it in a browser")


def _check_images(data: "Dataset") -> None:
    is_image = not data.is_sequences and len(data.image_shape) in (2, 3)
    if not is_image or (*data.image_shape, 1)[2] not in (1, 3):
        raise ValueError(
            f"{data.name} has datapoints of shape {list(data.image_shape)}: the page shows images [H, W] or [H, W, C] "
            f"with one or three channels"
        )


def _page(config: "Config", model: Any, params: Any, data: "Dataset") -> str:
    """Return the page with `--num_images` images, or with as many as fit."""
    import jax
    import numpy as np

    from aevb.data.rows import rows
    from experiments import defaults
    from experiments.explorer import networks, payload
    from experiments.explorer.arrays import encode_array
    from experiments.explorer.page import page

    positions = {_POSITIONS: np.arange(len(data.images))}  # keeps positions in the split through the random subset
    chosen = dataclasses.replace(data, others={**data.others, **positions}).subset(_num_images(data))
    targets, labels = _targets(config, chosen), _classes(chosen)
    image, title = networks.image_shape(data.image_shape), f"Latent space of {defaults.title_of(config.data)}"
    key = jax.random.key(_FLAGS.seed)
    fixed = payload.of_model(config.model.name, config.model.arguments, model, params, targets, image, key)
    fixed |= {"about": _about(config, data)}
    size = len(page(title, fixed))
    if size > _LARGEST_MODEL:
        raise ValueError(f"the model is too large: its page would take {size / 1e6:,.0f} MB, most of it weights")
    made: dict[int, str] = {}

    def size_with(count: int) -> int:
        own = None if labels is None else labels[:count]
        points = payload.of_points(params, rows(targets, slice(count)), model, own, image)
        points["positions"] = encode_array(chosen.others[_POSITIONS][:count], "int32")
        made[count] = page(title, fixed | {"points": points})
        return len(made[count])

    count = len(chosen.images)
    if not _FLAGS.num_images:
        count = payload.fitted(size_with, count, size)
    if count not in made:
        size_with(count)
    print(f"{count:,} of {len(data.images):,} test images, weights in {fixed['weights']}")
    return made[count]


def _num_images(data: "Dataset") -> int:
    """Return the number of images that are requested, or else the most that the page may show."""
    available, asked = len(data.images), _FLAGS.num_images
    if available < _FEWEST or (asked and not _FEWEST <= asked <= available):
        raise ValueError(
            f"--num_images={asked}: the page needs at least {_FEWEST} of the {available} images of the test split"
        )
    height, width = data.image_shape[:2]
    return asked or max(min(available, _MOST_PIXELS // (height * width), _MOST_IMAGES), _FEWEST)


def _classes(data: "Dataset") -> "np.ndarray | None":
    is_class = data.labels is not None and data.labels.ndim == 1 and data.num_classes
    return data.labels if is_class else None


def _about(config: "Config", data: "Dataset") -> dict[str, Any]:
    """Return what the page states about the run."""
    return {
        "data": data.name,
        "numTest": len(data.images),
        "binarization": config.objective.binarization,
        "classNames": list(data.label_names) if data.label_names else None,
    }


def _targets(config: "Config", data: "Dataset") -> Any:
    """Return the datapoints with the run's own binarization, leaves `[N, ...]`."""
    import jax

    from aevb.data.binarization import binarize_batch, binarize_once
    from aevb.models.families import takes_images

    binarization = config.objective.binarization
    datapoints = data.datapoints(not takes_images(config.model.name), config.data.condition)
    targets = binarize_once(jax.tree.map(jax.numpy.asarray, datapoints), binarization)
    return binarize_batch(jax.random.key(_FLAGS.seed), targets, binarization)


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
