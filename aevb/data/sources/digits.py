"""The digits in scikit-learn: 1,797 handwritten digits of 8x8 pixels from 0 to 16, with their classes.

No download is needed. There is no official split; the default is a random 80/20 split with a fixed seed.
"""

from pathlib import Path

import numpy as np

from aevb.data.source import Arrays, DatasetError, Source, random_split

_SIZE = 1_797
_SPLIT_SEED = 0


def _read(_: Path) -> dict[str, Arrays]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DatasetError('digits needs scikit-learn: pip install "aevb[experiments]"') from None
    pixels, labels = load_digits(return_X_y=True)
    return {"full": Arrays(np.asarray(pixels, np.uint8).reshape(-1, 8, 8), np.asarray(labels, np.int64))}


SOURCE = Source(
    name="digits",
    version="1.0.0",
    originals=(),
    image_shape=(8, 8),
    max_value=16,
    num_classes=10,
    sizes={"full": _SIZE},
    read=_read,
    split_rules={"random": random_split(_SIZE, _SIZE * 4 // 5, _SPLIT_SEED)},
)
