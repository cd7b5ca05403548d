"""Errors, scores and coverage of forecasts of a series, by horizon."""

from typing import Any, NamedTuple

import numpy as np

from aevb import prediction

_LEVELS = (0.5, 0.9)


class Scores(NamedTuple):
    """Scores of N forecasts of H steps of D values, NaN where the truth is not known.

    Attributes:
      error_of_median: The error of the median, `[N, H, D]`, in the units of the series.
      error_of_mean: The error of the mean, `[N, H, D]`.
      crps: The continuous ranked probability score, `[N, H, D]`.
      transform: The probability integral transform, `[N, H, D]`: the relative rank of the observed value among draws.
    """

    error_of_median: np.ndarray
    error_of_mean: np.ndarray
    crps: np.ndarray
    transform: np.ndarray

    def at(self, horizon: int) -> dict[str, Any]:
        """Return the means over origins and values at one horizon, counted from 1; NaN where nothing is known."""
        step = horizon - 1
        if np.all(np.isnan(self.crps[:, step])):
            return {"mae": np.nan, "rmse": np.nan, "crps": np.nan, "coverage": dict.fromkeys(map(str, _LEVELS), np.nan)}
        shares = prediction.coverage(self.transform[:, step], _LEVELS)
        return {
            "mae": float(np.nanmean(np.abs(self.error_of_median[:, step]))),
            "rmse": float(np.sqrt(np.nanmean(self.error_of_mean[:, step] ** 2))),
            "crps": float(np.nanmean(self.crps[:, step])),
            "coverage": {str(level): float(share) for level, share in zip(_LEVELS, shares, strict=True)},
        }

    def coverage(self, levels: np.ndarray) -> np.ndarray:
        """Return the fraction of values in central intervals, over all horizons."""
        return prediction.coverage(self.transform, list(levels))


def of(draws: np.ndarray, truth: np.ndarray) -> Scores:
    """Score draws `[N, S, H, D]` against the true values `[N, H, D]`."""
    return Scores(
        np.median(draws, axis=1) - truth,
        np.mean(draws, axis=1) - truth,
        prediction.ranked_probability_score(draws, truth),
        prediction.probability_integral_transform(draws, truth),
    )
