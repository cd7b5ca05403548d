"""Figures of the noise that regression models have learned, and of its calibration."""

from collections.abc import Mapping

import jax
import numpy as np

from aevb import Model, figures, prediction
from aevb.model import Params
from experiments.studies.regression_tables import Split, Table

_GRID = (120, 160)  # points along x and y
_NUM_LATENTS = 10_000  # draws of z per density on the grid
_NUM_DRAWS = 100_000  # draws of y per histogram
_QUANTILES = (0.1, 0.5, 0.9)
_LEVELS = np.arange(0.05, 1, 0.05)

Fits = Mapping[str, tuple[Model, Params]]


def noise(table: Table, split: Split, fits: Fits, seed: int) -> figures.Drawing:
    """Draw maps of p(y | x) if x and y are scalars, else slices at three test rows."""
    key = jax.random.key(seed)
    if split.x.shape[1] == split.y.shape[1] == 1:
        return _maps(table, split, fits, key)
    return _slices(table, split, fits, key)


def calibration(table: Table, transforms: Mapping[str, np.ndarray]) -> figures.Drawing:
    """Draw the coverage of central intervals at every level.

    Args:
      table: The table of the test rows.
      transforms: By model, the probability integral transform of the test values of all splits.
    """
    shares = {model: prediction.coverage(transform, list(_LEVELS)) for model, transform in transforms.items()}
    num_values = next(iter(transforms.values())).size
    num_distinct = min(num_values, table.y.size)  # a row may be tested in several splits
    title = f"{table.name}: calibration on {num_values:,} test values"
    return figures.calibration(_LEVELS, shares, num_distinct, title)


def _maps(table: Table, split: Split, fits: Fits, key: jax.Array) -> figures.Drawing:
    x, y = (
        np.linspace(values.min(), values.max(), size) for values, size in zip((split.x, split.y), _GRID, strict=True)
    )
    densities = {}
    if "truth" in table.known:
        densities["truth"] = np.exp(table.known["truth"](y[None, :], x[:, None]))
    conditions, values = split.x_scaling.forward(x[:, None]), split.y_scaling.forward(y[:, None])
    for name, (model, params) in fits.items():
        found = prediction.log_density(params, key, conditions, values, model, _NUM_LATENTS)
        densities[name] = np.exp(found - split.log_unit)
    return figures.density_maps(densities, x, y, (split.x[:, 0], split.y[:, 0]), f"{table.name}: learned noise")


def _slices(table: Table, split: Split, fits: Fits, key: jax.Array) -> figures.Drawing:
    """Draw p(y | x) of the first column of y, at test rows with a low, a median and a high mean of the first model."""
    model, params = next(iter(fits.values()))
    means = prediction.predict(params, key, split.test.condition, model, 1000).mean(1)[:, 0]
    order = np.argsort(means)
    chosen = order[[int(quantile * (len(order) - 1)) for quantile in _QUANTILES]]
    conditions = split.test.condition[chosen]
    draws = {}
    for name, (model, params) in fits.items():
        drawn = prediction.predict(params, key, conditions, model, _NUM_DRAWS)
        draws[name] = split.y_scaling.back(drawn)[..., 0]
    names = [f"test row at {quantile:.0%} by its mean" for quantile in _QUANTILES]
    return figures.density_slices(draws, split.y[chosen, 0], names, "y", f"{table.name}: learned noise")
