"""The diabetes table in scikit-learn (Efron et al. 2004): 442 patients, 10 measurements, progression one year later.

No download is needed. There is no official split; the default is a random 80/20 split with a fixed seed.
"""

from pathlib import Path

import numpy as np

from aevb.data.source import DatasetError, Feature, Source, random_split

_SIZE = 442
_SPLIT_SEED = 0


def _read(_: Path) -> dict[str, dict[str, np.ndarray]]:
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        raise DatasetError('diabetes needs scikit-learn: pip install "aevb[experiments]"') from None
    x, y = load_diabetes(return_X_y=True, scaled=False)  # scikit-learn's scaling would use the test rows too
    return {"full": {"y": np.asarray(y, np.float64)[:, None], "x": np.asarray(x, np.float64)}}


SOURCE = Source.of_features(
    name="diabetes",
    version="1.0.0",
    features={"y": Feature((1,), np.float64), "x": Feature((10,), np.float64)},
    sizes={"full": _SIZE},
    read=_read,
    split_rules={"random": random_split(_SIZE, _SIZE * 4 // 5, _SPLIT_SEED)},
)
