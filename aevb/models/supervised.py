"""Supervised models with latent variables (section 7), p(y, z | x), for noise beyond simple densities.

    p(y | x) = integral of p(y | x, z) p(z | x) dz

p(y | x, z) is a simple density, such as a Gaussian, whose mean and variance depend on an unobserved z. The mixture over
z can have several modes, be skewed, and change its shape with x.
"""

from collections.abc import Sequence

from aevb.model import Model
from aevb.models.conditional import conditional_vae
from aevb.models.families import family
from aevb.networks import WeightInit


@family("supervised")
def supervised_vae(
    data_shape: Sequence[int],
    latent_dim: int,
    condition_shape: Sequence[int],
    hidden_dim: int | Sequence[int] = 50,
    likelihood: str = "gaussian",
    learned_prior: bool = True,
    weight_init: WeightInit = "glorot",
    compute_dtype: str | None = None,
    param_dtype: str = "float32",
) -> Model:
    """Return a model of y given x. Its datapoints are `aevb.Given(y, x)`; its bounds are on log p(y | x).

    The model is `conditional_vae` with the argument names of regression and a learned prior p(z | x). With the prior
    N(0, I) instead, training often ends in a solution that ignores z, and p(y | x) is the plain likelihood.

    Args:
      data_shape: the shape of y.
      latent_dim: J, the size of z.
      condition_shape: the shape of x. Standardize x and y: the networks and their initial weights expect values near 1.
      hidden_dim: the number of units of the hidden layer. A sequence gives one number per layer; the decoder mirrors
        the encoder.
      likelihood: the likelihood of y, one of `aevb.likelihoods`.
      learned_prior: whether p(z | x) is a Gaussian whose mean and variance are an MLP of x, instead of N(0, I).
      weight_init: see `conditional_vae`.
      compute_dtype: see `conditional_vae`.
      param_dtype: see `conditional_vae`.

    Returns:
      A `Model` whose params are those of `conditional_vae`. Equal arguments give the same model.

    Raises:
      ValueError: `condition_shape` is missing, a size is not positive, or a name is unknown.
      TypeError: a size is not an integer.
    """
    if condition_shape is None:  # in a configuration without it
        raise ValueError("the supervised family needs condition_shape, as set by experiments.regression")
    return conditional_vae(
        data_shape,
        latent_dim,
        condition_shape=condition_shape,
        hidden_dim=hidden_dim,
        likelihood=likelihood,
        learned_prior=learned_prior,
        weight_init=weight_init,
        compute_dtype=compute_dtype,
        param_dtype=param_dtype,
    )
