"""The noise that models of a table have learned, and how well it is calibrated, as figures."""

from collections.abc import Mapping

import jax
import numpy as np

from aevb import Model, figures, prediction
from aevb.model import Params
from experiments.studies.regression_tables import Split, Table

_GRID = (120, 160)  # of x and y
_NUM_LATENTS = 10_000  # draws of z of a density on the grid
_NUM_DRAWS = 100_000  # of y of a histogram
_QUANTILES = (0.1, 0.5, 0.9)
_LEVELS = np.arange(0.05, 1, 0.05)

Fits = Mapping[str, tuple[Model, Params]]


def noise(table: Table, split: Split, fits: Fits, seed: int) -> figures.Drawing:
    """Return maps of p(y | x) where x and y are numbers, and slices of it at three test rows elsewhere."""
    key = jax.random.key(seed)
    if split.x.shape[1] == split.y.shape[1] == 1:
        return _maps(table, split, fits, key)
    return _slices(table, split, fits, key)


def calibration(table: Table, transforms: Mapping[str, np.ndarray]) -> figures.Drawing:
    """Return the coverage of central intervals at every level.

    Args:
      table: whose rows they are.
      transforms: by model, where the test values of all splits are among the draws.
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
    """At the test rows whose predicted mean, by the first model, is low, in the middle and high; y's first column."""
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
