"""What a decoder knows before it is trained: the mean of the data, as its last bias (Burda et al.'s published code)."""

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

_LEAST, _MOST = 0.001, 0.999  # of a mean: a pixel that is always black has finite log-odds
_NETWORKS_OF_X = ("likelihood", "emission")  # their names where a decoder has networks of other things too


def start_at_mean(model: Model, mean: Any) -> Model:
    """Return a model whose decoder, before it is trained, says the mean of the data whatever z is, to first order.

    The bias of its last layer starts at the log-odds of the mean, so that training need not find out first which pixels
    are ever white. For likelihoods with one output, a logit, for each value of x: "bernoulli".

    Args:
      model: built by name.
      mean: of the training data, values in [0, 1] of the shape of one datapoint, or of one step of a sequence, `[D]`;
        below 0.001 and above 0.999 they count as these.

    Returns:
      The same model but for `init`. It is saved and loaded as the model that it was made of.

    Raises:
      ValueError: the mean has values outside of [0, 1], or the decoder's last layer has no bias for each of them.
      TypeError: `model` is not a `Model`.
    """
    check_model(model)
    mean = np.asarray(mean, np.float64)
    if not np.all((mean >= 0) & (mean <= 1)):
        raise ValueError("mean must have values in [0, 1], those of a Bernoulli likelihood")
    mean = np.clip(mean, _LEAST, _MOST)
    log_odds = tuple((np.log(mean) - np.log1p(-mean)).ravel().tolist())
    _head_of(jax.eval_shape(model.init, jax.random.key(0)), len(log_odds))  # to hear its error
    return dataclasses.replace(model, init=_StartAt(model.init, log_odds))


@dataclasses.dataclass(frozen=True)
class _StartAt:
    """`init` with another bias; equal for equal models and biases, as what compares models needs."""

    init: Callable[[jax.Array], Params]
    bias: tuple[float, ...]

    def __call__(self, key: jax.Array) -> Params:
        params = self.init(key)
        head = _head_of(params, len(self.bias))

        def replaced(path: Any, leaf: jax.Array) -> jax.Array:
            return jnp.asarray(self.bias, leaf.dtype) if path == head else leaf

        return jax.tree_util.tree_map_with_path(replaced, params)


def _head_of(params: Params, size: int) -> Any:
    """Return the path of the decoder's last bias, of so many values: Flax numbers the layers of a network in order."""
    layers: dict[Any, list[Any]] = defaultdict(list)
    for path, leaf in jax.tree_util.tree_leaves_with_path({"decoder": params["decoder"]}):
        if getattr(path[-1], "key", None) == "bias":
            layers[path[:-2]].append((_number(path[-2]), path, math.prod(leaf.shape)))
    heads = [max(network, key=lambda layer: layer[0]) for network in layers.values()]
    found = [path for _, path, bias_size in heads if bias_size == size]
    found = [path for path in found if any(getattr(key, "key", None) in _NETWORKS_OF_X for key in path)] or found
    if len(found) != 1:
        raise ValueError(f"the decoder has no last layer with {size} biases, one for each value of the mean")
    return found[0]


def _number(layer: Any) -> int:
    """Return the number at the end of a layer's name, `Dense_2`."""
    return int((re.findall(r"\d+$", str(getattr(layer, "key", layer))) or ["0"])[0])
