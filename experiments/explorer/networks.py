"""Describe the networks of a model as lists of layers that the page can compute.

A network is a list of layers, `{"kind": ..., ...}`, which `web/layers.mjs` computes. A model without levels is
described as one with the single level "z".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from aevb.checkpoints import RunError
from aevb.model import Params
from aevb.networks.convolution import STRIDE

Layers = list[dict[str, Any]]
Encode = Callable[[Any], dict[str, Any]]
"""Encodes an array of weights as text."""

LIKELIHOODS = {
    "bernoulli": 1,
    "gaussian": 2,
    "squashed_gaussian": 2,
    "gaussian_fixed_scale": 1,
    "discretized_logistic": 2,
    "spiked_logistic": 4,
    "beta_binomial": 2,
    "categorical": 256,
}
"""Likelihoods whose moments the page computes (`web/likelihoods.mjs`), and their numbers of outputs per value of x."""

FAMILIES = ("mlp", "convolutional", "conditional", "hierarchical", "hierarchical_convolutional")


def check_family(family: str, arguments: Mapping[str, Any]) -> None:
    """Raise `RunError` unless the page can show the model."""
    if family not in FAMILIES:
        raise RunError(f"a model of the family {family!r} cannot be explored; supported are {', '.join(FAMILIES)}")
    if arguments.get("posterior") == "flow":
        raise RunError('a model with posterior="flow" cannot be explored: the mean of its posterior has no closed form')
    if _likelihood(arguments) not in LIKELIHOODS:
        known = ", ".join(LIKELIHOODS)
        given = _likelihood(arguments)
        raise RunError(f"a model with likelihood={given!r} cannot be explored; supported are {known}")
    if family == "conditional" and arguments.get("num_classes") is None:
        raise RunError("a conditional model can only be explored if its condition is a label, not an array")


def describe(
    family: str, arguments: Mapping[str, Any], params: Params, image: tuple[int, int, int], encode: Encode
) -> dict[str, Any]:
    """Describe the model for the page.

    Args:
      family: One of `FAMILIES`.
      arguments: The arguments of the model, which must pass `check_family`.
      params: The parameters of the model.
      image: The shape `(H, W, C)` of a datapoint, which an MLP sees flattened.
      encode: Encodes an array of weights as text.
    """
    likelihood = _likelihood(arguments)
    phi, theta = params["encoder"], params["decoder"]
    if family.startswith("hierarchical"):
        names = [f"z{number}" for number in range(1, len(arguments["latent_dim"]) + 1)]
        sizes, features, decoder = list(arguments["latent_dim"]), [], theta["likelihood"]
        for name in names:
            is_image = family == "hierarchical_convolutional" and name == names[0]
            below = phi[name]["features"]
            layers = _convolutional_encoder(below, image, encode) if is_image else _mlp(below, encode)
            features.append([*layers, {"kind": "tanh"}])
        posteriors = [_mlp(phi[name]["posterior"], encode) for name in names]
        priors = [_mlp(theta[name], encode) for name in names[:-1]]
    else:
        names, sizes, features, priors = ["z"], [arguments["latent_dim"]], [[]], []
        posteriors = [_convolutional_encoder(phi, image, encode) if family == "convolutional" else _mlp(phi, encode)]
        decoder = theta["likelihood"] if family == "conditional" else theta
        if "prior" in theta and family == "conditional":
            priors = [_mlp(theta["prior"], encode)]
    is_convolutional = "convolutional" in family
    num_outputs = LIKELIHOODS[likelihood]
    outputs = _convolutional_decoder(decoder, image, num_outputs, encode) if is_convolutional else _mlp(decoder, encode)
    return {
        "family": family,
        "levels": [{"name": name, "size": size} for name, size in zip(names, sizes, strict=True)],
        "numClasses": arguments["num_classes"] if family == "conditional" else 0,
        "inference": arguments.get("inference", "bottom_up"),
        "posterior": arguments.get("posterior", "gaussian"),
        "features": features,
        "posteriors": posteriors,
        "priors": priors,
        "decoder": outputs,
        "likelihood": likelihood,
        "image": dict(zip(("height", "width", "channels"), image, strict=True)),
    }


def _likelihood(arguments: Mapping[str, Any]) -> str:
    return "squashed_gaussian" if arguments.get("squash_mean") else arguments["likelihood"]


def image_shape(data_shape: Any) -> tuple[int, int, int]:
    """Return the shape `(H, W, C)` of images `[H, W]` or `[H, W, C]`."""
    height, width, channels = (*data_shape, 1)[:3]
    return height, width, channels


def _mlp(params: Params, encode: Encode) -> Layers:
    layers: Layers = []
    for name in _in_order(params, "Dense"):
        layers += [{"kind": "tanh"}] * bool(layers) + [_dense(params[name], encode)]
    return layers


def _convolutional_encoder(params: Params, image: tuple[int, int, int], encode: Encode) -> Layers:
    height, width, _ = image
    layers: Layers = []
    for name in _in_order(params, "Convolution"):
        layers += [{"kind": "relu"}] * bool(layers)
        layers.append(_convolution(params[name], height, width, STRIDE, encode))
        height, width = -(-height // STRIDE), -(-width // STRIDE)
    layers += _residual_blocks(params, height, width, encode)
    for name in _in_order(params, "Dense"):
        layers += [{"kind": "relu"}, _dense(params[name], encode)]
    return layers


def _convolutional_decoder(params: Params, image: tuple[int, int, int], num_outputs: int, encode: Encode) -> Layers:
    convolutions = _in_order(params, "Convolution")
    scale = STRIDE ** len(convolutions)
    height, width = -(-image[0] // scale), -(-image[1] // scale)
    layers: Layers = []
    for name in _in_order(params, "Dense"):
        layers += [{"kind": "relu"}] * bool(layers) + [_dense(params[name], encode)]
    layers += _residual_blocks(params, height, width, encode)
    for name in convolutions:
        size = {"height": height, "width": width}
        layers += [{"kind": "relu"}, {"kind": "transposed", "stride": STRIDE, **size, **_weights(params[name], encode)}]
        height, width = STRIDE * height, STRIDE * width
    of_image = {"kind": "image", "width": width, "num_outputs": num_outputs}
    return [*layers, {**of_image, "shape": list(image)}]


def _residual_blocks(params: Params, height: int, width: int, encode: Encode) -> Layers:
    blocks: Layers = []
    for name in _in_order(params, "ResidualBlock"):
        inner = _convolution(params[name]["Convolution_0"], height, width, 1, encode)
        outer = {"kind": "pointwise", **_weights(params[name]["Dense_0"], encode)}
        blocks.append({"kind": "residual", "layers": [{"kind": "relu"}, inner, {"kind": "relu"}, outer]})
    return blocks


def _convolution(params: Params, height: int, width: int, stride: int, encode: Encode) -> dict[str, Any]:
    return {"kind": "convolution", "stride": stride, "height": height, "width": width, **_weights(params, encode)}


def _dense(params: Params, encode: Encode) -> dict[str, Any]:
    return {"kind": "dense", **_weights(params, encode)}


def _weights(params: Params, encode: Encode) -> dict[str, Any]:
    return {"kernel": encode(params["kernel"]), "bias": encode(params["bias"])}


def _in_order(params: Params, kind: str) -> list[str]:
    """Return the names of the layers of a kind in Flax's order, `Dense_0`, `Dense_1`, ..."""
    names = [name for name in params if re.fullmatch(rf"{kind}_\d+", name)]
    return sorted(names, key=lambda name: int(name.rpartition("_")[2]))
