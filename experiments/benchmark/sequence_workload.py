"""The one computation that all contenders along time do: its sequences, and the parameters that they start from."""

import dataclasses
from typing import Any

import numpy as np

RANDOM = "random"
"""Instead of a data set: 229 random piano rolls, for where the chorales cannot be had."""


@dataclasses.dataclass(frozen=True)
class SequenceWorkload:
    """A deep Markov model of binary sequences with the structured posterior, trained by Adam.

    Attributes:
      dataset: as `aevb.data.load` takes it, or `RANDOM`.
      data_dir: likewise.
      source_dir: likewise.
      num_sequences: the first so many of the training sequences, 0 for all.
      latent_dim: J.
      emission_dim: units of the hidden layers between z_t and x_t.
      transition_dim: units of the hidden layers between z_{t-1} and z_t.
      rnn_dim: units of the recurrent network.
      batch_size: M.
      learning_rate: of Adam.
      length_buckets: of this project.
    """

    dataset: str = "jsb_chorales"
    data_dir: str | None = None
    source_dir: str | None = None
    num_sequences: int = 0
    latent_dim: int = 64
    emission_dim: int = 100
    transition_dim: int = 64
    rnn_dim: int = 128
    batch_size: int = 20
    learning_rate: float = 1e-3
    length_buckets: int = 3


def sequences(workload: SequenceWorkload) -> np.ndarray:
    """`[N, T, D]` float32, 0 or 1, and NaN after the end of each; T is the length of the longest."""
    # Imported late, as in every function here: a worker sets its XLA flags before anything imports JAX.
    from aevb import data as datasets

    if workload.dataset == RANDOM:
        x = _random_rolls()
    else:
        x = datasets.load(workload.dataset, "train", workload.data_dir, workload.source_dir).sequences()
    x = x[: workload.num_sequences or None]
    return x[:, : datasets.lengths_of(x).max()]


def _random_rolls() -> np.ndarray:
    random = np.random.RandomState(0)
    x = (random.rand(229, 129, 88) < 0.045).astype(np.float32)  # four of 88 keys at a time
    x[np.arange(129) >= random.randint(25, 130, (229, 1))] = np.nan
    return x


def cuts(workload: SequenceWorkload, lengths: np.ndarray) -> list[int]:
    """Where sequences are cut: the ends of ranges that hold equally many of them, ascending."""
    count = workload.length_buckets
    ends = np.quantile(lengths, np.arange(1, count + 1) / count, method="higher")
    return sorted({int(end) for end in ends})


def build_model(workload: SequenceWorkload, shape: tuple[int, ...]) -> Any:
    """The `aevb.Model` of sequences of the shape `[T, D]`."""
    import aevb

    sizes = workload.latent_dim, workload.emission_dim, workload.transition_dim, workload.rnn_dim
    return aevb.models.deep_markov_vae(shape, *sizes)


def initial_parameters(workload: SequenceWorkload, shape: tuple[int, ...]) -> Any:
    """The parameters that every contender starts from, NumPy arrays as `deep_markov_vae` names them."""
    import jax

    return jax.tree.map(np.asarray, build_model(workload, shape).init(jax.random.key(0)))
