"""One time series: reading, seasonal differences, windows, and a seasonal naive forecast."""

from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from aevb.data import DatasetError, load
from aevb.data.own.arrays import read_npz

Drift: TypeAlias = Literal["mean", "last"]


class Series(NamedTuple):
    """A series, in its own units.

    Attributes:
      name: The name shown in tables and figures.
      values: The values `[T, D]` float64, NaN where nothing was observed.
      num_test: The number of final steps to test on.
      times: The time of each step, `[T]`.
      time_name: The axis label of `times`.
    """

    name: str
    values: np.ndarray
    num_test: int
    times: np.ndarray
    time_name: str


def named(name: str, data_dir: str | None, source_dir: str | None) -> Series:
    """Load a registered series, whose test split follows its training split.

    Raises:
      DatasetError: If it cannot be loaded, or is not a single time series.
    """
    splits = [load(name, split, data_dir, source_dir) for split in ("train", "test")]
    if not all(each.is_sequences and len(each.images) == 1 for each in splits) or splits[0].images.dtype.kind != "f":
        raise DatasetError(f"{name} is not a single time series with its later part as the test split; co2 is one")
    arrays = splits[0].arrays
    parts = [each.sequences()[0, : each.arrays["lengths"][0]] for each in splits]
    values = np.concatenate(parts).astype(np.float64)
    steps, (times, time_name) = np.arange(len(values)), (np.arange(1, len(values) + 1), "step")
    if "first_month" in arrays:
        times, time_name = (arrays["first_month"][0] + steps + 0.5) / 12, "year"
    return Series(name, values, len(parts[1]), times, time_name)


def own(path: str, num_test: int | None) -> Series:
    """Read a `.npz` file of values, `[T]`, `[T, D]` or `[1, T, D]`. By default the last fifth is for testing.

    Raises:
      DatasetError: If it cannot be read, or does not hold such a series.
    """
    arrays = read_npz(Path(path).expanduser())
    if "values" not in arrays:
        raise DatasetError(
            f"{path} has no array `values`, but {', '.join(arrays)}: a series is an array values, [T] or [T, D]"
        )
    values = arrays["values"]
    if values.ndim == 3 and len(values) == 1:
        values = values[0, : int(np.ravel(arrays["lengths"])[0])] if "lengths" in arrays else values[0]
    if values.dtype.kind not in "buif" or values.ndim not in (1, 2) or not values.size:
        raise DatasetError(
            f"values of {path} must be the numbers of one series, [T] or [T, D], got dtype {values.dtype} and shape "
            f"{values.shape}"
        )
    values = values.astype(np.float64).reshape(len(values), -1)
    if np.any(np.isinf(values)):
        raise DatasetError(f"values of {path} are infinite somewhere: mark missing values with NaN")
    return Series(Path(path).stem, values, num_test or len(values) // 5, np.arange(1, len(values) + 1), "step")


class Differences(NamedTuple):
    """Standardized seasonal differences, y_t = (x_t - x_{t-season} - mean) / scale.

    Attributes:
      season: Steps per season; 1 compares with the step before.
      mean: The mean of the changes in the fitted part, `[D]`.
      scale: Their standard deviation in the fitted part, `[D]`.
    """

    season: int
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, season: int, name: str) -> "Differences":
        """Fit to values `[T, D]`.

        Raises:
          DatasetError: If the changes do not vary, or too few were observed.
        """
        changes = values[season:] - values[:-season]
        seen = np.sum(~np.isnan(changes), axis=0)
        if np.any(seen < 2) or np.any(np.nanstd(changes, axis=0) == 0):
            raise DatasetError(
                f"cannot learn from changes of {name} over {season} steps: they are constant, or too few were observed"
            )
        return cls(season, np.nanmean(changes, axis=0), np.nanstd(changes, axis=0))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return the standardized changes of values `[T, D]`, `[T - season, D]` float32; NaN where either is."""
        changes = values[self.season :] - values[: -self.season]
        return ((changes - self.mean) / self.scale).astype(np.float32)

    def back(self, draws: np.ndarray, histories: np.ndarray) -> np.ndarray:
        """Convert draws of changes, `[N, S, H, D]`, to values that continue `histories`, `[N, T, D]`.

        Beyond one season the changes are added to the draw's own values.
        """
        base = np.stack([filled(each, self.season, self.mean)[-self.season :] for each in histories])
        values = np.empty(draws.shape)
        for step in range(draws.shape[2]):
            before = base[:, None, step] if step < self.season else values[:, :, step - self.season]
            values[:, :, step] = before + self.mean + self.scale * draws[:, :, step]
        return values


def filled(values: np.ndarray, season: int, change: np.ndarray) -> np.ndarray:
    """Fill missing values `[T, D]` with the value a season before plus the mean change, or else a season after less it.

    Values with neither become the mean of the series.
    """
    found = values.copy()
    for steps, sign in ((range(season, len(found)), 1), (range(len(found) - season - 1, -1, -1), -1)):
        for step in steps:
            other = found[step - sign * season] + sign * change
            found[step] = np.where(np.isnan(found[step]), other, found[step])
    return np.where(np.isnan(found), np.nanmean(values, axis=0), found)


def windows(values: np.ndarray, length: int) -> np.ndarray:
    """Return all windows of `length` steps of `[T, D]`, `[N, length, D]`, except those that are NaN throughout."""
    found = np.moveaxis(np.lib.stride_tricks.sliding_window_view(values, length, axis=0), -1, 1)
    return found[~np.all(np.isnan(found), axis=(1, 2))]


def histories(values: np.ndarray, origins: np.ndarray, length: int) -> np.ndarray:
    """Return the `length` steps before each origin, `[N, length, D]`; origins are positions in the series."""
    return values[origins[:, None] + np.arange(-length, 0)]


def futures(values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Return the `horizon` steps from each origin, `[N, H, D]`, NaN after the end."""
    longer = np.pad(values, ((0, horizon), (0, 0)), constant_values=np.nan)
    return longer[origins[:, None] + np.arange(horizon)]


class SeasonalNaive(NamedTuple):
    """The seasonal naive forecast with drift. Its intervals are quantiles of its own errors on the fitted part.

    Attributes:
      drift: "mean" adds the mean change over a season in the fitted part; "last" adds the difference between the means
        of the last two seasons.
      change: The mean change over a season, `[D]`.
      season: Steps per season.
      errors: Errors by horizon, `[R, H, D]`; NaN where unknown.
    """

    drift: Drift
    change: np.ndarray
    season: int
    errors: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, season: int, horizon: int, drift: Drift) -> "SeasonalNaive":
        """Fit to values `[T, D]`. Errors are taken from every origin with at least two seasons before it."""
        change = np.nanmean(values[season:] - values[:-season], axis=0)
        naive = cls(drift, change, season, np.empty(0))
        origins = np.arange(2 * season, len(values))
        points = naive.points(histories(values, origins, 2 * season), horizon)
        return naive._replace(errors=futures(values, origins, horizon) - points)

    def points(self, histories: np.ndarray, horizon: int) -> np.ndarray:
        """Return forecasts `[N, H, D]` from histories `[N, T, D]` of at least two seasons."""
        base = np.stack([filled(each, self.season, self.change) for each in histories])
        last, before = base[:, -self.season :], base[:, -2 * self.season : -self.season]
        change = self.change if self.drift == "mean" else (last - before).mean(axis=1, keepdims=True)
        steps = np.arange(horizon)
        return last[:, steps % self.season] + (steps // self.season + 1)[:, None] * change

    def draws(self, histories: np.ndarray, horizon: int, num_samples: int) -> np.ndarray:
        """Return `num_samples` equally weighted quantiles of each forecast in random order, `[N, S, H, D]`."""
        levels = (np.random.RandomState(0).permutation(num_samples) + 0.5) / num_samples
        return self.points(histories, horizon)[:, None] + np.nanquantile(self.errors, levels, axis=0)


def check(series: Series, season: int, window: int, horizon: int, num_valid: int) -> None:
    """Raise `DatasetError` if a series is too short for training windows, validation and testing."""
    fit = len(series.values) - series.num_test - num_valid
    needed: dict[str, Any] = {
        f"to fit a season of {season} and two windows of {window}": (season + 2 * window, fit),
        f"for a validation window of {window}": (window, num_valid),
        f"to know the errors of the baseline, two seasons of {season} and the horizon of {horizon}": (
            2 * season + horizon + 1,
            fit,
        ),
    }
    for what, (least, found) in needed.items():
        if found < least:
            raise DatasetError(
                f"{series.name} is too short: {max(found, 0)} steps are left {what}, which takes {least}"
            )
    if not 1 <= series.num_test < len(series.values):
        raise DatasetError(f"{series.name} has {len(series.values)} steps: it cannot have {series.num_test} test steps")
