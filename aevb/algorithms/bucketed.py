"""Training in length buckets: a minibatch of sequences that end early is cut to where the longest of them ends.

Sequences in one array are padded to the longest of all (`aevb.Observed`), and padding takes as long as data do. In
buckets a minibatch is made of sequences of similar lengths, and is trained by the same model for fewer steps. Where a
padded step counts nothing, as in `deep_markov_vae`, every minibatch has the bound and the pathwise gradient that it has
uncut, by the same noise. What wake-sleep dreams is cut as well.
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

    Minibatches of an epoch are drawn within buckets, so far as their sizes allow, and come in random order. Everything
    else is the algorithm's: the bounds that are reported are those of all sequences, uncut.

    A program is compiled per bucket, so two to four of them are enough. Members of a population that are trained side
    by side go through the program of every bucket: train them in turn.

    Args:
      lengths: where minibatches may be cut, in steps; the length of the model's sequences is always one of them.
      algorithm: what trains, with its options by `functools.partial`.

    Returns:
      What makes the algorithm, for `fit`, `fit_population` or `make_train_epochs`. It trains models of sequences
      `[T, D]` that were built by name and whose parameters do not depend on T, on data in memory.

    Raises:
      ValueError: no lengths, or one that is not positive.
      TypeError: a length that is not an integer.
    """
    if isinstance(lengths, str) or not isinstance(lengths, Sequence) or not lengths:
        raise ValueError(f"lengths must be a sequence of numbers of steps, [64, 96] say, got {describe(lengths)}")
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
        raise ValueError(f"lengths must be at most {longest}, that of the model's sequences, got {max(lengths)}")
    return tuple(sorted({*map(int, lengths), longest}))


def _bucket(cuts: tuple[int, ...], x: Datapoint) -> jax.Array:
    """Return the number of the first cut that no observation comes after, `[]` int32."""
    length = jnp.sum(still_to_come(_sequence(x)))
    return jnp.searchsorted(jnp.asarray(cuts), length).astype(jnp.int32)


def _step_of(algorithms: Sequence[Algorithm], cuts: tuple[int, ...]) -> Callable[..., tuple[TrainState, jax.Array]]:
    def cut_step(algorithm: Algorithm, cut: int) -> Callable[..., tuple[TrainState, jax.Array]]:
        return lambda state, xs, indices: algorithm.step(state, _cut(xs, cut), indices)

    branches = [cut_step(algorithm, cut) for algorithm, cut in zip(algorithms, cuts, strict=True)]

    def step(state: TrainState, xs: Datapoint, indices: jax.Array) -> tuple[TrainState, jax.Array]:
        if jax.tree.leaves(state.carry):
            raise ValueError("an algorithm that keeps latents of every datapoint cannot train in length buckets")
        number = jnp.max(jax.vmap(functools.partial(_bucket, cuts))(xs))
        return jax.lax.switch(number, branches, state, xs, indices)

    return step


def _cut(xs: Datapoint, length: int) -> Datapoint:
    """Return sequences `[M, T, D]` without the steps from `length` on; their condition is left as it is."""
    if isinstance(xs, Given):
        return xs._replace(value=_cut(xs.value, length))
    return xs[:, :length]


def _sequence(x: Datapoint) -> jax.Array:
    value: Any = x.value if isinstance(x, Given) else x
    if not hasattr(value, "ndim") or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"length buckets are for sequences, arrays [T, D] of floats with NaN at the end, got {describe(value)}"
        )
    return value
