"""Tables of x and y for regression: reading, splitting, and standardization by the training rows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aevb import Given
from aevb.data import SOURCES, DatasetError, load
from aevb.data.own.arrays import read_npz
from aevb.data.sources import bimodal

TABLES = ("bimodal", "diabetes")

_TEST_SHARE, _VALID_SHARE = 0.2, 0.2  # of all rows, and of the remaining rows
_FEWEST_ROWS = 20

LogDensity = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Table(NamedTuple):
    """Rows of x and y.

    Attributes:
      name: The name shown in tables and figures.
      x: The inputs, `[N, D]` float64.
      y: The values to predict, `[N, E]` float64.
      num_test: The number of fixed test rows, at the end of the table; `None` if each split draws its own.
      known: Known densities, `log p(y | x)` by name.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    num_test: int | None = None
    known: Mapping[str, LogDensity] = {}


class Scaling(NamedTuple):
    """The means and standard deviations of columns over the training rows, `[D]` each, for standardization."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Scaling":
        """Return the scaling of the given rows. A column that never varies is only centred."""
        scale = values.std(0)
        return cls(values.mean(0), np.where(scale > 0, scale, 1.0))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Standardize values, as float32."""
        return ((values - self.mean) / self.scale).astype(np.float32)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Return standardized values in their original units."""
        return self.mean + self.scale * values


class Split(NamedTuple):
    """One division of a table.

    Attributes:
      train: Standardized training rows, `Given(y, x)`.
      valid: Standardized validation rows, for early stopping.
      test: Standardized test rows.
      x: x of the test rows in the original units, `[N, D]`.
      y: y of the test rows in the original units, `[N, E]`.
      x_scaling: The scaling of x.
      y_scaling: The scaling of y.
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
        """The excess of log p(y | x) of standardized y over that of y, in nats: log |dy / d standardized y|."""
        return float(np.sum(np.log(self.y_scaling.scale)))


def named(name: str, data_dir: str | None) -> Table:
    """Load a registered table.

    Raises:
      DatasetError: If it cannot be loaded, or has no arrays x and y.
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
      DatasetError: If it cannot be read, or does not hold such a table.
    """
    arrays = read_npz(Path(path).expanduser())
    _check_names(path, arrays)
    x, y = (_columns(path, name, arrays[name]) for name in "xy")
    if len(x) != len(y):
        raise DatasetError(f"{path} has {len(x)} rows of x and {len(y)} of y")
    if len(x) < _FEWEST_ROWS:
        raise DatasetError(f"{path} has {len(x)} rows: training, validation and testing need at least {_FEWEST_ROWS}")
    return Table(Path(path).stem, x, y)


def split(table: Table, seed: int) -> Split:
    """Divide a table at random with a seed.

    A fifth of the rows is for testing and a fifth of the rest for validation. A table with its own test rows gives a
    tenth of the others to validation.

    Raises:
      DatasetError: If y does not vary.
    """
    # RandomState's streams are frozen; those of NumPy's newer generators may change between versions.
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
        raise DatasetError(f"y of {table.name} is constant over the training rows: there is nothing to learn")
    x_scaling, y_scaling = Scaling.of(table.x[train]), Scaling.of(table.y[train])
    parts = [Given(y_scaling.forward(table.y[rows]), x_scaling.forward(table.x[rows])) for rows in (train, valid, test)]
    return Split(parts[0], parts[1], parts[2], table.x[test], table.y[test], x_scaling, y_scaling)


def _check_names(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    missing = [each for each in "xy" if each not in arrays]
    if missing:
        raise DatasetError(
            f"{name} has no {' and no '.join(missing)}, but {', '.join(arrays)}: regression needs x [N, D] and y [N] "
            f"or [N, E]"
        )


def _columns(name: str, key: str, values: np.ndarray) -> np.ndarray:
    """Check an array of numbers and return it as `[N, D]` float64."""
    if values.dtype.kind not in "buif" or values.ndim not in (1, 2) or not values.size:
        raise DatasetError(
            f"{key} of {name} must be numbers [N] or [N, D], got dtype {values.dtype} and shape {values.shape}"
        )
    columns = values.astype(np.float64).reshape(len(values), -1)
    if not np.all(np.isfinite(columns)):
        raise DatasetError(f"{key} of {name} has NaN or infinity in {np.sum(~np.isfinite(columns).all(1))} rows")
    return columns
