"""Uses of a trained model on batches of data: encode, reconstruct, sample, in-paint, denoise.

    found = aevb.posterior.encode(params, xs, model)             # means and scales of q(z|x)
    found = aevb.posterior.encode(params, xs, model, key=key, num_samples=10)      # and draws from it
    pictures = aevb.posterior.reconstruct(params, xs, model)
    pictures = aevb.posterior.sample(params, key, 100, model)    # z from the prior, x from p(x|z)

    seen = np.where(is_hidden, np.nan, xs)                       # NaN means not seen
    found = aevb.posterior.impute(params, key, seen, model)      # mean, draws and R-hat of unseen values
    found = aevb.posterior.impute(params, key, noisy, model, noise=aevb.posterior.flips(0.1))
    found = aevb.posterior.draw(params, key, seen, model)        # z itself, by Hamiltonian Monte Carlo
    found = aevb.posterior.log_predictive(params, key, seen, xs, model)            # log p(hidden | seen), and its error

`sample` draws from the prior; `draw` draws from the posterior of z given the observed values. The noise of a datapoint
depends only on the key and its position. `chunk_size` limits memory and changes results only by rounding.
"""

import importlib
from typing import TYPE_CHECKING, Any

from aevb.posterior.batches import NUM_SAMPLES, Encoded, OnChunk, chunked, encode, reconstruct, sample

if TYPE_CHECKING:
    from aevb.posterior.channels import Channel, flips, gaussian
    from aevb.posterior.draws import Method, PosteriorDraws, draw
    from aevb.posterior.missing import Imputed, impute
    from aevb.posterior.predictive import Predictive, log_predictive
    from aevb.posterior.seen import as_seen

__all__ = [
    "NUM_SAMPLES",
    "Channel",
    "Encoded",
    "Imputed",
    "Method",
    "OnChunk",
    "PosteriorDraws",
    "Predictive",
    "as_seen",
    "chunked",
    "draw",
    "encode",
    "flips",
    "gaussian",
    "impute",
    "log_predictive",
    "reconstruct",
    "sample",
]

# Imported lazily: these need BlackJAX, which takes a third of a second to import.
_LATE = {
    "channels": ("Channel", "flips", "gaussian"),
    "draws": ("Method", "PosteriorDraws", "draw"),
    "missing": ("Imputed", "impute"),
    "predictive": ("Predictive", "log_predictive"),
    "seen": ("as_seen",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATE.items():
        if name in names:
            return getattr(importlib.import_module(f"aevb.posterior.{module}"), name)
    raise AttributeError(f"module 'aevb.posterior' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
