"""The closing figures of a run."""

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from aevb.algorithms import TrainState
from aevb.distributions.intensities import NUM_INTENSITIES
from aevb.likelihoods import LIKELIHOODS, bits_per_dimension
from aevb.training import Evaluation
from aevb.training.history import best_row
from experiments import configs
from experiments.configs import Config
from experiments.reports.per_step import mean_lengths, per_step
from experiments.reports.provenance import provenance
from experiments.runs.program import num_steps
from experiments.runs.splits import Splits


def summarize(
    config: Config,
    splits: Splits,
    history: Sequence[Evaluation],
    state: TrainState,
    errors: Mapping[str, Any] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """Return the contents of summary.json, from a run's evaluations, its last state and that state's `errors`."""
    row, best = history[-1], best_row(history)
    total = num_steps(config, len(splits.train.images)) * config.optimizer.batch_size
    summary = {
        **configs.flat(config),
        **({} if config.own_data.path is None else {"num_skipped": splits.train.num_skipped}),
        "split_rule": splits.train.split_rule,
        "num_train_images": config.data.num_train_images or None,
        "num_epochs": row.epoch,
        "num_train_samples": row.num_train_samples,
        "train_elbo": row.train_elbo,
        **({} if best is None else _validation(row, best, total)),
        "test_elbo": row.test_elbo,
        "test_reconstruction": row.test_reconstruction,
        "test_kl": row.test_kl,
        **({} if math.isnan(row.train_iwae) else {"train_iwae": row.train_iwae, "test_iwae": row.test_iwae}),
        **({} if math.isnan(row.train_fivo) else {"train_fivo": row.train_fivo, "test_fivo": row.test_fivo}),
        **_per_step(row, best, splits),
        **_bits(config, splits, row.test_elbo),
        **errors,
        "active_units": row.active_units,
        **_by_level(row),
        "train_seconds": row.seconds,
        "images_per_second": row.num_train_samples / row.seconds if row.seconds else None,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        **provenance(),
    }
    return {name: _in_json(value) for name, value in summary.items()}


def _in_json(value: Any) -> Any:
    """Return a value with `None` for NaN and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {name: _in_json(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _per_step(row: Evaluation, best: Evaluation | None, splits: Splits) -> dict[str, float]:
    """Return the bounds of sequences per step, including those of the best evaluation."""
    lengths = mean_lengths(splits)
    if best is None or not lengths:
        return per_step(row, lengths)
    best_bounds = {
        "best_valid_bound_per_step": best.valid_bound / lengths["valid"],
        "best_test_elbo_per_step": best.test_elbo / lengths["test"],
    }
    return per_step(row, lengths) | best_bounds


def _by_level(row: Evaluation) -> dict[str, Any]:
    """Return the KL divergence and the active units per level, if there are several levels."""
    if len(row.test_kl_by_level) < 2:
        return {}
    return {"test_kl_by_level": row.test_kl_by_level, "active_units_by_level": row.active_units_by_level}


def _bits(config: Config, splits: Splits, test_elbo: float) -> dict[str, float]:
    """Return the bits per dimension of the test bound, if the likelihood is a probability mass over byte values."""
    likelihood = configs.flat(config).get("likelihood")
    if likelihood is None or LIKELIHOODS.get(likelihood).is_mass_of != NUM_INTENSITIES:
        return {}
    return {"test_bits_per_dimension": bits_per_dimension(test_elbo, math.prod(splits.test.image_shape))}


def _validation(last: Evaluation, best: Evaluation, total: int) -> dict[str, Any]:
    """Return the results of validation: the best state, and whether training stopped early."""
    return {
        "valid_elbo": last.valid_elbo,
        "best_epoch": best.epoch,
        "best_valid_bound": best.valid_bound,
        "best_test_elbo": best.test_elbo,
        "stopped_early": last.num_train_samples < total,
    }
