"""Models by name, for example `build("mlp", data_shape=(784,), latent_dim=20)`.

A family in this package is a file and a line in `FAMILIES`. Other code adds one with `register`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from aevb.models.families import FAMILIES, build, of_length, recipe_of, register
from aevb.models.output_bias import start_at_mean

if TYPE_CHECKING:
    from aevb.models.conditional import conditional_vae
    from aevb.models.conditional_deep_markov import conditional_deep_markov_vae
    from aevb.models.convolutional import convolutional_vae
    from aevb.models.deep_markov import deep_markov_vae
    from aevb.models.hierarchical import hierarchical_vae
    from aevb.models.hierarchical_convolutional import hierarchical_convolutional_vae
    from aevb.models.linear_gaussian import linear_gaussian_state_space
    from aevb.models.mlp import mlp_vae
    from aevb.models.semi_supervised import semi_supervised_vae
    from aevb.models.supervised import supervised_vae

__all__ = [
    "FAMILIES",
    "build",
    "conditional_deep_markov_vae",
    "conditional_vae",
    "convolutional_vae",
    "deep_markov_vae",
    "hierarchical_convolutional_vae",
    "hierarchical_vae",
    "linear_gaussian_state_space",
    "mlp_vae",
    "of_length",
    "recipe_of",
    "register",
    "semi_supervised_vae",
    "start_at_mean",
    "supervised_vae",
]

# Imported on first use: their networks need Flax, which takes a third of JAX's import time, and the objectives do not
# need networks.
_LATE = {
    "conditional_deep_markov_vae": "conditional_deep_markov",
    "conditional_vae": "conditional",
    "convolutional_vae": "convolutional",
    "deep_markov_vae": "deep_markov",
    "hierarchical_convolutional_vae": "hierarchical_convolutional",
    "hierarchical_vae": "hierarchical",
    "linear_gaussian_state_space": "linear_gaussian",
    "mlp_vae": "mlp",
    "semi_supervised_vae": "semi_supervised",
    "supervised_vae": "supervised",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'aevb.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aevb.models.{_LATE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
