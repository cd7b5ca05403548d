"""Models by name: `build("mlp", data_shape=(784,), latent_dim=20)`. A new family is a file and a line in `FAMILIES`."""

from aevb.models.conditional import conditional_vae
from aevb.models.conditional_deep_markov import conditional_deep_markov_vae
from aevb.models.convolutional import convolutional_vae
from aevb.models.deep_markov import deep_markov_vae
from aevb.models.families import FAMILIES, build, of_length, recipe_of, register
from aevb.models.hierarchical import hierarchical_vae
from aevb.models.hierarchical_convolutional import hierarchical_convolutional_vae
from aevb.models.linear_gaussian import linear_gaussian_state_space
from aevb.models.mlp import mlp_vae
from aevb.models.output_bias import start_at_mean
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
