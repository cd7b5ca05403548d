"""One series of numbers along time: read, differenced by season, divided in time, and forecast without a model."""

from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from aevb.data import DatasetError, load
from aevb.data.own.arrays import read_npz

Drift: TypeAlias = Literal["mean", "last"]


class Series(NamedTuple):
    """A series, in its own units.

    Attributes:
      name: for people.
      values: `[T, D]` float64, NaN where nothing was observed.
      num_test: so many steps, the last ones, are for testing.
      times: `[T]`, of each step.
      time_name: what `times` are.
    """

    name: str
    values: np.ndarray
    num_test: int
    times: np.ndarray
    time_name: str


def named(name: str, data_dir: str | None, source_dir: str | None) -> Series:
    """Load a registered series, whose test split follows its training split.

    Raises:
      DatasetError: it cannot be had, or is not one series in time.
    """
    splits = [load(name, split, data_dir, source_dir) for split in ("train", "test")]
    if not all(each.is_sequences and len(each.images) == 1 for each in splits) or splits[0].images.dtype.kind != "f":
        raise DatasetError(f"{name} is not one series of numbers, whose later part is its test split: co2 is")
    arrays = splits[0].arrays
    parts = [each.sequences()[0, : each.arrays["lengths"][0]] for each in splits]
    values = np.concatenate(parts).astype(np.float64)
    steps, (times, time_name) = np.arange(len(values)), (np.arange(1, len(values) + 1), "step")
    if "first_month" in arrays:
        times, time_name = (arrays["first_month"][0] + steps + 0.5) / 12, "year"
    return Series(name, values, len(parts[1]), times, time_name)


def own(path: str, num_test: int | None) -> Series:
    """Read a `.npz` file of values, `[T]`, `[T, D]` or `[1, T, D]`; by default a fifth is for testing.

    Raises:
      DatasetError: it cannot be read, or is no such series.
    """
    arrays = read_npz(Path(path).expanduser())
    if "values" not in arrays:
        raise DatasetError(f"{path} has no values, but {', '.join(arrays)}: a series is values [T] or [T, D]")
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
        raise DatasetError(f"values of {path} are infinite somewhere: what was not observed is NaN")
    return Series(Path(path).stem, values, num_test or len(values) // 5, np.arange(1, len(values) + 1), "step")


class Differences(NamedTuple):
    """Changes against the step a season before, standardized: y_t = (x_t - x_{t-season} - mean) / scale.

    Attributes:
      season: steps; 1 is the step before.
      mean: `[D]`, of the changes in the part that is fitted.
      scale: `[D]`, their standard deviation there.
    """

    season: int
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, season: int, name: str) -> "Differences":
        """Return those of values `[T, D]` to fit.

        Raises:
          DatasetError: changes do not vary, or none was observed.
        """
        changes = values[season:] - values[:-season]
        seen = np.sum(~np.isnan(changes), axis=0)
        if np.any(seen < 2) or np.any(np.nanstd(changes, axis=0) == 0):
            raise DatasetError(
                f"changes of {name} over {season} steps are the same, or too few were observed, to learn from"
            )
        return cls(season, np.nanmean(changes, axis=0), np.nanstd(changes, axis=0))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return the standardized changes of values `[T, D]`, `[T - season, D]` float32; NaN where either is."""
        changes = values[self.season :] - values[: -self.season]
        return ((changes - self.mean) / self.scale).astype(np.float32)

    def back(self, draws: np.ndarray, histories: np.ndarray) -> np.ndarray:
        """Return draws of changes, `[N, S, H, D]`, as values that go on from `histories`, `[N, T, D]`.

        Beyond one season the value before is the draw's own.
        """
        base = np.stack([filled(each, self.season, self.mean)[-self.season :] for each in histories])
        values = np.empty(draws.shape)
        for step in range(draws.shape[2]):
            before = base[:, None, step] if step < self.season else values[:, :, step - self.season]
            values[:, :, step] = before + self.mean + self.scale * draws[:, :, step]
        return values


def filled(values: np.ndarray, season: int, change: np.ndarray) -> np.ndarray:
    """Return values `[T, D]` with what is missing at the value a season before and the mean change, or after."""
    found = values.copy()
    for steps, sign in ((range(season, len(found)), 1), (range(len(found) - season - 1, -1, -1), -1)):
        for step in steps:
            other = found[step - sign * season] + sign * change
            found[step] = np.where(np.isnan(found[step]), other, found[step])
    return np.where(np.isnan(found), np.nanmean(values, axis=0), found)


def windows(values: np.ndarray, length: int) -> np.ndarray:
    """Return every stretch of `length` steps of `[T, D]`, `[N, length, D]`, without those that are NaN throughout."""
    found = np.moveaxis(np.lib.stride_tricks.sliding_window_view(values, length, axis=0), -1, 1)
    return found[~np.all(np.isnan(found), axis=(1, 2))]


def histories(values: np.ndarray, origins: np.ndarray, length: int) -> np.ndarray:
    """Return the `length` steps up to each origin, `[N, length, D]`: steps before it, an origin being a position."""
    return values[origins[:, None] + np.arange(-length, 0)]


def futures(values: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Return the `horizon` steps from each origin on, `[N, H, D]`, NaN after the end."""
    longer = np.pad(values, ((0, horizon), (0, 0)), constant_values=np.nan)
    return longer[origins[:, None] + np.arange(horizon)]


class SeasonalNaive(NamedTuple):
    """The value a season before, and a drift; its intervals are quantiles of its own errors where it was fitted.

    Attributes:
      drift: "mean" adds the mean change over a season of the part that was fitted; "last" the change of the mean of the
        last season against that of the season before it.
      change: `[D]`, the mean change.
      season: steps.
      errors: by horizon, `[R, H, D]`; NaN where one is not known.
    """

    drift: Drift
    change: np.ndarray
    season: int
    errors: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, season: int, horizon: int, drift: Drift) -> "SeasonalNaive":
        """Fit to values `[T, D]`: its errors from every origin that has two seasons before it."""
        change = np.nanmean(values[season:] - values[:-season], axis=0)
        naive = cls(drift, change, season, np.empty(0))
        origins = np.arange(2 * season, len(values))
        points = naive.points(histories(values, origins, 2 * season), horizon)
        return naive._replace(errors=futures(values, origins, horizon) - points)

    def points(self, histories: np.ndarray, horizon: int) -> np.ndarray:
        """Return forecasts `[N, H, D]` from what was before, `[N, T, D]`, two seasons of it at least."""
        base = np.stack([filled(each, self.season, self.change) for each in histories])
        last, before = base[:, -self.season :], base[:, -2 * self.season : -self.season]
        change = self.change if self.drift == "mean" else (last - before).mean(axis=1, keepdims=True)
        steps = np.arange(horizon)
        return last[:, steps % self.season] + (steps // self.season + 1)[:, None] * change

    def draws(self, histories: np.ndarray, horizon: int, num_samples: int) -> np.ndarray:
        """Return `num_samples` quantiles of each forecast, `[N, S, H, D]`, of equal weight and in no order."""
        levels = (np.random.RandomState(0).permutation(num_samples) + 0.5) / num_samples
        return self.points(histories, horizon)[:, None] + np.nanquantile(self.errors, levels, axis=0)


def check(series: Series, season: int, window: int, horizon: int, num_valid: int) -> None:
    """Raise `DatasetError` unless a series is long enough for windows, validation and tests."""
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
        raise DatasetError(f"{series.name} has {len(series.values)} steps: {series.num_test} for testing are too many")
