"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28x28, with their classes.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998. The split is the
official one and the order is that of the files. The two halves of the test file differ in difficulty by half a nat, so
an estimate on a part of it needs a random part.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from aevb.data.source import Arrays, DatasetError, Original, Source, SplitRule

_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_UNSIGNED_BYTE = 0x08


def _original(name: str, size: int, sha256: str) -> Original:
    return Original(name, size, sha256, tuple(mirror + name for mirror in _MIRRORS))


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes that must hold an array of `shape`.

    No more than that is decompressed, whatever size the file declares.

    Raises:
      DatasetError: the file is not gzip, not IDX, or has other contents.
    """
    num_bytes = math.prod(shape)
    header = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTE, len(shape), *shape)
    try:
        with gzip.open(path) as file:
            found = file.read(len(header) + num_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is not a complete gzip file: {error}") from None
    if found[: len(header)] != header or len(found) != len(header) + num_bytes:
        raise DatasetError(f"{path} is not an IDX file of unsigned bytes of shape {shape}")
    return np.frombuffer(found, np.uint8, offset=len(header)).reshape(shape)


def _read(folder: Path) -> dict[str, Arrays]:
    def arrays(prefix: str, size: int) -> Arrays:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", (size, 28, 28))
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", (size,))
        return Arrays(images, labels.astype(np.int64))

    return {"train": arrays("train", 60_000), "test": arrays("t10k", 10_000)}


SOURCE = Source(
    name="mnist",
    version="1.0.0",
    originals=(
        _original(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _original(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _original(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _original(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    image_shape=(28, 28),
    max_value=255,
    num_classes=10,
    sizes={"train": 60_000, "test": 10_000},
    read=_read,
    split_rules={"official": SplitRule("official 60000/10000", lambda split: (split, slice(None)))},
)
