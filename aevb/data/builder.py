"""TensorFlow Datasets builders that prepare and read a `Source` without TensorFlow.

The stock builders import TensorFlow for two tasks: unzipping and encoding PNG. Here the source unzips its files, and
images are stored as the raw bytes of a uint8 tensor in ArrayRecord files.
"""

import contextlib
import fcntl
import io
import json
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from aevb.data.identity import is_current, made_of
from aevb.data.originals import locate_originals
from aevb.data.source import DatasetError, Feature, Source

_MADE_OF = "made_of.json"


class SourceBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The base class of the builders that `builder_class` creates for each `Source`."""

    SOURCE: Source
    VERSION = tfds.core.Version("1.0.0")
    # The source has the checksums; TFDS's lookup of its own checksum file needs another package.
    url_infos: dict | None = {}  # noqa: RUF012  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, *, source_dir: Path | None = None, **kwargs: Any):
        """Create a builder.

        Args:
          source_dir: a folder of original files to use instead of downloads.
          **kwargs: arguments of `tfds.core.DatasetBuilder`.
        """
        self._source_dir = source_dir
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {_stored(self.SOURCE, name): _connector(each) for name, each in self.SOURCE.declared.items()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.SOURCE.name}, in the order of the original files.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # split rules by position need the original order
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        download_dir = Path(dl_manager.download_dir) / self.name
        folder = locate_originals(self.SOURCE, self._source_dir, download_dir)
        splits = {split: self.SOURCE.by_name(arrays) for split, arrays in self.SOURCE.read(folder).items()}
        _check(self.SOURCE, splits)
        return {split: self._generate_examples(arrays) for split, arrays in splits.items()}

    def _generate_examples(self, arrays: dict[str, np.ndarray]) -> Iterator[tuple[int, dict[str, Any]]]:
        stored = {_stored(self.SOURCE, name): array for name, array in arrays.items()}
        for index in range(len(next(iter(stored.values())))):
            yield index, {name: array[index] for name, array in stored.items()}


def builder_class(source: Source) -> type[SourceBuilder]:
    """Return the builder class of `source`, named `aevb_...` to keep its folder apart from TFDS's data set."""
    camel_case = "".join(part.capitalize() for part in ("aevb", *source.name.split("_")))
    attributes = {"SOURCE": source, "VERSION": tfds.core.Version(source.version), "__module__": __name__}
    # Unregistered: TFDS's registry accepts a name once per process, and builders are not looked up by name here.
    return types.new_class(
        camel_case, (SourceBuilder,), {"skip_registration": True}, lambda body: body.update(attributes)
    )


def prepare(source: Source, data_dir: Path, source_dir: Path | None) -> dict[str, dict[str, np.ndarray]]:
    """Run `download_and_prepare`, unless it has been run in `data_dir` on these originals, and read the result.

    Raises:
      DatasetError: the originals are not available, or the prepared data are damaged or cannot be written.
    """
    try:
        with _one_at_a_time(data_dir), _quiet():
            now = made_of(source, source_dir)  # before reading, so that a change in the meantime is noticed next time
            _remove_outdated(source, data_dir, source_dir, now)
            builder = builder_class(source)(data_dir=data_dir, source_dir=source_dir)
            try:
                builder.download_and_prepare()
            except BaseException:
                _remove_empty(data_dir, builder.name)
                raise
            record = Path(builder.data_path) / _MADE_OF
            if source_dir is not None or not record.exists():
                record.write_text(json.dumps(now, indent=2))
    except OSError as error:
        raise DatasetError(f"cannot prepare {source.name} in {data_dir}: {error.strerror or error}") from None
    try:
        return {split: _read_split(builder, split, size) for split, size in source.sizes.items()}
    except (RuntimeError, ValueError, OSError, KeyError, IndexError) as error:
        raise DatasetError(
            f"the prepared data in {builder.data_path} are damaged ({error}): delete that folder"
        ) from None


def _remove_outdated(source: Source, data_dir: Path, source_dir: Path | None, now: dict[str, Any]) -> None:
    """Delete data prepared from other originals, or by another definition of the same version."""
    folder = data_dir / builder_class(source).name / source.version
    if not folder.is_dir():
        return
    try:
        found = json.loads((folder / _MADE_OF).read_text())
        made = {key: found[key] for key in ("definition", "files")}
    except (OSError, ValueError, KeyError, TypeError):
        made = None  # prepared by an earlier version, which did not write this file
    if not is_current(source, made, now, source_dir):
        shutil.rmtree(folder)


def _check(source: Source, splits: dict[str, dict[str, np.ndarray]]) -> None:
    """Raise `DatasetError` if the arrays that a source reads differ from its declaration."""
    if splits.keys() != source.sizes.keys():
        raise DatasetError(
            f"{source.name} declares the splits {sorted(source.sizes)}, but `read` returned {sorted(splits)}"
        )
    for split, arrays in splits.items():
        if arrays.keys() != source.declared.keys():
            declared, found = ", ".join(source.declared), ", ".join(arrays)
            raise DatasetError(f"{source.name} declares {declared} in {split!r}, but `read` returned {found}")
        for name, feature in source.declared.items():
            shape, found = (source.sizes[split], *feature.shape), arrays[name]
            if found.shape != shape or found.dtype != feature.dtype:
                raise DatasetError(
                    f"{source.name} declares {name} of {feature.dtype} and shape {shape} in {split!r}, but `read` "
                    f"returned {found.dtype} of shape {found.shape}"
                )


def _remove_empty(data_dir: Path, name: str) -> None:
    """Delete folders that TFDS created and left empty."""
    for made in (name, f"downloads/{name}", "downloads/extracted", "downloads"):
        with contextlib.suppress(OSError):  # not empty, or not there
            (data_dir / made).rmdir()


@contextlib.contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Let one of several concurrent processes prepare the data while the others wait for it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / ".aevb.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel releases it, however the process ends
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress TFDS's messages and progress bars."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _stored(source: Source, name: str) -> str:
    """Return the name of an array in a record. As in TFDS's own data sets, images and labels have singular names."""
    return name if source.features is not None else {"images": "image", "labels": "label"}[name]


def _connector(feature: Feature) -> Any:
    if feature.shape == () and feature.dtype == np.int64:
        return tfds.features.Scalar(np.int64)
    return tfds.features.Tensor(shape=feature.shape, dtype=feature.dtype, encoding="bytes")


def _read_split(builder: SourceBuilder, split: str, size: int) -> dict[str, np.ndarray]:
    """Read all records of a split at once. Decoding them one by one through TFDS takes ten times as long."""
    parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]
    records = []
    for path in builder.info.splits[split].filepaths:
        records += ArrayRecordReader(str(path)).read_all()
    examples = [parse(record).features.feature for record in records]
    arrays = {}
    for name, feature in builder.SOURCE.declared.items():
        values = [example[_stored(builder.SOURCE, name)] for example in examples]
        if feature.shape == () and feature.dtype == np.int64:
            arrays[name] = np.array([value.int64_list.value[0] for value in values], np.int64)
        else:
            joined = b"".join(value.bytes_list.value[0] for value in values)
            arrays[name] = np.frombuffer(joined, feature.dtype).reshape(size, *feature.shape)
    return arrays
