"""Training in length buckets: minibatches of short sequences are cut to the length of their longest sequence.

Sequences in one array are padded to the longest of all (`aevb.Observed`), and padding takes as much time as data. With
buckets, a minibatch consists of sequences of similar lengths and is trained by the same model for fewer steps. If
padded steps contribute nothing, as in `deep_markov_vae`, cutting a minibatch changes neither its bound nor its pathwise
gradient, given the same noise. The dreams of wake-sleep are cut, too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from aevb.algorithms.auto_encoding import auto_encoding
from aevb.algorithms.base import Algorithm, MakeAlgorithm, TrainState, check_algorithm
from aevb.arguments import check_counts, describe
from aevb.distributions.observed import still_to_come
from aevb.model import Datapoint, Given, Model
from aevb.models.families import length_of, of_length


def bucketed(lengths: Sequence[int], algorithm: MakeAlgorithm = auto_encoding) -> MakeAlgorithm:
    """Return an algorithm that trains in length buckets: `aevb.fit(..., algorithm=bucketed([64, 96]))`.

    The minibatches of an epoch are drawn within buckets, as far as their sizes allow, and come in random order.
    Everything else is left to `algorithm`. Reported bounds are those of all sequences, uncut.

    One program is compiled per bucket, so two to four buckets are enough. The members of a population trained side by
    side would run the program of every bucket: train them in turn.

    Args:
      lengths: the lengths, in steps, to which minibatches may be cut. The length of the model's sequences is always
        added.
      algorithm: the algorithm that trains, with its options set by `functools.partial`.

    Returns:
      A function that makes the algorithm, for `fit`, `fit_population` or `make_train_epochs`. The model must be a model
      of sequences `[T, D]`, built by name, whose parameters do not depend on T. The data must be in memory.

    Raises:
      ValueError: there are no lengths, or a length is not positive.
      TypeError: a length is not an integer.
    """
    if isinstance(lengths, str) or not isinstance(lengths, Sequence) or not lengths:
        raise ValueError(f"lengths must be a sequence of numbers of steps such as [64, 96], got {describe(lengths)}")
    check_counts(1, **{f"lengths[{number}]": length for number, length in enumerate(lengths)})

    def make(
        model: Model, optimizer: optax.GradientTransformation, dataset_size: int, map_prior: bool = True
    ) -> Algorithm:
        cuts = _cuts(lengths, length_of(model))
        made = [algorithm(of_length(model, cut), optimizer, dataset_size, map_prior) for cut in cuts[:-1]]
        made.append(algorithm(model, optimizer, dataset_size, map_prior))
        for each in made:
            check_algorithm(each)
        return made[-1]._replace(step=_step_of(made, cuts), bucket=functools.partial(_bucket, cuts))

    return make


def _cuts(lengths: Sequence[int], longest: int) -> tuple[int, ...]:
    if max(lengths) > longest:
        raise ValueError(f"lengths must be at most {longest}, the length of the model's sequences, got {max(lengths)}")
    return tuple(sorted({*map(int, lengths), longest}))


def _bucket(cuts: tuple[int, ...], x: Datapoint) -> jax.Array:
    """Return the number of the first cut that keeps all observations, `[]` int32."""
    length = jnp.sum(still_to_come(_sequence(x)))
    return jnp.searchsorted(jnp.asarray(cuts), length).astype(jnp.int32)


def _step_of(algorithms: Sequence[Algorithm], cuts: tuple[int, ...]) -> Callable[..., tuple[TrainState, jax.Array]]:
    def cut_step(algorithm: Algorithm, cut: int) -> Callable[..., tuple[TrainState, jax.Array]]:
        return lambda state, xs, indices: algorithm.step(state, _cut(xs, cut), indices)

    branches = [cut_step(algorithm, cut) for algorithm, cut in zip(algorithms, cuts, strict=True)]

    def step(state: TrainState, xs: Datapoint, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        if jax.tree.leaves(state.carry):
            raise ValueError("an algorithm that keeps latents for every datapoint cannot train in length buckets")
        number = jnp.max(jax.vmap(functools.partial(_bucket, cuts))(xs))
        return jax.lax.switch(number, branches, state, xs, indices)

    return step


def _cut(xs: Datapoint, length: int) -> Datapoint:
    """Return sequences `[M, T, D]` without the steps from `length` on. Their condition is unchanged."""
    if isinstance(xs, Given):
        return xs._replace(value=_cut(xs.value, length))
    return xs[:, :length]


def _sequence(x: Datapoint) -> jax.Array:
    value: Any = x.value if isinstance(x, Given) else x
    if not hasattr(value, "ndim") or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"length buckets need sequences, arrays [T, D] of floats with NaN at the end, got {describe(value)}"
        )
    return value
