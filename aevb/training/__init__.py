"""Training: compiled epochs, populations, data streams, and recovery from non-finite numbers."""

from aevb.training.divergence import DivergedError
from aevb.training.epochs import make_train_epochs, make_train_step
from aevb.training.fit import FitResult, fit
from aevb.training.history import Evaluation
from aevb.training.optimizers import paper_optimizer
from aevb.training.population import fit_population

__all__ = [
    "DivergedError",
    "Evaluation",
    "FitResult",
    "fit",
    "fit_population",
    "make_train_epochs",
    "make_train_step",
    "paper_optimizer",
]
