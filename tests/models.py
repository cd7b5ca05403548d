"""One list of models, which the tests of everything that takes a model go through."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from aevb import Model, mlp_vae
from tests.oracles import LinearGaussian


def linear_gaussian_model(exact: LinearGaussian, full_covariance: bool = True) -> Model:
    """The linear-Gaussian model; its encoder is linear and, with full covariance, holds the exact posterior."""
    data_dim, latent_dim = exact.weights.shape

    def init(key: jax.Array):
        del key
        gain = jnp.stack([jnp.asarray(exact.posterior(exact.bias + e)[0]) for e in jnp.eye(data_dim)], axis=1)
        _, covariance = exact.posterior(exact.bias)
        factor = jnp.linalg.cholesky(jnp.asarray(covariance))
        return {
            "encoder": {
                "gain": gain,
                "offset": -gain @ jnp.asarray(exact.bias),
                "factor": factor if full_covariance else jnp.diag(factor),
            },
            "decoder": {"weights": jnp.asarray(exact.weights), "bias": jnp.asarray(exact.bias)},
        }

    def encode(params, x):
        mean = params["encoder"]["gain"] @ x + params["encoder"]["offset"]
        factor = params["encoder"]["factor"]
        if full_covariance:
            return dist.MultivariateNormal(mean, scale_tril=factor)
        return dist.Normal(mean, factor).to_event(1)

    def decode(params, z):
        mean = params["decoder"]["weights"] @ z + params["decoder"]["bias"]
        return dist.Normal(mean, exact.noise_variance**0.5).to_event(1)

    def prior(params):
        if full_covariance:
            return dist.MultivariateNormal(jnp.zeros(latent_dim), scale_tril=jnp.eye(latent_dim))
        return dist.Normal(jnp.zeros(latent_dim), jnp.ones(latent_dim)).to_event(1)

    return Model(init, encode, decode, prior)


DATA_DIM = 12

MODELS = {
    "bernoulli": (mlp_vae((DATA_DIM,), 3, 8), "analytic"),
    "two hidden layers": (mlp_vae((DATA_DIM,), 3, (8, 6)), "analytic"),
    "gaussian": (mlp_vae((DATA_DIM,), 3, 8, likelihood="gaussian"), "analytic"),
    "squashed gaussian": (mlp_vae((DATA_DIM,), 3, 8, likelihood="gaussian", squash_mean=True), "analytic"),
    "image": (mlp_vae((3, 2, 2), 3, 8), "analytic"),
    "full covariance": (mlp_vae((DATA_DIM,), 3, 8, posterior="full_covariance"), "sampled"),
    "flow": (mlp_vae((DATA_DIM,), 3, 8, posterior="flow"), "sampled"),
    "linear gaussian": (linear_gaussian_model(LinearGaussian.random(DATA_DIM, 3, 0)), "analytic"),
    "bfloat16": (mlp_vae((DATA_DIM,), 3, 8, compute_dtype="bfloat16"), "analytic"),
}
