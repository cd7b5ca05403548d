"""The list of models that the tests of all model functions share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from aevb import Chain, Estimator, Given, Markov, Model, Observed, mlp_vae
from aevb.distributions import zeros_and_mask
from aevb.likelihoods import GreyBernoulli
from aevb.models import (
    conditional_deep_markov_vae,
    conditional_vae,
    convolutional_vae,
    deep_markov_vae,
    hierarchical_convolutional_vae,
    hierarchical_vae,
    linear_gaussian_state_space,
    semi_supervised_vae,
    supervised_vae,
)
from tests.oracles import LinearGaussian


def linear_gaussian_model(exact: LinearGaussian, full_covariance: bool = True) -> Model:
    """The linear-Gaussian model. Its encoder is linear and, with full covariance, contains the exact posterior."""
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


# Models of every kind, for tests/test_every_model.py


class Case(NamedTuple):
    """One kind of model, and data for it.

    Attributes:
      model: The model.
      data: Leaves `[24, ...]`.
      estimator: An estimator that its posterior allows.
      discrete: The levels of z without pathwise gradients.
      is_exact: Whether q is the exact posterior, computed from theta: there is no phi, and every bound is log p(x).
    """

    model: Model
    data: Any
    estimator: Estimator = Estimator()
    discrete: tuple[str, ...] = ()
    is_exact: bool = False


SIZE, WIDTH = 24, 5  # datapoints, and values per datapoint
_SAMPLED = Estimator(kl="sampled")


def _normal(outputs: jax.Array) -> dist.Distribution:
    mean, log_variance = jnp.split(outputs, 2, axis=-1)
    return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)


def _standard(size: int) -> dist.Distribution:
    return dist.Normal(jnp.zeros(size), jnp.ones(size)).to_event(1)


def _weights(key: jax.Array, **shapes: tuple[int, int]) -> dict[str, jax.Array]:
    keys = jax.random.split(key, len(shapes))
    return {name: 0.3 * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


def _parameters(encoder: dict[str, tuple[int, int]], decoder: dict[str, tuple[int, int]]) -> Callable[[jax.Array], Any]:
    def init(key: jax.Array) -> Any:
        phi, theta = jax.random.split(key)
        return {"encoder": _weights(phi, **encoder), "decoder": _weights(theta, **decoder)}

    return init


def _two_levels(top_down: bool) -> Model:
    """q from the data up (Burda et al. 2016), or as a ladder from the top down (Sonderby et al. 2016)."""

    def encode(params: Any, x: jax.Array) -> Chain:
        w = params["encoder"]
        if top_down:
            lower = jax.tree_util.Partial(lambda w, x, z: _normal(x @ w["x1"] + z["z2"] @ w["z21"]), w, x)
            return Chain(z2=_normal(x @ w["x2"]), z1=lower)
        upper = jax.tree_util.Partial(lambda w, z: _normal(z["z1"] @ w["z12"]), w)
        return Chain(z1=_normal(x @ w["x1"]), z2=upper)

    def decode(params: Any, z: dict) -> dist.Distribution:
        return dist.Normal(z["z1"] @ params["decoder"]["x"], 1.0).to_event(1)

    def prior(params: Any) -> Chain:
        lower = jax.tree_util.Partial(lambda w, z: _normal(z["z2"] @ w), params["decoder"]["z1"])
        return Chain(z2=_standard(2), z1=lower)

    upwards = {"x1": (WIDTH, 6), "z12": (3, 4)}
    downwards = {"x1": (WIDTH, 6), "x2": (WIDTH, 4), "z21": (2, 6)}
    decoder = {"x": (3, WIDTH), "z1": (2, 6)}
    return Model(_parameters(downwards if top_down else upwards, decoder), encode, decode, prior)


def _three_levels() -> Model:
    def encode(params: Any, x: jax.Array) -> Chain:
        w = params["encoder"]
        return Chain(
            a=_normal(x @ w["a"]),
            b=lambda z: _normal(jnp.concatenate([x, z["a"]]) @ w["b"]),
            c=lambda z: _normal(jnp.concatenate([z["a"], z["b"]]) @ w["c"]),
        )

    def decode(params: Any, z: dict) -> dist.Distribution:
        return dist.Normal(z["c"] @ params["decoder"]["x"], 1.0).to_event(1)

    def prior(params: Any) -> Chain:
        w = params["decoder"]
        return Chain(a=_standard(1), b=lambda z: _normal(z["a"] @ w["b"]), c=lambda z: _normal(z["b"] @ w["c"]))

    encoder = {"a": (WIDTH, 2), "b": (WIDTH + 1, 4), "c": (3, 4)}
    return Model(_parameters(encoder, {"b": (1, 4), "c": (2, 4), "x": (2, WIDTH)}), encode, decode, prior)


def _given_a_label(learned_prior: bool) -> Model:
    one_hot = lambda label: jax.nn.one_hot(label, 3)

    def encode(params: Any, x: jax.Array, label: jax.Array) -> dist.Distribution:
        return _normal(jnp.concatenate([x, one_hot(label)]) @ params["encoder"]["z"])

    def decode(params: Any, z: jax.Array, label: jax.Array) -> dist.Distribution:
        logits = jnp.concatenate([z, one_hot(label)]) @ params["decoder"]["x"]
        return GreyBernoulli(logits).to_event(1)

    def prior(params: Any, label: jax.Array) -> dist.Distribution:
        return _normal(one_hot(label) @ params["decoder"]["z"]) if learned_prior else _standard(2)

    decoder = {"x": (5, WIDTH)} | ({"z": (3, 4)} if learned_prior else {})
    return Model(_parameters({"z": (WIDTH + 3, 4)}, decoder), encode, decode, prior)


def _step(weights: jax.Array, z: jax.Array, inputs: jax.Array) -> dist.Distribution:
    return _normal(z @ weights + inputs)


def _path() -> Model:
    """Paths of six steps; the encoder sees each step's data."""

    def encode(params: Any, x: jax.Array) -> Markov:
        return Markov(_step, params["encoder"]["z"], jnp.zeros(2), x @ params["encoder"]["x"])

    def decode(params: Any, z: jax.Array) -> dist.Distribution:
        return dist.Normal(z @ params["decoder"]["x"], 1.0).to_event(2)

    def prior(params: Any) -> Markov:
        return Markov(_step, params["decoder"]["z"], jnp.zeros(2), jnp.zeros((6, 1)))

    encoder, decoder = {"z": (2, 4), "x": (3, 4)}, {"z": (2, 4), "x": (2, 3)}
    return Model(_parameters(encoder, decoder), encode, decode, prior)


def _missing() -> Model:
    def encode(params: Any, x: jax.Array) -> dist.Distribution:
        return _normal(jnp.concatenate(zeros_and_mask(x)) @ params["encoder"]["z"])

    def decode(params: Any, z: jax.Array) -> dist.Distribution:
        return Observed(dist.Normal(z @ params["decoder"]["x"], 1.0))

    return Model(_parameters({"z": (2 * WIDTH, 4)}, {"x": (2, WIDTH)}), encode, decode, lambda params: _standard(2))


def _discrete() -> Model:
    """An unobserved class, and a vector given the class."""
    one_hot = lambda z: jax.nn.one_hot(z["y"], 3)

    def encode(params: Any, x: jax.Array) -> Chain:
        w = params["encoder"]
        below = lambda z: _normal(jnp.concatenate([x, one_hot(z)]) @ w["z"])
        return Chain(y=dist.Categorical(logits=x @ w["y"]), z=below)

    def decode(params: Any, z: dict) -> dist.Distribution:
        return dist.Normal(jnp.concatenate([one_hot(z), z["z"]]) @ params["decoder"]["x"], 1.0).to_event(1)

    def prior(params: Any) -> Chain:
        below = lambda z: _normal(one_hot(z) @ params["decoder"]["z"])
        return Chain(y=dist.Categorical(logits=jnp.zeros(3)), z=below)

    encoder, decoder = {"y": (WIDTH, 3), "z": (WIDTH + 3, 4)}, {"z": (3, 4), "x": (5, WIDTH)}
    return Model(_parameters(encoder, decoder), encode, decode, prior)


def _modalities() -> Model:
    """Numbers and a class, both generated from z."""

    def encode(params: Any, x: dict) -> dist.Distribution:
        return _normal(jnp.concatenate([x["numbers"], jax.nn.one_hot(x["kind"], 3)]) @ params["encoder"]["z"])

    def decode(params: Any, z: jax.Array) -> Chain:
        w = params["decoder"]
        return Chain(
            numbers=dist.Normal(z @ w["numbers"], 1.0).to_event(1), kind=dist.Categorical(logits=z @ w["kind"])
        )

    decoder = {"numbers": (2, WIDTH), "kind": (2, 3)}
    return Model(_parameters({"z": (WIDTH + 3, 4)}, decoder), encode, decode, lambda params: _standard(2))


def _data() -> dict[str, np.ndarray]:
    rng = np.random.RandomState(0)
    numbers = rng.randn(SIZE, WIDTH).astype(np.float32)
    gaps = numbers.copy()
    gaps[rng.rand(SIZE, WIDTH) < 0.3] = np.nan
    return {
        "numbers": numbers,
        "gaps": gaps,
        "pixels": rng.rand(SIZE, WIDTH).astype(np.float32),
        "labels": rng.randint(0, 3, SIZE),
        "few labels": np.where(np.arange(SIZE) % 3 == 0, np.arange(SIZE) % 2, -1),
        "paths": (paths := rng.randn(SIZE, 6, 3).astype(np.float32)),
        "images": rng.randn(SIZE, 5, 7, 3).astype(np.float32),
        "sequences": _of_different_lengths((paths > 0).astype(np.float32), rng),
        "gaps in paths": _of_different_lengths(paths, rng),
    }


def _of_different_lengths(paths: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Paths of 2 to 6 steps, with NaN after their ends and in place of a few values."""
    is_missing = rng.rand(*paths.shape) < 0.1
    is_missing |= np.arange(6)[:, None] >= rng.randint(2, 7, (SIZE, 1, 1))
    return np.where(is_missing, np.float32(np.nan), paths)


DATA = _data()

CASES = {
    "plain": Case(mlp_vae((WIDTH,), 2, 6, weight_init="glorot"), DATA["pixels"]),
    "flow": Case(mlp_vae((WIDTH,), 2, 6, posterior="flow", weight_init="glorot"), DATA["pixels"], _SAMPLED),
    "full covariance": Case(
        mlp_vae((WIDTH,), 2, 6, posterior="full_covariance", weight_init="glorot"), DATA["pixels"], _SAMPLED
    ),
    "convolutional": Case(
        convolutional_vae((5, 7, 3), 2, num_channels=(4, 6), hidden_dim=8, likelihood="gaussian"), DATA["images"]
    ),
    "hierarchical": Case(hierarchical_vae((WIDTH,), (3, 2), (6, 4), weight_init="glorot"), DATA["pixels"]),
    "hierarchical ladder": Case(
        hierarchical_vae((WIDTH,), (4, 3, 2), 6, 1, inference="ladder", likelihood="gaussian"), DATA["numbers"]
    ),
    "hierarchical convolutional": Case(
        hierarchical_convolutional_vae(
            (5, 7, 3), (3, 2), (8, 6), num_channels=(4, 6), inference="ladder", likelihood="gaussian"
        ),
        DATA["images"],
    ),
    "two levels": Case(_two_levels(top_down=False), DATA["numbers"]),
    "ladder": Case(_two_levels(top_down=True), DATA["numbers"]),
    "three levels": Case(_three_levels(), DATA["numbers"]),
    "condition": Case(_given_a_label(learned_prior=False), Given(DATA["pixels"], DATA["labels"])),
    "learned prior": Case(_given_a_label(learned_prior=True), Given(DATA["pixels"], DATA["labels"])),
    "conditional mlp": Case(
        conditional_vae((WIDTH,), 2, num_classes=3, hidden_dim=6, learned_prior=True),
        Given(DATA["pixels"], DATA["labels"]),
    ),
    "supervised": Case(supervised_vae((WIDTH,), 2, (2,), 6), Given(DATA["numbers"], DATA["numbers"][:, :2])),
    "path": Case(_path(), DATA["paths"]),
    "deep markov": Case(deep_markov_vae((6, 3), 2, 6, 4, 6), DATA["sequences"]),
    "conditional deep markov": Case(
        conditional_deep_markov_vae((6, 3), 3, 2, 6, 4, 6), Given(DATA["sequences"], DATA["labels"])
    ),
    "linear gaussian": Case(linear_gaussian_state_space((6, 3), 2), DATA["gaps in paths"], _SAMPLED, is_exact=True),
    "missing data": Case(_missing(), DATA["gaps"]),
    "discrete level": Case(
        _discrete(), DATA["numbers"], Estimator(2, "sampled", "score_function_leave_one_out"), discrete=("y",)
    ),
    "semi-supervised": Case(
        semi_supervised_vae((WIDTH,), 2, 3, 6),
        Given(DATA["pixels"], DATA["few labels"]),
        Estimator(2, "sampled", "score_function_leave_one_out"),
        discrete=("y",),
    ),
    "modalities": Case(_modalities(), {"numbers": DATA["numbers"], "kind": DATA["labels"]}),
}
