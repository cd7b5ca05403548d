"""Learning, the third of Rabiner's (1989) problems: expectation maximization with the algorithm of Baum and Welch."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from aevb.arguments import check_counts, check_key
from aevb.data.sequences import lengths_of
from aevb.hidden_markov.emissions import Emission, check_emission, check_pseudo_count
from aevb.hidden_markov.inference import emissions_of, expected_counts_of, forward
from aevb.hidden_markov.parameters import Parameters, check_array, check_params, check_sequences, checked

_PSEUDO_COUNT = 0.1
_SMALLEST_TRANSITION = 1e-6  # in initial parameters: a probability of 0 would stay 0


class Evaluation(NamedTuple):
    """An evaluation of R restarts.

    Attributes:
      iteration: the number of EM steps taken.
      train: log p of the training sequences before the last of these steps, `[R]`, nats per time step.
      valid: log p of the validation sequences after it, `[R]`, nats per time step; `None` if there are none.
    """

    iteration: int
    train: np.ndarray
    valid: np.ndarray | None


class FitResult(NamedTuple):
    """The result of R restarts.

    Attributes:
      params: the parameters of each restart, leaves `[R, ...]`, at its evaluation with the highest log p of the
        validation sequences, or the last parameters if there are no validation sequences.
      iterations: the number of EM steps that led to these parameters, `[R]`.
      train: log p of the training sequences after 0, 1, ... steps of EM, `[I, R]`, nats per time step.
      evaluations: all evaluations.
      best: the index of the best restart by the validation sequences, or by the training sequences if there are none.
    """

    params: Parameters
    iterations: np.ndarray
    train: np.ndarray
    evaluations: list[Evaluation]
    best: int

    @property
    def best_params(self) -> Parameters:
        """The parameters of the best restart."""
        return jax.tree.map(lambda leaf: leaf[self.best], self.params)


def initialize(key: jax.Array, x: ArrayLike, num_states: int, emission: Emission) -> Parameters:
    """Draw initial parameters for EM: transitions uniform on the simplex, emissions near random steps of the data.

    Args:
      key: a typed key, consumed.
      x: training sequences `[N, T, D]`, NaN after their ends and where a value was not observed.
      num_states: K.
      emission: the family of p(x_t | s_t).

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: `x` is not `[N, T, D]`, or has fewer steps than there are states.
    """
    check_key(key)
    _check_start(x, num_states, emission)
    return _initialize(key, jnp.asarray(x), int(num_states), emission)


def em_step(
    params: Parameters, x: ArrayLike, emission: Emission, pseudo_count: float = _PSEUDO_COUNT
) -> tuple[Parameters, jax.Array]:
    """Take one step of EM.

    Args:
      params: the parameters of a model with K states.
      x: sequences `[N, T, D]`, NaN after their ends and where a value was not observed.
      emission: the family of p(x_t | s_t), with its own pseudo-counts.
      pseudo_count: the number added to the expected number of starts in each state, and of transitions between any two
        states. Without any pseudo-counts, a step never decreases log p(x).

    Returns:
      The new parameters, and log p(x) under the previous ones, `[N]`, nats.

    Raises:
      TypeError: as for `log_likelihood`.
      ValueError: as for `log_likelihood`.
    """
    check_pseudo_count(pseudo_count)
    sequences, lengths = checked(params, x, emission, None)
    return _em_step(params, sequences, lengths, emission, pseudo_count)


def fit(
    x: ArrayLike,
    emission: Emission,
    num_states: int,
    *,
    key: jax.Array,
    valid_x: ArrayLike | None = None,
    num_restarts: int = 1,
    num_iterations: int = 100,
    evaluate_every: int = 5,
    patience: int | None = None,
    pseudo_count: float = _PSEUDO_COUNT,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> FitResult:
    """Learn a model with EM from several random initial parameters, in one compiled program.

    Restart r begins with `initialize(jax.random.split(key, R)[r], ...)`.

    Args:
      x: training sequences `[N, T, D]`, NaN after their ends and where a value was not observed.
      emission: the family of p(x_t | s_t), such as `bernoulli()`.
      num_states: K.
      key: a typed key, consumed.
      valid_x: validation sequences, which select the iteration of each restart and the best restart.
      num_restarts: R.
      num_iterations: the largest number of EM steps.
      evaluate_every: the number of EM steps between evaluations.
      patience: the number of evaluations without an improvement of any restart on the validation sequences after which
        learning stops; `None` never stops early.
      pseudo_count: see `em_step`.
      on_evaluation: called with every `Evaluation`.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: no state can emit a value, the sequences are not `[N, T, D]`, `patience` is given without validation
        sequences, or a count is below 1.
      FloatingPointError: log p of a restart is not finite.
    """
    check_counts(1, num_restarts=num_restarts, num_iterations=num_iterations, evaluate_every=evaluate_every)
    check_pseudo_count(pseudo_count)
    if patience is not None:
        check_counts(1, patience=patience)
        if valid_x is None:
            raise ValueError("patience needs valid_x: training sequences cannot determine when to stop")
    params = _starts(key, x, num_states, emission, num_restarts)
    data = _prepared(x, emission, params, "x")
    valid = None if valid_x is None else _prepared(valid_x, emission, params, "valid_x")
    search = _Search(params, np.zeros(num_restarts, int), np.full(num_restarts, -np.inf), [], [], 0)
    while search.iteration < num_iterations and not search.is_over(patience):
        steps = min(evaluate_every, num_iterations - search.iteration)
        params, train, of_valid = _em_steps(params, data, valid, pseudo_count, emission, steps)
        search = search.after(params, np.asarray(train), None if of_valid is None else np.asarray(of_valid))
        if on_evaluation is not None:
            on_evaluation(search.evaluations[-1])
    last = np.asarray(_of_each(params, data, emission))
    score = last if valid is None else search.highest
    train = np.concatenate([*search.train, last[None]])
    return FitResult(search.params, search.iterations, train, search.evaluations, int(np.argmax(score)))


class _Data(NamedTuple):
    x: jax.Array
    lengths: jax.Array


class _Search(NamedTuple):
    """The best parameters of each restart so far, leaves `[R, ...]`, and the evaluations that led to them."""

    params: Parameters
    iterations: np.ndarray
    highest: np.ndarray
    train: list[np.ndarray]
    evaluations: list[Evaluation]
    num_in_vain: int

    @property
    def iteration(self) -> int:
        return self.evaluations[-1].iteration if self.evaluations else 0

    def is_over(self, patience: int | None) -> bool:
        return patience is not None and self.num_in_vain >= patience

    def after(self, params: Parameters, train: np.ndarray, valid: np.ndarray | None) -> "_Search":
        """Return the state after another evaluation: training log-likelihoods `[steps, R]`, validation `[R]`."""
        iteration = self.iteration + len(train)
        for values in (train, valid):
            if values is not None and not np.all(np.isfinite(values)):
                restart = int(np.argwhere(~np.isfinite(values))[0][-1])
                raise FloatingPointError(f"log p of restart {restart} is not finite within {iteration} iterations")
        is_better = np.ones_like(train[0], bool) if valid is None else valid > self.highest
        pick = lambda new, old: jnp.where(is_better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
        return _Search(
            jax.tree.map(pick, params, self.params),
            np.where(is_better, iteration, self.iterations),
            self.highest if valid is None else np.maximum(valid, self.highest),
            [*self.train, train],
            [*self.evaluations, Evaluation(iteration, train[-1], valid)],
            0 if is_better.any() else self.num_in_vain + 1,
        )


def _starts(key: Any, x: Any, num_states: Any, emission: Any, num_restarts: int) -> Parameters:
    """Return the initial parameters of R restarts, leaves `[R, ...]`."""
    check_key(key)
    _check_start(x, num_states, emission)
    keys = jax.random.split(key, num_restarts)
    return _initialize_all(keys, jnp.asarray(x), int(num_states), emission)


def _prepared(x: Any, emission: Emission, params: Parameters, name: str) -> _Data:
    """Check sequences, and cut off the steps after the end of the longest one."""
    first = jax.tree.map(lambda leaf: leaf[0], params)
    check_params(first, emission)
    check_sequences(x, emission, first.emission, name)
    lengths = lengths_of(x)
    if not int(lengths.sum()):
        raise ValueError(f"{name} has no observed values")
    return _Data(jnp.asarray(x)[:, : int(lengths.max())], jnp.asarray(lengths))


def _check_start(x: Any, num_states: Any, emission: Any) -> None:
    check_emission(emission)
    check_counts(1, num_states=num_states)
    check_array(x, "x")
    if isinstance(x, Tracer):
        return
    num_steps = int(np.sum(~np.isnan(np.asarray(x)).all(-1)))
    if num_steps < num_states:
        raise ValueError(f"{num_states} states need at least as many observed steps, but x has {num_steps}")


@functools.partial(jax.jit, static_argnames="num_states")
def _initialize(key: jax.Array, x: jax.Array, num_states: int, emission: Emission) -> Parameters:
    transition_key, emission_key = jax.random.split(key)
    uniform = jnp.full(num_states, 1 / num_states, x.dtype)
    # Exponential variates divided by their sum are uniform on the simplex, like Dirichlet(1, ..., 1).
    weights = jax.random.exponential(transition_key, (num_states, num_states), x.dtype)
    transition = weights / weights.sum(-1, keepdims=True) + _SMALLEST_TRANSITION
    of_states = emission.initialize(emission_key, x.reshape(-1, x.shape[-1]), num_states)
    return Parameters(jnp.log(uniform), jnp.log(transition / transition.sum(-1, keepdims=True)), of_states)


@functools.partial(jax.jit, static_argnames="num_states")
def _initialize_all(keys: jax.Array, x: jax.Array, num_states: int, emission: Emission) -> Parameters:
    return jax.lax.map(lambda key: _initialize(key, x, num_states, emission), keys)


@jax.jit
def _em_step(
    params: Parameters, x: jax.Array, lengths: jax.Array, emission: Emission, pseudo_count: Any
) -> tuple[Parameters, jax.Array]:
    counts = expected_counts_of(params, x, lengths, emission)
    steps = x.reshape(-1, x.shape[-1])
    weights = counts.states.reshape(len(steps), -1)
    new = Parameters(
        _log_shares(counts.initial + pseudo_count, params.log_initial),
        _log_shares(counts.transition + pseudo_count, params.log_transition),
        emission.maximize(params.emission, weights, steps),
    )
    return new, counts.log_likelihood


def _log_shares(counts: jax.Array, former: jax.Array) -> jax.Array:
    """Return the logarithms of counts divided by their sums, or the previous ones where the sum is 0."""
    total = counts.sum(-1, keepdims=True)
    return jnp.where(total > 0, jnp.log(counts / jnp.where(total > 0, total, 1)), former)


@functools.partial(jax.jit, static_argnames="num_steps")
def _em_steps(
    params: Parameters, data: _Data, valid: _Data | None, pseudo_count: Any, emission: Emission, num_steps: int
) -> tuple[Parameters, jax.Array, jax.Array | None]:
    """Take steps of EM with each of R restarts.

    The restarts run one after the other: on a CPU, running them in parallel is no faster and takes R times the memory.

    Returns:
      The new parameters, log p of the training data before each step `[steps, R]`, and of the validation data `[R]`,
      nats per time step.
    """

    def one(params: Parameters) -> tuple[Parameters, jax.Array]:
        def step(params: Parameters, _: None) -> tuple[Parameters, jax.Array]:
            params, each = _em_step(params, data.x, data.lengths, emission, pseudo_count)
            return params, jnp.sum(each) / jnp.sum(data.lengths)

        return jax.lax.scan(step, params, length=num_steps)

    params, train = jax.lax.map(one, params)
    return params, train.T, None if valid is None else _of_each(params, valid, emission)


@jax.jit
def _of_each(params: Parameters, data: _Data, emission: Emission) -> jax.Array:
    """Return log p of the data under each of R restarts, `[R]`, in nats per time step."""

    def one(params: Parameters) -> jax.Array:
        log_emissions = emissions_of(params, data.x, emission)
        each, _ = forward(params.log_initial, params.log_transition, log_emissions, data.lengths)
        return jnp.sum(each) / jnp.sum(data.lengths)

    return jax.lax.map(one, params)
