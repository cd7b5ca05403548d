"""The workload of all sequence contenders: the sequences, and the initial parameters."""

import dataclasses
from typing import Any

import numpy as np

RANDOM = "random"
"""In place of a data set: 229 random piano rolls, for use without the chorales."""


@dataclasses.dataclass(frozen=True)
class SequenceWorkload:
    """A deep Markov model of binary sequences with the structured posterior, trained by Adam.

    Attributes:
      dataset: a name for `aevb.data.load`, or `RANDOM`.
      data_dir: as in `aevb.data.load`.
      source_dir: as in `aevb.data.load`.
      num_sequences: train on this many sequences, the first ones; 0 for all.
      latent_dim: J.
      emission_dim: units of the hidden layers between z_t and x_t.
      transition_dim: units of the hidden layers between z_{t-1} and z_t.
      rnn_dim: units of the recurrent network.
      batch_size: M.
      learning_rate: the learning rate of Adam.
      length_buckets: the number of length buckets, in this project only.
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
    """Return `[N, T, D]` float32, 0 or 1, and NaN after the end of each sequence; T is the longest length."""
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
    """Return where sequences are cut: the ends of ranges with equally many sequences, ascending."""
    count = workload.length_buckets
    ends = np.quantile(lengths, np.arange(1, count + 1) / count, method="higher")
    return sorted({int(end) for end in ends})


def build_model(workload: SequenceWorkload, shape: tuple[int, ...]) -> Any:
    """Return the `aevb.Model` of sequences of shape `[T, D]`."""
    import aevb

    sizes = workload.latent_dim, workload.emission_dim, workload.transition_dim, workload.rnn_dim
    return aevb.models.deep_markov_vae(shape, *sizes)


def initial_parameters(workload: SequenceWorkload, shape: tuple[int, ...]) -> Any:
    """Return the initial parameters of every contender: NumPy arrays, named as in `deep_markov_vae`."""
    import jax

    return jax.tree.map(np.asarray, build_model(workload, shape).init(jax.random.key(0)))
