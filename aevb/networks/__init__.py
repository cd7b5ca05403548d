"""Networks that model families are assembled from, in Flax."""

from aevb.networks.flow import InverseAutoregressiveFlow
from aevb.networks.mlp import MLP, WeightInit

__all__ = ["MLP", "InverseAutoregressiveFlow", "WeightInit"]
