"""Auto-Encoding Variational Bayes (Kingma & Welling, arXiv 1312.6114) as pure JAX functions."""

import importlib
from typing import TYPE_CHECKING, Any

from aevb import datasets, sharding
from aevb.divergence import DivergedError
from aevb.evaluation import Bound, evaluate
from aevb.model import Model
from aevb.networks import mlp_vae
from aevb.objectives import ElboTerms, elbo, elbo_terms, iwae_bound, minibatch_elbo, reparameterize
from aevb.streaming import Stream
from aevb.training import (
    Algorithm,
    Evaluation,
    FitResult,
    TrainState,
    auto_encoding,
    descent,
    fit,
    init_train_state,
    make_loss,
    make_train_epochs,
    make_train_step,
    paper_optimizer,
)

if TYPE_CHECKING:
    from aevb import marginal_likelihood
    from aevb.checkpoints import load_run

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Bound",
    "DivergedError",
    "ElboTerms",
    "Evaluation",
    "FitResult",
    "Model",
    "Stream",
    "TrainState",
    "auto_encoding",
    "datasets",
    "descent",
    "elbo",
    "elbo_terms",
    "evaluate",
    "fit",
    "init_train_state",
    "iwae_bound",
    "load_run",
    "make_loss",
    "make_train_epochs",
    "make_train_step",
    "marginal_likelihood",
    "minibatch_elbo",
    "mlp_vae",
    "paper_optimizer",
    "reparameterize",
    "sharding",
]


def __getattr__(name: str) -> Any:
    # Late, because Orbax takes a second to import and only this one function needs it; BlackJAX is the same.
    if name == "load_run":
        from aevb.checkpoints import load_run

        return load_run
    if name == "marginal_likelihood":
        return importlib.import_module("aevb.marginal_likelihood")
    raise AttributeError(f"module 'aevb' has no attribute {name!r}")
