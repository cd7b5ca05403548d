"""Data sets of Hugging Face's `datasets`, from a saved folder or by name."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aevb.data.own.contents import Contents, Options, Part
from aevb.data.own.features import assign_splits, choose_images, choose_labels
from aevb.data.own.pictures import read_pictures
from aevb.data.source import DatasetError

OPTIONS = ("image_size", "colour", "skip_unreadable", "max_value", "image_key", "label_key")

_SAVED = ("dataset_dict.json", "dataset_info.json")


def read(spec: str, options: Options) -> Contents:
    """Read `hf:NAME`, `hf:NAME:CONFIG`, or `hf:/path` for a folder written by `save_to_disk`.

    Raises:
      DatasetError: `datasets` is not installed, the data set is not available, or it has no images.
    """
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise DatasetError(
            f"{spec} needs Hugging Face's datasets, which is not installed: pip install datasets"
        ) from None
    splits = _load(datasets, spec)
    assigned = assign_splits(spec, list(splits))
    features = splits[assigned["train"]].features
    is_picture = {name: isinstance(feature, datasets.Image) for name, feature in features.items()}
    image_key = choose_images(spec, _images(datasets, features, is_picture), list(features), options.image_key)
    label_key = choose_labels(spec, _labels(datasets, features), list(features), options.label_key)
    names = features[label_key].names if label_key and isinstance(features[label_key], datasets.ClassLabel) else None
    parts, num_skipped = {}, 0
    for split, stored in assigned.items():
        where = f"{spec} ({stored})"
        try:
            rows = splits[stored]
            if is_picture[image_key]:
                rows = rows.cast_column(image_key, datasets.Image(decode=False))
            parts[split], skipped = _part(rows, image_key, label_key, is_picture[image_key], where, options)
        except DatasetError:
            raise
        except Exception as error:
            # For damaged files, Arrow and datasets can raise almost any error. All mean the same here.
            raise DatasetError(f"{where} cannot be read: {_first_line(error)}") from None
        num_skipped += skipped
    name = Path(spec.removeprefix("hf:").split(":")[0]).name
    return Contents(name, parts, tuple(names) if names else None, num_skipped)


def _load(datasets: Any, spec: str) -> Mapping[str, Any]:
    name, _, config = spec.removeprefix("hf:").partition(":")
    path = Path(name).expanduser()
    is_path = name.startswith(("/", "~", "."))
    if not name or (is_path and not path.exists()):
        raise DatasetError(f"{name} does not exist" if name else "hf: needs a name, hf:NAME, or a path")
    try:
        if any((path / each).is_file() for each in _SAVED):
            found = datasets.load_from_disk(str(path))
        else:
            found = datasets.load_dataset(str(path) if is_path else name, config or None)
    except Exception as error:
        # The network, the hub and Arrow can raise almost any error. All mean the same here.
        raise DatasetError(f"{spec} cannot be loaded: {_first_line(error)}") from None
    return found if isinstance(found, Mapping) else {"train": found}


def _images(datasets: Any, features: Mapping[str, Any], is_picture: Mapping[str, bool]) -> list[str]:
    pictures = [name for name in features if is_picture[name]]
    return pictures or [
        name for name, each in features.items() if isinstance(each, datasets.Array2D | datasets.Array3D)
    ]


def _labels(datasets: Any, features: Mapping[str, Any]) -> list[str]:
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    return classes or [name for name in ("label", "labels") if isinstance(features.get(name), datasets.Value)]


def _part(
    rows: Any, image_key: str, label_key: str | None, is_picture: bool, where: str, options: Options
) -> tuple[Part, int]:
    kept, skipped = list(range(len(rows))), 0
    if is_picture:
        stored = (rows[index][image_key] or {} for index in range(len(rows)))
        named = (
            (f"image {index} of {where}", each.get("bytes") or each.get("path") or b"")
            for index, each in enumerate(stored)
        )
        images, kept, skipped = read_pictures(named, len(rows), options)
    else:
        images = rows.select_columns([image_key]).with_format("numpy")[:][image_key]
    labels = None
    if label_key is not None:
        found = np.array(rows.select_columns([label_key])[:][label_key])[kept]
        # Splits with secret labels are published with the label -1.
        labels = None if found.dtype.kind == "i" and len(found) and (found == -1).all() else found
    return Part(images, labels, where), skipped


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
