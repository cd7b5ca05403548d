"""Frey Face: 1,965 frames of one face, 28x20 grey pixels, from a video (Roweis and Saul).

There is no official split. The default is a random 90/10 split with a fixed seed. Some papers use "first_1565", with
the first 1,565 frames for training and the last 400 for testing. Because the frames are a video, its test set shows
expressions that never occur in training. It measures a distribution shift, and its bounds are not comparable to those
of a random split.
"""

from pathlib import Path

import numpy as np

from aevb.data.source import Arrays, DatasetError, Original, Source, SplitRule, random_split

_SIZE = 1_965
_SPLIT_SEED = 0
_FIRST = 1_565
_FILE = "frey_rawface.mat"


def read_faces(path: Path) -> np.ndarray:
    """Return the frames `[1965, 28, 20]` in a MATLAB file, which holds them as the columns of `ff`, uint8 560x1965.

    Raises:
      DatasetError: the file is not a MATLAB file, or has other contents.
    """
    # Imported late: only this file needs SciPy's readers.
    import scipy.io

    try:
        contents = scipy.io.loadmat(path, variable_names=["ff"])
    except Exception as error:
        # On damaged input, SciPy's parser can raise almost any error. All mean the same here.
        raise DatasetError(f"{path} is not a readable MATLAB file: {type(error).__name__}: {error}") from None
    faces = contents.get("ff")
    if not isinstance(faces, np.ndarray) or faces.dtype != np.uint8 or faces.shape != (560, _SIZE):
        raise DatasetError(f"{path} does not hold the array ff, uint8 560x{_SIZE}")
    return np.ascontiguousarray(faces.T).reshape(_SIZE, 28, 20)


def _select_first(split: str) -> tuple[str, slice]:
    return "full", slice(None, _FIRST) if split == "train" else slice(_FIRST, None)


SOURCE = Source(
    name="frey_face",
    version="1.0.0",
    originals=(
        Original(
            _FILE,
            1_100_584,
            "fbe7448bcf55b59718b90b6a2e3ecb6462e8835c1730c471d5fac085e3695053",
            (f"https://cs.nyu.edu/~roweis/data/{_FILE}",),
        ),
    ),
    image_shape=(28, 20),
    max_value=255,
    num_classes=0,
    sizes={"full": _SIZE},
    read=lambda folder: {"full": Arrays(read_faces(folder / _FILE), None)},
    split_rules={
        "random": random_split(_SIZE, _SIZE * 9 // 10, _SPLIT_SEED),
        "first_1565": SplitRule("first 1565 frames/last 400, a distribution shift", _select_first),
    },
)
