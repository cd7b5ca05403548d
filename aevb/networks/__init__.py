"""The Flax networks that model families are built from."""

from aevb.networks.convolution import ConvolutionalDecoder, ConvolutionalEncoder, Weights
from aevb.networks.flow import InverseAutoregressiveFlow
from aevb.networks.joined import Activation, JoinedMLP
from aevb.networks.mlp import MLP, WeightInit
from aevb.networks.recurrent import Combiner, Emission, GatedRecurrentUnit, GatedTransition

__all__ = [
    "MLP",
    "Activation",
    "Combiner",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Emission",
    "GatedRecurrentUnit",
    "GatedTransition",
    "InverseAutoregressiveFlow",
    "JoinedMLP",
    "WeightInit",
    "Weights",
]
