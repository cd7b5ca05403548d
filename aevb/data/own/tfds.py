"""Data sets prepared by TensorFlow Datasets, read with random access and without TensorFlow."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from aevb.data.own.contents import Contents, Options, Part
from aevb.data.own.features import assign_splits, choose_images, choose_labels
from aevb.data.own.pictures import read_pictures
from aevb.data.source import DatasetError

OPTIONS = ("image_size", "colour", "skip_unreadable", "max_value", "image_key", "label_key", "data_dir")

_INFO = "dataset_info.json"
_BLOCK = 1000  # records read at a time


def read(spec: str, options: Options) -> Contents:
    """Read `tfds:NAME`, `tfds:NAME/CONFIG`, `tfds:NAME:VERSION` or `tfds:/path/of/prepared/data`.

    Raises:
      DatasetError: no data set is prepared there, or not as ArrayRecord; or it has no images, or damaged records.
    """
    folder = _find(spec, options.data_dir)
    try:
        builder = tfds.builder_from_directory(folder)
        found: Any = builder.info.features
        features: dict[str, Any] = dict(found)
    except Exception as error:
        # For a damaged folder, TFDS and its parsers can raise almost any error. All mean the same here.
        raise DatasetError(f"the prepared data in {folder} are damaged ({_first_line(error)})") from None
    image_key = choose_images(spec, _images(features), list(features), options.image_key)
    label_key = choose_labels(spec, _labels(features), list(features), options.label_key)
    label: Any = features[label_key] if label_key else None
    names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) and label.names else None
    splits = assign_splits(spec, list(builder.info.splits))
    parts, num_skipped = {}, 0
    for split, stored in splits.items():
        parts[split], skipped = _read_split(builder, stored, image_key, label_key, f"{spec} ({stored})", options)
        num_skipped += skipped
    return Contents(builder.name, parts, names, num_skipped)


def _find(spec: str, data_dir: str | os.PathLike | None) -> Path:
    """Return the folder of the newest prepared version."""
    name = spec.removeprefix("tfds:")
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    is_path = name.startswith(("/", "~", "."))
    folder = Path(name).expanduser() if is_path else root / name.replace(":", "/")
    found = [path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}{_INFO}")] if name else []
    if not found:
        where = f"in {folder}" if is_path else f"as {name!r} in {root}"
        raise DatasetError(
            f"no data set is prepared {where}: prepare it with "
            f"tfds.builder(NAME, file_format='array_record').download_and_prepare()"
        )
    if len(configs := sorted({path.parent for path in found})) > 1:
        raise DatasetError(f"{folder} holds several data sets, {', '.join(path.name for path in configs)}: name one")
    return max(found, key=_version)


def _version(folder: Path) -> tuple[int, ...]:
    parts = folder.name.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def _images(features: dict[str, Any]) -> list[str]:
    pictures = [name for name, feature in features.items() if type(feature) is tfds.features.Image]
    return pictures or [name for name, feature in features.items() if _is_array(feature)]


def _is_array(feature: Any) -> bool:
    return type(feature) is tfds.features.Tensor and len(getattr(feature, "shape", ())) > 1


def _labels(features: dict[str, Any]) -> list[str]:
    classes = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    return classes or [name for name in ("label", "labels") if name in features and features[name].shape == ()]


def _read_split(
    builder: Any, split: str, image_key: str, label_key: str | None, where: str, options: Options
) -> tuple[Part, int]:
    feature, size = builder.info.features[image_key], builder.info.splits[split].num_examples
    is_picture = isinstance(feature, tfds.features.Image)
    # Pictures are decoded here, by the same rules as for every other kind of data.
    decoders = {image_key: tfds.decode.SkipDecoding()} if is_picture else None
    images, labels = [], []
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
        for start in range(0, size, _BLOCK):
            for record in source.__getitems__(list(range(start, min(start + _BLOCK, size)))):
                images.append(record[image_key])
                labels.append(record[label_key] if label_key else None)
    except NotImplementedError:
        raise DatasetError(
            f"{where} is not prepared as ArrayRecord, the only format with random access: prepare it again with "
            f"file_format='array_record'"
        ) from None
    except Exception as error:
        # For damaged records, TFDS and its parsers can raise almost any error. All mean the same here.
        raise DatasetError(f"{where} is damaged ({_first_line(error)}): prepare it again") from None
    if any(value is None for value in (*images, *(labels if label_key else ()))):  # from records that cannot be read
        raise DatasetError(f"{where} is damaged (records are incomplete): prepare it again")
    kept, skipped = list(range(len(images))), 0
    if is_picture or None in feature.shape:
        named = ((f"image {index} of {where}", image) for index, image in enumerate(images))
        found, kept, skipped = read_pictures(named, len(images), options)
    else:
        found = np.stack(images) if images else np.empty((0, *feature.shape), feature.np_dtype)
    return Part(found, np.array([labels[index] for index in kept]) if label_key else None, where), skipped


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
