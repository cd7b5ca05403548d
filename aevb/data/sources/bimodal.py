"""A regression problem with bimodal noise of known density: 5,000 points for training, 1,000 for testing.

    x ~ U(-1, 1),    p(y | x) = 1/2 N(y; m, s^2) + 1/2 N(y; -m, s^2),    m = 0.3 + (x + 1) / 2,  s = 0.05 + (x + 1) / 10

The mean of y given x is 0 everywhere, but y is rarely near 0. A model with one mode can only widen it.
"""

from pathlib import Path

import numpy as np

from aevb.data.source import Feature, Source, SplitRule

_SIZES = {"train": 5_000, "test": 1_000}
_SEED = 0


def log_density(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return log p(y | x) in nats for arrays that broadcast."""
    mean, scale = _moments(np.asarray(x, np.float64))
    log_normal = lambda mean: -0.5 * ((y - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    return np.logaddexp(log_normal(mean), log_normal(-mean)) - np.log(2)


def log_best_gaussian(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return log N(y; 0, m^2 + s^2) in nats, for the Gaussian with the mean and variance of y given x."""
    mean, scale = _moments(np.asarray(x, np.float64))
    variance = mean**2 + scale**2
    return -0.5 * (y**2 / variance + np.log(2 * np.pi * variance))


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return m and s."""
    return 0.3 + 0.5 * (x + 1), 0.05 + 0.1 * (x + 1)


def _read(_: Path) -> dict[str, dict[str, np.ndarray]]:
    # RandomState's streams are frozen permanently; those of NumPy's newer generators may change between versions.
    random = np.random.RandomState(_SEED)

    def draw(size: int) -> dict[str, np.ndarray]:
        x = random.uniform(-1, 1, (size, 1))
        mean, scale = _moments(x)
        sign = np.where(random.rand(size, 1) < 0.5, 1, -1)
        y = sign * mean + scale * random.randn(size, 1)
        return {"y": y.astype(np.float32), "x": x.astype(np.float32)}

    return {split: draw(size) for split, size in _SIZES.items()}


SOURCE = Source.of_features(
    name="bimodal",
    version="1.0.0",
    features={"y": Feature((1,), np.float32), "x": Feature((1,), np.float32)},
    sizes=_SIZES,
    read=_read,
    split_rules={"official": SplitRule("5,000 and 1,000 drawn by seed 0", lambda split: (split, slice(None)))},
)
