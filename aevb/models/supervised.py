"""Supervised models with latent variables (section 7): p(y, z | x), for noise that no simple density describes.

    p(y | x) = integral of p(y | x, z) p(z | x) dz

p(y | x, z) is a simple density, a Gaussian say, whose mean and variance depend on a z that nobody observes: the mixture
of all of them can have several modes, be skewed, and change its shape with x.
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
    """Return a model of y given x, whose datapoints are `aevb.Given(y, x)`: its bounds are on log p(y | x).

    It is `conditional_vae` under the names of regression, with a learned prior p(z | x). With N(0, I) in its place
    training often ends where z is not used, and p(y | x) is the plain likelihood.

    Args:
      data_shape: the shape of y.
      latent_dim: J, the size of z.
      condition_shape: the shape of x. Standardize x and y: the networks and their initial weights expect values near 1.
      hidden_dim: units of the one hidden layer; a sequence stacks several (the decoder mirrors the encoder).
      likelihood: one of `aevb.likelihoods`, of y.
      learned_prior: whether p(z | x) is a Gaussian whose mean and variance an MLP makes of x, and not N(0, I).
      weight_init: as for `conditional_vae`.
      compute_dtype: as for `conditional_vae`.
      param_dtype: as for `conditional_vae`.

    Returns:
      A `Model` whose params are those of `conditional_vae`. Equal arguments give the same model.

    Raises:
      ValueError: no `condition_shape`, a size that is not positive, or an unknown name.
      TypeError: a size that is not an integer.
    """
    if condition_shape is None:  # from a configuration that leaves it out
        raise ValueError("the supervised family needs condition_shape, as experiments.regression gives it")
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
