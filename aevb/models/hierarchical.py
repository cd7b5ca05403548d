"""Models with levels of latents and tanh MLPs: those of Burda et al. (2016), and ladders (Sonderby et al. 2016)."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import get_args

import jax

from aevb.arguments import check_choice, check_counts, check_shape, float_dtype
from aevb.likelihoods import LIKELIHOODS, Likelihood
from aevb.model import Model
from aevb.models.families import family
from aevb.models.levels import Inference, Networks, model_of_levels, sizes_of_levels
from aevb.networks import MLP, WeightInit


@dataclasses.dataclass(frozen=True)
class _Specification:
    """The checked and normalized arguments of `hierarchical_vae`."""

    data_shape: tuple[int, ...]
    latent_dims: tuple[int, ...]
    hidden_dims: tuple[int, ...]
    num_hidden_layers: int
    inference: Inference
    likelihood: Likelihood
    weight_init: WeightInit
    compute_dtype: str | None
    param_dtype: str


@family("hierarchical")
def hierarchical_vae(
    data_shape: Sequence[int],
    latent_dim: Sequence[int] = (100, 50),
    hidden_dim: int | Sequence[int] = 200,
    num_hidden_layers: int = 2,
    inference: Inference = "bottom_up",
    likelihood: str = "bernoulli",
    weight_init: WeightInit = "glorot",
    compute_dtype: str | None = None,
    param_dtype: str = "float32",
) -> Model:
    """Return a variational auto-encoder with levels of latents z1, ..., zL. Draws of z are dicts by level.

    The model with two levels in Burda et al. (2016) is `latent_dim=[100, 50]`, `hidden_dim=[200, 100]`.

    Args:
      data_shape: the shape of one datapoint, which is flattened for the networks.
      latent_dim: the sizes of two or more levels, the lowest first.
      hidden_dim: the number of units of every hidden layer. A sequence gives one number per level, the lowest first,
        for the networks between the level and the one below it.
      num_hidden_layers: the number of hidden tanh layers of each network.
      inference: how q draws the levels. "bottom_up" draws each level given the one below (Burda et al. 2016). "ladder"
        draws from the top down, each level from the product of a Gaussian determined by x and the generative p given
        the level above, with shared weights (Sonderby et al. 2016).
      likelihood: one of `aevb.likelihoods`.
      weight_init: "glorot" draws weights by fan-in and fan-out, with biases 0; "normal_0.01" and "normal_0.1" draw
        both with that standard deviation.
      compute_dtype: the dtype of the matrix products, such as "bfloat16"; parameters and densities keep `param_dtype`.
      param_dtype: the dtype of the parameters; "float64" needs `jax_enable_x64`.

    Returns:
      A `Model` whose params are `{"encoder": {"z1": ..., ...}, "decoder": {"likelihood": ..., "z1": ..., ...}}`. Equal
      arguments give the same model.

    Raises:
      ValueError: there are fewer than two levels, a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    check_shape("data_shape", data_shape)
    latent_dims, hidden_dims = sizes_of_levels(latent_dim, hidden_dim)
    check_counts(1, num_hidden_layers=num_hidden_layers)
    check_choice("inference", inference, get_args(Inference))
    check_choice("weight_init", weight_init, get_args(WeightInit))
    return _build(
        _Specification(
            tuple(data_shape),
            latent_dims,
            hidden_dims,
            num_hidden_layers,
            inference,
            LIKELIHOODS.get(likelihood),
            weight_init,
            None if compute_dtype is None else float_dtype("compute_dtype", compute_dtype),
            float_dtype("param_dtype", param_dtype),
        )
    )


@functools.cache
def _build(spec: _Specification) -> Model:
    mlp = functools.partial(
        MLP, weight_init=spec.weight_init, compute_dtype=spec.compute_dtype, param_dtype=spec.param_dtype
    )
    data_dim, num_layers, num_outputs = math.prod(spec.data_shape), spec.num_hidden_layers, spec.likelihood.num_outputs

    def arranged(outputs: jax.Array) -> jax.Array:
        return outputs.reshape((num_outputs, *spec.data_shape))

    networks = Networks(
        features=tuple(mlp((width,) * (num_layers - 1), width) for width in spec.hidden_dims),
        posteriors=tuple(mlp((), 2 * size) for size in spec.latent_dims),
        priors=tuple(
            mlp((width,) * num_layers, 2 * size)
            for width, size in zip(spec.hidden_dims[1:], spec.latent_dims, strict=False)
        ),
        likelihood=mlp((spec.hidden_dims[0],) * num_layers, data_dim * num_outputs),
        x_shape=(data_dim,),
        arranged=arranged,
    )
    return model_of_levels(
        networks, spec.latent_dims, spec.inference, spec.likelihood, len(spec.data_shape), spec.param_dtype
    )
