"""Monthly atmospheric CO2 at Mauna Loa, March 1958 to December 2001, in parts per million by volume: one series.

Keeling and Whorf, "Atmospheric CO2 concentrations derived from flask air samples at sites in the SIO network", 2004;
the weekly averages are public domain and come with statsmodels. Each month is the mean of its measured weeks; the five
months without any are NaN. The series up to 1990 is for training and the rest for testing: forecasts start at the end
of the training series and are compared with the test series.
"""

import re
from pathlib import Path

import numpy as np

from aevb.data.source import DatasetError, Feature, Original, Source, SplitRule
from aevb.data.time_series import stacked

_FILE = "co2.csv"
_INSIDE = f"statsmodels/datasets/co2/{_FILE}"
_FIRST_TEST_YEAR = 1991
_NUM_STEPS = 394  # the length of the training split, the longer one


def monthly_means(path: Path) -> tuple[np.ndarray, int]:
    """Read weekly averages from lines `YYYYMMDD,value`, in which the value may be missing.

    Returns:
      The mean of each month, `[T]` float64, NaN if there is none; and the first month, as 12 * year + month - 1.

    Raises:
      DatasetError: the file has another format.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    if lines[:1] != ["date,co2"] or len(lines) < 2:
        raise DatasetError(f"{path} must begin with the line date,co2, followed by one line per week")
    months, values = [], []
    for number, line in enumerate(lines[1:], 2):
        found = re.fullmatch(r"(\d{4})(0[1-9]|1[0-2])\d\d,(\d+(?:\.\d+)?)?", line, re.ASCII)
        if found is None:
            raise DatasetError(f"{path}, line {number}: expected YYYYMMDD,value, got {line[:40]!a}")
        months.append(12 * int(found[1]) + int(found[2]) - 1)
        values.append(float(found[3] or "nan"))
    first, is_seen = min(months), ~np.isnan(values)
    at = np.array(months)[is_seen] - first
    num_months = max(months) - first + 1
    totals = np.bincount(at, np.array(values)[is_seen], num_months)
    with np.errstate(invalid="ignore"):
        return totals / np.bincount(at, minlength=num_months), first


def _read(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    values, first = monthly_means(folder / _FILE)
    cut = 12 * _FIRST_TEST_YEAR - first

    def split(series: np.ndarray, first_month: int) -> dict[str, np.ndarray]:
        return {
            "values": stacked([series[:, None]], _NUM_STEPS),
            "lengths": np.array([len(series)], np.int32),
            "first_month": np.array([first_month], np.int32),
        }

    return {"train": split(values[:cut], first), "test": split(values[cut:], 12 * _FIRST_TEST_YEAR)}


SOURCE = Source.of_features(
    name="co2",
    version="1.0.0",
    features={
        "values": Feature((_NUM_STEPS, 1), np.float32),
        "lengths": Feature((), np.int32),
        "first_month": Feature((), np.int32),
    },
    sizes={"train": 1, "test": 1},
    read=_read,
    split_rules={
        "in_time": SplitRule(
            f"months before {_FIRST_TEST_YEAR}/from {_FIRST_TEST_YEAR} on", lambda split: (split, slice(None))
        )
    },
    originals=(
        Original(
            _FILE,
            33_974,
            "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f",
            (f"https://raw.githubusercontent.com/statsmodels/statsmodels/v0.14.5/{_INSIDE}",),
            packaged=(_INSIDE,),
        ),
    ),
)
