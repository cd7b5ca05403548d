"""TensorFlow Datasets builders that prepare and read a `Source` without TensorFlow.

Two things in the stock builders import TensorFlow: unzipping and encoding PNG. Here the source unzips, and images
are stored as raw bytes of a uint8 tensor in ArrayRecord files.
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
    """A builder for any `Source`; `builder_class` makes the one of a given source."""

    SOURCE: Source
    VERSION = tfds.core.Version("1.0.0")
    # The source has the checksums; looking for TFDS's own file of them needs another package.
    url_infos: dict | None = {}  # noqa: RUF012  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, *, source_dir: Path | None = None, **kwargs: Any):
        """`source_dir` takes the place of the network; the rest are `tfds.core.DatasetBuilder`'s arguments."""
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
    """The builder of `source`, named `aevb_...` so as not to share a folder with TFDS's own data set of that name."""
    camel_case = "".join(part.capitalize() for part in ("aevb", *source.name.split("_")))
    attributes = {"SOURCE": source, "VERSION": tfds.core.Version(source.version), "__module__": __name__}
    # Unregistered: TFDS's registry takes a name once a process, and nothing here looks builders up by name.
    return types.new_class(
        camel_case, (SourceBuilder,), {"skip_registration": True}, lambda body: body.update(attributes)
    )


def prepare(source: Source, data_dir: Path, source_dir: Path | None) -> dict[str, dict[str, np.ndarray]]:
    """Run `download_and_prepare` if it has not been run in `data_dir` on these originals, and read everything back.

    Raises:
      DatasetError: the originals cannot be had, or what was prepared is damaged or cannot be written.
    """
    try:
        with _one_at_a_time(data_dir), _quiet():
            now = made_of(source, source_dir)  # before they are read: what changes meanwhile is noticed the next time
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
            f"what is prepared in {builder.data_path} is damaged ({error}): delete that folder"
        ) from None


def _remove_outdated(source: Source, data_dir: Path, source_dir: Path | None, now: dict[str, Any]) -> None:
    """Delete what was prepared of other originals than those of now, or by another definition of the same version."""
    folder = data_dir / builder_class(source).name / source.version
    if not folder.is_dir():
        return
    try:
        found = json.loads((folder / _MADE_OF).read_text())
        made = {key: found[key] for key in ("definition", "files")}
    except (OSError, ValueError, KeyError, TypeError):
        made = None  # prepared by an earlier version, which did not write it
    if not is_current(source, made, now, source_dir):
        shutil.rmtree(folder)


def _check(source: Source, splits: dict[str, dict[str, np.ndarray]]) -> None:
    """Raise `DatasetError` where a source reads something else than it declares."""
    if splits.keys() != source.sizes.keys():
        raise DatasetError(f"{source.name} declares the splits {sorted(source.sizes)}, but reads {sorted(splits)}")
    for split, arrays in splits.items():
        if arrays.keys() != source.declared.keys():
            declared, found = ", ".join(source.declared), ", ".join(arrays)
            raise DatasetError(f"{source.name} declares {declared} in {split!r}, but reads {found}")
        for name, feature in source.declared.items():
            shape, found = (source.sizes[split], *feature.shape), arrays[name]
            if found.shape != shape or found.dtype != feature.dtype:
                raise DatasetError(
                    f"{source.name} declares {name} of {feature.dtype} and shape {shape} in {split!r}, but reads "
                    f"{found.dtype} of shape {found.shape}"
                )


def _remove_empty(data_dir: Path, name: str) -> None:
    """Delete the folders that TFDS makes before there is anything in them."""
    for made in (name, f"downloads/{name}", "downloads/extracted", "downloads"):
        with contextlib.suppress(OSError):  # not empty, or not there
            (data_dir / made).rmdir()


@contextlib.contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Of several processes that start together one prepares, and the others find it done."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / ".aevb.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go by the kernel, however this ends
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's reports and bars of bars, for a matter of seconds, out of other people's output."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _stored(source: Source, name: str) -> str:
    """Return the name of an array in a record: TFDS's own data sets have an image and a label."""
    return name if source.features is not None else {"images": "image", "labels": "label"}[name]


def _connector(feature: Feature) -> Any:
    if feature.shape == () and feature.dtype == np.int64:
        return tfds.features.Scalar(np.int64)
    return tfds.features.Tensor(shape=feature.shape, dtype=feature.dtype, encoding="bytes")


def _read_split(builder: SourceBuilder, split: str, size: int) -> dict[str, np.ndarray]:
    """All records of a split at once: decoding them one by one through TFDS takes ten times as long."""
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
