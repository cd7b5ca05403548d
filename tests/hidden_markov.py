"""Small hidden Markov models of every family, their sequences, and enumeration of all state paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from aevb import hidden_markov
from aevb.hidden_markov import Parameters

KEY = jax.random.key(0)
K, D, T = 3, 2, 5
NAN = np.nan

FAMILIES = {
    "bernoulli": hidden_markov.bernoulli(),
    "gaussian": hidden_markov.gaussian(),
    "poisson": hidden_markov.poisson(),
    "categorical": hidden_markov.categorical(4),
}


def quick(*families: str) -> list:
    """Return all families for `parametrize`, the others marked slow: each compiles its own programs."""
    return [pytest.param(each, marks=() if each in families else pytest.mark.slow) for each in FAMILIES]


def random_params(family: str, seed: int = 0, num_states: int = K, size: int = D) -> Parameters:
    random = np.random.RandomState(seed)
    shape = (num_states, size)
    emission = {
        "bernoulli": lambda: {"logits": random.randn(*shape)},
        "gaussian": lambda: {"mean": random.randn(*shape), "variance": random.uniform(0.3, 2, shape)},
        "poisson": lambda: {"log_rate": random.randn(*shape)},
        "categorical": lambda: {"logits": random.randn(*shape, 4)},
    }[family]()
    initial, transition = random.dirichlet(np.ones(num_states)), random.dirichlet(np.ones(num_states), num_states)
    return jax.tree.map(jnp.asarray, Parameters(np.log(initial), np.log(transition), emission))


def random_sequences(family: str, seed: int = 1, num: int = 4, size: int = D) -> np.ndarray:
    """Return sequences of different lengths; one has two missing entries, a missing step and a missing start."""
    random = np.random.RandomState(seed)
    shape = (num, T, size)
    x = {
        "bernoulli": lambda: random.randint(0, 2, shape),
        "gaussian": lambda: random.randn(*shape),
        "poisson": lambda: random.poisson(2, shape),
        "categorical": lambda: random.randint(0, 4, shape),
    }[family]().astype(np.float64)
    x[1, 3:] = NAN
    x[2, [0, 2, 3], [0, 1, 0]] = NAN
    x[2, 1] = NAN
    x[3, 1:] = NAN
    return x


def log_emissions_by_formula(family: str, params: Parameters, x: np.ndarray) -> np.ndarray:
    """Return log p(x_t | s_t), `[N, T, K]`, in NumPy, value by value, without missing values."""
    p = {name: np.asarray(value) for name, value in params.emission.items()}
    v = np.nan_to_num(x)[:, :, None]
    if family == "bernoulli":
        each = v * p["logits"] - np.logaddexp(0, p["logits"])
    elif family == "gaussian":
        each = -0.5 * ((v - p["mean"]) ** 2 / p["variance"] + np.log(2 * np.pi * p["variance"]))
    elif family == "poisson":
        each = v * p["log_rate"] - np.exp(p["log_rate"]) - gammaln(v + 1)
    else:
        log_share = p["logits"] - np.log(np.exp(p["logits"]).sum(-1, keepdims=True))
        each = np.take_along_axis(log_share[None, None], v[..., None].astype(int), -1)[..., 0]
    return np.where(np.isnan(x)[:, :, None], 0, each).sum(-1)


def enumerated(params: Parameters, log_emissions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all paths `[P, T]` of one sequence, and log p(x, path) `[P]`, from log p(x_t | s_t) `[T, K]`."""
    length, num_states = log_emissions.shape
    paths = np.array(list(itertools.product(range(num_states), repeat=length)))
    log_initial, log_transition = np.asarray(params.log_initial), np.asarray(params.log_transition)
    joint = log_initial[paths[:, 0]] + log_transition[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, joint + log_emissions[np.arange(length), paths].sum(1)


def by_enumeration(family: str, params: Parameters, x: np.ndarray) -> dict[str, np.ndarray]:
    lengths = [max(np.flatnonzero(~np.isnan(each).all(-1)), default=-1) + 1 for each in x]
    log_emissions = log_emissions_by_formula(family, params, x)
    found: dict = {"log_p": [], "log_joint": [], "initial": np.zeros(K), "transition": np.zeros((K, K))}
    found |= {name: np.full((*x.shape[:2], K), NAN) for name in ("marginals", "filtered")}
    found["path"] = np.full(x.shape[:2], -1)
    for n, length in enumerate(lengths):
        paths, joint = enumerated(params, log_emissions[n, :length])
        log_p = np.log(np.exp(joint - joint.max()).sum()) + joint.max()
        weight = np.exp(joint - log_p)
        found["log_p"].append(log_p)
        found["log_joint"].append(joint.max())
        found["path"][n, :length] = paths[joint.argmax()]
        np.add.at(found["initial"], paths[:, 0], weight)
        for t in range(length):
            found["marginals"][n, t] = np.bincount(paths[:, t], weight, K)
            so_far, joint_so_far = enumerated(params, log_emissions[n, : t + 1])
            share = np.exp(joint_so_far - joint_so_far.max())
            found["filtered"][n, t] = np.bincount(so_far[:, -1], share / share.sum(), K)
            if t:
                np.add.at(found["transition"], (paths[:, t - 1], paths[:, t]), weight)
    return found
