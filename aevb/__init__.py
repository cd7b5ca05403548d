"""Auto-Encoding Variational Bayes (Kingma & Welling, arXiv 1312.6114) as pure JAX functions."""

import importlib
from typing import TYPE_CHECKING, Any

# Imported first: from within deeply nested imports the same modules take a tenth of a second longer.
import jax  # noqa: F401
import numpyro.distributions  # noqa: F401
import optax  # noqa: F401

from aevb import algorithms, data, discrete, likelihoods, models, sharding
from aevb.algorithms import Algorithm, TrainState, auto_encoding, descent, init_train_state, make_loss
from aevb.classification import Classification, classify
from aevb.data.stream import Stream
from aevb.distributions import Chain, Markov, Observed
from aevb.evaluation import Bound, evaluate
from aevb.gradients import reparameterize
from aevb.model import Given, Model
from aevb.objectives import ElboTerms, Estimator, elbo, elbo_terms, fivo_bound, iwae_bound, minibatch_elbo
from aevb.training import (
    DivergedError,
    Evaluation,
    FitResult,
    fit,
    fit_population,
    make_train_epochs,
    make_train_step,
    paper_optimizer,
)

if TYPE_CHECKING:
    from aevb import compression, hidden_markov, marginal_likelihood, posterior, prediction, sequences
    from aevb.models import mlp_vae
    from aevb.saved import load, load_run, save

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Bound",
    "Chain",
    "Classification",
    "DivergedError",
    "ElboTerms",
    "Estimator",
    "Evaluation",
    "FitResult",
    "Given",
    "Markov",
    "Model",
    "Observed",
    "Stream",
    "TrainState",
    "algorithms",
    "auto_encoding",
    "classify",
    "compression",
    "data",
    "descent",
    "discrete",
    "elbo",
    "elbo_terms",
    "evaluate",
    "fit",
    "fit_population",
    "fivo_bound",
    "hidden_markov",
    "init_train_state",
    "iwae_bound",
    "likelihoods",
    "load",
    "load_run",
    "make_loss",
    "make_train_epochs",
    "make_train_step",
    "marginal_likelihood",
    "minibatch_elbo",
    "mlp_vae",
    "models",
    "paper_optimizer",
    "posterior",
    "prediction",
    "reparameterize",
    "save",
    "sequences",
    "sharding",
]

# Imported lazily: importing Orbax takes a second and Flax a third of one, and few users need both.
_LATE = {
    "load": "aevb.saved",
    "load_run": "aevb.saved",
    "save": "aevb.saved",
    "mlp_vae": "aevb.models.mlp",
    "compression": "aevb.compression",
    "hidden_markov": "aevb.hidden_markov",
    "marginal_likelihood": "aevb.marginal_likelihood",
    "posterior": "aevb.posterior",
    "prediction": "aevb.prediction",
    "sequences": "aevb.sequences",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'aevb' has no attribute {name!r}")
    module = importlib.import_module(_LATE[name])
    return module if _LATE[name].endswith(name) else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
