"""Initialization of a decoder's last bias to the mean of the data, as in Burda et al.'s published code."""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aevb.model import Model, Params, check_model

_LEAST, _MOST = 0.001, 0.999  # bounds for a mean, so that a pixel that is always black has finite log-odds
_NETWORKS_OF_X = ("likelihood", "emission")  # the names of networks for x in decoders with several networks


def start_at_mean(model: Model, mean: Any) -> Model:
    """Return a model whose untrained decoder returns the mean of the data for any z, to first order.

    The bias of its last layer is initialized to the log-odds of the mean, so that training need not learn first which
    pixels are ever white. The likelihood must have one output per value of x, a logit, as "bernoulli" does.

    Args:
      model: a model built by name.
      mean: the mean of the training data, with values in [0, 1] and the shape of one datapoint, or of one step of a
        sequence, `[D]`. Values are clipped to 0.001 and 0.999.

    Returns:
      The same model with another `init`. It is saved and loaded like the original model.

    Raises:
      ValueError: the mean has values outside [0, 1], or the decoder's last layer does not have one bias per value.
      TypeError: `model` is not a `Model`.
    """
    check_model(model)
    mean = np.asarray(mean, np.float64)
    if not np.all((mean >= 0) & (mean <= 1)):
        raise ValueError("mean must have values in [0, 1], as for a Bernoulli likelihood")
    mean = np.clip(mean, _LEAST, _MOST)
    log_odds = tuple((np.log(mean) - np.log1p(-mean)).ravel().tolist())
    _head_of(jax.eval_shape(model.init, jax.random.key(0)), len(log_odds))  # for its error
    return dataclasses.replace(model, init=_StartAt(model.init, log_odds))


@dataclasses.dataclass(frozen=True)
class _StartAt:
    """An `init` with another bias. It is equal for equal models and biases, so that models can be compared."""

    init: Callable[[jax.Array], Params]
    bias: tuple[float, ...]

    def __call__(self, key: jax.Array) -> Params:
        params = self.init(key)
        head = _head_of(params, len(self.bias))

        def replaced(path: Any, leaf: jax.Array) -> jax.Array:
            return jnp.asarray(self.bias, leaf.dtype) if path == head else leaf

        return jax.tree_util.tree_map_with_path(replaced, params)


def _head_of(params: Params, size: int) -> Any:
    """Return the path of the decoder's last bias, of this size. Flax numbers the layers of a network in order."""
    layers: dict[Any, list[Any]] = defaultdict(list)
    for path, leaf in jax.tree_util.tree_leaves_with_path({"decoder": params["decoder"]}):
        if getattr(path[-1], "key", None) == "bias":
            layers[path[:-2]].append((_number(path[-2]), path, math.prod(leaf.shape)))
    heads = [max(network, key=lambda layer: layer[0]) for network in layers.values()]
    found = [path for _, path, bias_size in heads if bias_size == size]
    found = [path for path in found if any(getattr(key, "key", None) in _NETWORKS_OF_X for key in path)] or found
    if len(found) != 1:
        raise ValueError(f"the decoder has no last layer with {size} biases, one per value of the mean")
    return found[0]


def _number(layer: Any) -> int:
    """Return the number at the end of a layer's name, `Dense_2`."""
    return int((re.findall(r"\d+$", str(getattr(layer, "key", layer))) or ["0"])[0])
