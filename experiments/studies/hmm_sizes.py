"""Data, learning and saved results of one hidden Markov model of `experiments.hmm`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aevb import figures, hidden_markov
from aevb.checkpoints import RunError
from aevb.data import DatasetError, Splits, lengths_of, load_own, load_splits
from aevb.hidden_markov import Emission, Parameters
from aevb.hidden_markov.parameters import check_params, check_sequences
from experiments.runs.folder import write_json

_VALID_SHARE = 0.1  # of training sequences, where a data set has no validation split


class Data(NamedTuple):
    """Training, validation and test sequences.

    Attributes:
      name: The name shown in tables and figures.
      splits: The sequences of "train", "valid" and "test", `[N, T, D]` float32, NaN after their ends.
    """

    name: str
    splits: dict[str, np.ndarray]


class Size(NamedTuple):
    """The result of learning with one number of states.

    Attributes:
      params: The parameters of the best restart.
      train: log p of the training sequences after 0, 1, ... EM steps of every restart, `[I, R]`, in nats per time step.
      valid: log p of the validation sequences at each evaluation, `[E, R]`, in nats per time step.
      evaluated: EM steps before each evaluation, `[E]`.
      row: The results as a row of the table.
    """

    params: Parameters
    train: np.ndarray
    valid: np.ndarray
    evaluated: np.ndarray
    row: dict[str, Any]

    @property
    def curve(self) -> figures.LearningCurve:
        """The learning curve to draw."""
        row = self.row
        ends = {name: row[f"{name}_of_restarts"] for name in ("train", "valid", "test")}
        best = row["restart"]
        return figures.LearningCurve(
            row["num_states"], ends, best, self.train[:, best], self.evaluated, self.valid[:, best], row["iterations"]
        )


def load(name: str, is_own: bool, data_dir: str | None, source_dir: str | None) -> Data:
    """Load a registered data set, or a user's own file.

    Without validation sequences, a random tenth of the training sequences is held out.

    Raises:
      DatasetError: If it cannot be loaded, does not hold sequences, or holds too few.
    """
    found: Splits = load_own(name, data_dir=data_dir) if is_own else load_splits(name, data_dir, source_dir)
    train, valid, test = found
    if not train.is_sequences:
        raise DatasetError(
            f"{train.name} holds no sequences: --data takes a .npz file of values [N, T, D] and lengths [N]"
        )
    if valid is None:
        if len(train.images) < 2:
            raise DatasetError(
                f"{train.name} has {len(train.images)} training sequences: at least 2 are needed, one for validation"
            )
        train, valid = train.split_off(max(1, int(_VALID_SHARE * len(train.images))))
    splits = {"train": train, "valid": valid, "test": test}
    return Data(train.name, {name: _trimmed(split.sequences()) for name, split in splits.items()})


def num_steps(x: np.ndarray) -> int:
    """Return the total length of sequences."""
    return int(lengths_of(x).sum())


def suitable_emission(data: Data) -> str:
    """Return "bernoulli" if all values are 0 or 1, else "gaussian"."""
    x = data.splits["train"]
    return "bernoulli" if np.all(np.isnan(x) | (x == 0) | (x == 1)) else "gaussian"


def make_emission(family: str, data: Data, pseudo_count: float) -> Emission:
    """Return a built-in emission family. A categorical one covers the values from 0 to the largest in the data.

    Raises:
      DatasetError: If the values are too large for a categorical family.
    """
    if family != "categorical":
        return getattr(hidden_markov, family)(pseudo_count=pseudo_count)
    highest = max(float(np.nanmax(x)) for x in data.splits.values())
    if highest > 10_000:
        raise DatasetError(f"{data.name} has values up to {highest:g}: --emission=categorical takes at most 10000")
    return hidden_markov.categorical(max(2, int(highest) + 1), pseudo_count=pseudo_count)


def check(data: Data, emission: Emission, num_states: int, seed: int) -> None:
    """Raise `ValueError`, before anything is written, if no model of that size can be learned from the data."""
    params = hidden_markov.initialize(jax.random.key(seed), data.splits["train"], num_states, emission)
    for name, x in data.splits.items():
        check_sequences(x, emission, params.emission, f"the {name} split of {data.name}")


def learn(
    data: Data,
    emission: Emission,
    num_states: int,
    *,
    seed: int,
    seconds: Callable[[], float],
    **options: Any,
) -> Size:
    """Learn a model of one size and evaluate it. Its random starts do not depend on the other sizes.

    Args:
      data: The sequences.
      emission: The emission family.
      num_states: The number of states, K.
      seed: Seed for the random starts.
      seconds: A function that returns the elapsed time.
      **options: Further arguments of `hidden_markov.fit`.
    """
    train, valid, test = (data.splits[name] for name in ("train", "valid", "test"))
    key = jax.random.fold_in(jax.random.key(seed), num_states)
    result = hidden_markov.fit(train, emission, num_states, key=key, valid_x=valid, **options)
    took, params = seconds(), result.best_params
    each = {name: _of_restarts(result.params, x, emission) for name, x in data.splits.items()}
    decoded = np.asarray(hidden_markov.viterbi(params, test, emission).states)
    evaluations = result.evaluations
    row = {
        "num_states": num_states,
        **{name: values[result.best] for name, values in each.items()},
        "restart": result.best,
        "iterations": int(result.iterations[result.best]),
        "iterations_taken": evaluations[-1].iteration,
        "states_used": len(np.unique(decoded[decoded >= 0])),
        "seconds": took,
        **{f"{name}_of_restarts": values for name, values in each.items()},
        "iterations_of_restarts": result.iterations.tolist(),
    }
    of_valid = np.stack([np.asarray(evaluation.valid) for evaluation in evaluations])
    evaluated = np.array([evaluation.iteration for evaluation in evaluations])
    return Size(params, result.train, of_valid, evaluated, row)


def write(workdir: Path, size: Size) -> None:
    """Write the result of one size. The arrays come first, so that an existing row implies complete arrays."""
    path = _arrays_path(workdir, size.row["num_states"])
    leaves = {f"emission/{name}": value for name, value in size.params.emission.items()}
    arrays: dict[str, Any] = {
        "log_initial": size.params.log_initial, "log_transition": size.params.log_transition, **leaves,
        "train": size.train, "valid": size.valid, "evaluated": size.evaluated,
    }  # fmt: skip
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RunError(f"cannot write to {workdir}: {error.strerror}") from None
    write_json(path.with_suffix(".json"), size.row)


def read(workdir: Path, num_states: int, emission: Emission) -> Size | None:
    """Return the saved result of one size, or `None` if there is none.

    Raises:
      RunError: If its files are damaged.
    """
    path = _arrays_path(workdir, num_states)
    if not path.with_suffix(".json").exists():
        return None
    try:
        row = json.loads(path.with_suffix(".json").read_text())
        with np.load(path) as arrays:
            of_states = {
                name.removeprefix("emission/"): arrays[name] for name in arrays if name.startswith("emission/")
            }
            params = Parameters(arrays["log_initial"], arrays["log_transition"], of_states)
            size = Size(params, arrays["train"], arrays["valid"], arrays["evaluated"], row)
        check_params(params, emission)
        _ = size.curve
    except Exception as error:
        raise RunError(f"{path} or the .json beside it is damaged ({error!r}): remove both") from None
    return size


def ordered(size: Size, emission: Emission, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the transition probabilities and emission means with the states ordered by succession.

    The most visited state comes first; each state is followed by its most probable successor among the remaining ones.

    Returns:
      Transition probabilities `[K, K]`, means `[K, D']`, and the indices of their D' values: all from the first to the
      last value that varies.
    """
    counts = hidden_markov.expected_counts(size.params, data.splits["train"], emission)
    transition, visits = np.exp(size.params.log_transition), np.asarray(counts.states.sum((0, 1)))
    order, left = [int(visits.argmax())], set(range(len(visits)))
    left.remove(order[0])
    while left:
        candidates = sorted(left)
        order.append(candidates[int(transition[order[-1], candidates].argmax())])
        left.remove(order[-1])
    means = _means(emission, size.params)[order]
    varying = np.flatnonzero(np.nanmax(data.splits["train"], (0, 1)) > np.nanmin(data.splits["train"], (0, 1)))
    columns = np.arange(varying.min(), varying.max() + 1) if len(varying) else np.arange(means.shape[1])
    return transition[np.ix_(order, order)], means[:, columns], columns


def _means(emission: Emission, params: Parameters) -> np.ndarray:
    distribution = emission.distribution(params.emission)
    if distribution.has_enumerate_support and "logits" in params.emission and params.emission["logits"].ndim == 3:
        share = np.asarray(jax.nn.softmax(params.emission["logits"]))
        return share @ np.arange(share.shape[-1])
    return np.asarray(distribution.mean)


def _of_restarts(params: Parameters, x: np.ndarray, emission: Emission) -> list[float]:
    """Return log p of each restart, in nats per time step."""

    def of_one(restart: int) -> float:
        each = hidden_markov.log_likelihood(jax.tree.map(lambda leaf: leaf[restart], params), x, emission)
        return float(np.sum(np.asarray(each, np.float64))) / num_steps(x)

    return [of_one(restart) for restart in range(len(params.log_initial))]


def _trimmed(x: np.ndarray) -> np.ndarray:
    """Trim sequences to the length of the longest."""
    return x[:, : max(1, int(lengths_of(x).max()))]


def _arrays_path(workdir: Path, num_states: int) -> Path:
    return workdir / f"states_{num_states}.npz"
