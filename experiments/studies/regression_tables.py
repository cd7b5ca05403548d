"""Tables of x and y for regression: read, split, and standardized by their training rows alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aevb import Given
from aevb.data import SOURCES, DatasetError, load
from aevb.data.own.arrays import read_npz
from aevb.data.sources import bimodal

TABLES = ("bimodal", "diabetes")

_TEST_SHARE, _VALID_SHARE = 0.2, 0.2  # of all rows, and of those that are not for testing
_FEWEST_ROWS = 20

LogDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Table(NamedTuple):
    """Rows of x and y.

    Attributes:
      name: for people.
      x: `[N, D]` float64.
      y: `[N, E]` float64, what is predicted.
      num_test: so many rows, the last ones, are always the test rows; `None` where each split draws its own.
      known: densities that are known, `log p(y | x)` by the name of each.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    num_test: int | None = None
    known: Mapping[str, LogDensity] = {}


class Scaling(NamedTuple):
    """What standardizes columns: their means and standard deviations over the training rows, `[D]` each."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Scaling":
        """Return that of some rows; a column that never varies keeps its unit."""
        scale = values.std(0)
        return cls(values.mean(0), np.where(scale > 0, scale, 1.0))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return the values standardized, float32."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Return standardized values in their own units."""
        return self.mean + self.scale * values


class Split(NamedTuple):
    """One division of a table.

    Attributes:
      train: standardized `Given(y, x)`.
      valid: likewise, for early stopping.
      test: likewise.
      x: the test rows' in their own units, `[N, D]`.
      y: likewise, `[N, E]`.
      x_scaling: of x.
      y_scaling: of y.
    """

    train: Given
    valid: Given
    test: Given
    x: np.ndarray
    y: np.ndarray
    x_scaling: Scaling
    y_scaling: Scaling

    @property
    def log_unit(self) -> float:
        """Nats by which log p(y | x) of standardized y exceeds that of y itself: log |dy / d standardized y|."""
        return float(np.sum(np.log(self.y_scaling.scale)))


def named(name: str, data_dir: str | None) -> Table:
    """Load a registered table.

    Raises:
      DatasetError: it cannot be had, or has no arrays x and y.
    """
    splits = [load(name, split, data_dir).arrays for split in ("train", "test")]
    _check_names(name, splits[0])
    x, y = (np.concatenate([arrays[each] for arrays in splits]) for each in "xy")
    num_test = None if "full" in SOURCES.get(name).sizes else len(splits[1]["y"])
    known: dict[str, LogDensity] = {}
    if name == "bimodal":
        known = {"truth": bimodal.log_density, "best Gaussian": bimodal.log_best_gaussian}
    return Table(name, _columns(name, "x", x), _columns(name, "y", y), num_test, known)


def own(path: str) -> Table:
    """Read a `.npz` file of x, `[N, D]` or `[N]`, and y, `[N, E]` or `[N]`.

    Raises:
      DatasetError: it cannot be read, or is no such table.
    """
    arrays = read_npz(Path(path).expanduser())
    _check_names(path, arrays)
    x, y = (_columns(path, name, arrays[name]) for name in "xy")
    if len(x) != len(y):
        raise DatasetError(f"{path} has {len(x)} rows of x and {len(y)} of y")
    if len(x) < _FEWEST_ROWS:
        raise DatasetError(f"{path} has {len(x)} rows: to train, validate and test takes {_FEWEST_ROWS} or more")
    return Table(Path(path).stem, x, y)


def split(table: Table, seed: int) -> Split:
    """Divide a table at random, by a seed.

    A fifth is for testing, and a fifth of the rest for validation; a tenth where the table has test rows of its own.

    Raises:
      DatasetError: y does not vary.
    """
    # RandomState's streams are frozen for good; those of NumPy's newer generators may change between versions.
    random, size = np.random.RandomState(seed), len(table.y)
    if table.num_test is None:
        order = random.permutation(size)
        num_test = int(_TEST_SHARE * size)
    else:
        num_test = table.num_test
        order = np.concatenate([np.arange(size - num_test, size), random.permutation(size - num_test)])
    test, rest = order[:num_test], order[num_test:]
    num_valid = int(_VALID_SHARE * len(rest)) if table.num_test is None else len(rest) // 10
    valid, train = rest[:num_valid], rest[num_valid:]
    if np.any(table.y[train].std(0) == 0):
        raise DatasetError(f"y of {table.name} is the same in all training rows: there is nothing to learn")
    x_scaling, y_scaling = Scaling.of(table.x[train]), Scaling.of(table.y[train])
    parts = [Given(y_scaling.forward(table.y[rows]), x_scaling.forward(table.x[rows])) for rows in (train, valid, test)]
    return Split(parts[0], parts[1], parts[2], table.x[test], table.y[test], x_scaling, y_scaling)


def _check_names(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    missing = [each for each in "xy" if each not in arrays]
    if missing:
        raise DatasetError(
            f"{name} has no {' and no '.join(missing)}, but {', '.join(arrays)}: a table for regression has "
            f"x [N, D] and y [N] or [N, E]"
        )


def _columns(name: str, key: str, values: np.ndarray) -> np.ndarray:
    """Return `[N, D]` float64 of an array of numbers, checked."""
    if values.dtype.kind not in "buif" or values.ndim not in (1, 2) or not values.size:
        raise DatasetError(
            f"{key} of {name} must be numbers [N] or [N, D], got dtype {values.dtype} and shape {values.shape}"
        )
    columns = values.astype(np.float64).reshape(len(values), -1)
    if not np.all(np.isfinite(columns)):
        raise DatasetError(f"{key} of {name} has NaN or infinity in {np.sum(~np.isfinite(columns).all(1))} rows")
    return columns
