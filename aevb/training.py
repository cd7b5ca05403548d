"""Algorithm 1 of the paper: minibatch AEVB, as a state, a step, and whole epochs in one compiled program.

What is done with a minibatch is an `Algorithm`, so that the baselines of section 5 train through the same epochs.
"""

import functools
import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aevb import sharding
from aevb.arguments import check_counts, check_floating, check_integers
from aevb.datasets.binarization import Binarization, binarize_batch, binarize_once, check_binarization
from aevb.divergence import DivergedError, Progress, keeping_the_last_good_state, looking_at_parameters
from aevb.evaluation import Bound, evaluate_later, non_finite_datapoints
from aevb.model import Model, Params
from aevb.objectives import KL, Gradient, minibatch_elbo
from aevb.random_bits import as_jax_keeps_it, fused
from aevb.streaming import Stream, compile_epochs

_LOOKS_PER_DECADE = 8
_SECONDS_BETWEEN_PAUSES = 1.0


class TrainState(NamedTuple):
    """Everything that training carries from one step to the next.

    Attributes:
      params: theta and phi.
      optimizer_state: whatever the optax transformation keeps.
      key: the typed key that all further shuffles and noise come from.
      step: `[]` int32, minibatches done.
      carry: what else an algorithm keeps: Monte Carlo EM's latents, for one.
      shuffle_key: in the middle of an epoch of a `Stream`, the typed key that the epoch's order was drawn by.
    """

    params: Params
    optimizer_state: Any
    key: jax.Array
    step: jax.Array
    carry: Any = ()
    shuffle_key: jax.Array | None = None


class Loss(Protocol):
    """`(params, key, xs) -> []`: what a step descends. `xs` is `[M, ...]`."""

    def __call__(self, params: Params, key: jax.Array, xs: jax.Array) -> jax.Array: ...


class Algorithm(NamedTuple):
    """A way to train a model.

    Attributes:
      init: `key -> TrainState`.
      step: `(state, xs, indices) -> (state, loss)` for a minibatch `xs` `[M, ...]` and where its datapoints are in
        the data, `[M]`. `loss` is `[]`; a run stops where it is not finite.
      evaluated_params: `(params, key) -> params`, those of the model whose bound is reported; `None` where it
        trains no recognition model, so that there is no bound.
    """

    init: Callable[[jax.Array], TrainState]
    step: Callable[[TrainState, jax.Array, jax.Array], tuple[TrainState, jax.Array]]
    evaluated_params: Callable[[Params, jax.Array], Params] | None = lambda params, key: params


class MakeAlgorithm(Protocol):
    """What `fit` calls for its algorithm: `auto_encoding`, or one of `aevb.baselines`."""

    def __call__(
        self, model: Model, optimizer: optax.GradientTransformation, dataset_size: int, map_prior: bool
    ) -> Algorithm: ...


class Evaluation(NamedTuple):
    """One row of a training history. Bounds are in nats per datapoint over whole splits.

    Attributes:
      epoch: epochs done.
      num_train_samples: datapoints seen, with repetition: the horizontal axis of Figure 2.
      train_elbo: the bound on the training data; not a number where the algorithm trains no recognition model, as for
        all below.
      test_elbo: the bound on the test data; not a number where there are none, as for the two below.
      test_reconstruction: its first term.
      test_kl: its second term.
      active_units: latent dimensions in use, on the test data.
      seconds: spent training so far, without compilation and evaluation.
    """

    epoch: int
    num_train_samples: int
    train_elbo: float
    test_elbo: float
    test_reconstruction: float
    test_kl: float
    active_units: int
    seconds: float


class FitResult(NamedTuple):
    """What `fit` gives back: the last state, and an `Evaluation` for each time it looked."""

    state: TrainState
    history: list[Evaluation]


def standard_normal_log_prior(params: Params) -> jax.Array:
    """Log p(theta) under p(theta) = N(0, I), up to its constant, in nats (section 2.3, the MAP estimate).

    theta are the generative parameters, `params["decoder"]`; phi has no prior.

    Raises:
      ValueError: `params` has no entry "decoder".
    """
    if not isinstance(params, dict) or "decoder" not in params:
        found = sorted(params) if isinstance(params, dict) else type(params).__name__
        raise ValueError(f'the MAP prior is over params["decoder"], but params are {found}: pass map_prior=False')
    return -0.5 * optax.tree.norm(params["decoder"], squared=True)


def make_loss(
    model: Model,
    dataset_size: int,
    num_samples: int = 1,
    kl: KL = "analytic",
    map_prior: bool = False,
    gradient: Gradient = "pathwise",
) -> Loss:
    """The negative of the estimate that AEVB ascends, in nats per datapoint.

        -(L^M(theta, phi; X^M) + log p(theta)) / N

    Being per datapoint, the size of a step depends on neither N nor M, and the prior weighs 1/N.

    Args:
      model: the four functions.
      dataset_size: N.
      num_samples: L.
      kl: which estimator, as for `elbo`.
      map_prior: whether to include log p(theta).
      gradient: by which estimator, as for `elbo`.

    Returns:
      `(params, key, xs) -> []`.
    """

    def loss(params: Params, key: jax.Array, xs: jax.Array) -> jax.Array:
        objective = minibatch_elbo(params, key, xs, model, dataset_size, num_samples, kl, gradient)
        if map_prior:
            objective += standard_normal_log_prior(params)
        return -objective / dataset_size

    return loss


def init_train_state(key: jax.Array, model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """Initial parameters, a fresh optimizer, and a key for the rest of training: different from the initial one."""
    init_key, train_key = jax.random.split(key)
    params = model.init(init_key)
    return TrainState(params, optimizer.init(params), train_key, jnp.zeros((), jnp.int32))


def make_train_step(loss: Loss, optimizer: optax.GradientTransformation) -> jax.stages.Wrapped:
    """One update on one minibatch, `(state, xs) -> (state, loss)`, compiled, its state's buffers donated.

    Args:
      loss: `(params, key, xs) -> []`, from `make_loss` or your own.
      optimizer: any optax transformation.
    """
    return jax.jit(functools.partial(_descend, loss, optimizer), donate_argnums=0)


def update(
    optimizer: optax.GradientTransformation, state: TrainState, loss: Callable[[Params], jax.Array]
) -> tuple[TrainState, jax.Array]:
    """One descent of `params -> []` by its gradient; returns the loss before it."""
    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, optimizer_state=optimizer_state), value


def _descend(
    loss: Loss, optimizer: optax.GradientTransformation, state: TrainState, xs: jax.Array
) -> tuple[TrainState, jax.Array]:
    key, loss_key = jax.random.split(state.key)
    state, value = update(optimizer, state, lambda params: loss(params, loss_key, xs))
    return state._replace(key=key, step=state.step + 1), value


def descent(model: Model, loss: Loss, optimizer: optax.GradientTransformation) -> Algorithm:
    """The algorithm that descends `loss` by `optimizer` from the model's initial parameters."""
    return Algorithm(
        init=functools.partial(init_train_state, model=model, optimizer=optimizer),
        step=lambda state, xs, indices: _descend(loss, optimizer, state, xs),
    )


def auto_encoding(
    model: Model,
    optimizer: optax.GradientTransformation,
    dataset_size: int,
    map_prior: bool = True,
    num_samples: int = 1,
    kl: KL = "analytic",
    gradient: Gradient = "pathwise",
) -> Algorithm:
    """AEVB, Algorithm 1: both networks at once, by the gradient of the bound. Arguments as for `make_loss`."""
    return descent(model, make_loss(model, dataset_size, num_samples, kl, map_prior, gradient), optimizer)


def make_train_epochs(algorithm: Algorithm, batch_size: int, binarization: Binarization = "grey") -> jax.stages.Wrapped:
    """Whole epochs, `(state, data, num_epochs) -> (state, progress)`, as one compiled program.

    Shuffling, gathering, noise, gradient and update all happen on the device that holds `data` (`[N, ...]`), and the
    number of epochs is an argument of the program, not part of it. An epoch is N // M minibatches: the N mod M
    datapoints that an epoch leaves out are other ones each time. The state's buffers are donated.

    Args:
      algorithm: from `auto_encoding`, `descent` of your own loss, or one of `aevb.baselines`.
      batch_size: M.
      binarization: "stochastic" redraws the targets of every minibatch.
    """
    return jax.jit(whole_epochs(algorithm, batch_size, binarization), donate_argnums=0)


TrainEpochs: TypeAlias = Callable[[TrainState, jax.Array, int | jax.Array], tuple[TrainState, Progress]]


def whole_epochs(algorithm: Algorithm, batch_size: int, binarization: Binarization = "grey") -> TrainEpochs:
    """What `make_train_epochs` compiles, to be transformed further first. Arguments as there."""
    check_binarization(binarization)
    # Compiled for itself, though only called where it is inlined: so that it is traced once.
    one_step = jax.jit(functools.partial(minibatch_step, algorithm, binarization))

    def epoch(state: TrainState, data: jax.Array) -> tuple[TrainState, jax.Array, jax.Array]:
        key, shuffle_key = jax.random.split(state.key)
        batches = epoch_batches(shuffle_key, data.shape[0], batch_size)
        step = lambda state, indices: one_step(state, data[indices], indices)
        return *jax.lax.scan(step, state._replace(key=key), batches), batches

    def train_epochs(state: TrainState, data: jax.Array, num_epochs: int | jax.Array) -> tuple[TrainState, Progress]:
        def body(_: jax.Array, carry: tuple[TrainState, Progress]) -> tuple[TrainState, Progress]:
            state, progress = carry
            start = state.step
            state, losses, batches = epoch(state, data)
            bad = ~jnp.isfinite(losses)
            number = jnp.where(jnp.any(bad), jnp.argmax(bad), len(bad) - 1)
            here = jnp.where(jnp.any(bad), start + number.astype(jnp.int32), -1), batches[number].astype(jnp.int32)
            known = progress.first_bad_step >= 0
            first = jax.tree.map(functools.partial(jnp.where, known), tuple(progress[1:]), here)
            return state, Progress(jnp.mean(losses), *first)

        _, loss = jax.eval_shape(one_step, state, data[:batch_size], jnp.arange(batch_size))
        nothing = Progress(jnp.zeros((), loss.dtype), jnp.int32(-1), jnp.zeros(batch_size, jnp.int32))
        return jax.lax.fori_loop(0, num_epochs, body, (state, nothing))

    return train_epochs


def epoch_batches(key: jax.Array, dataset_size: int, batch_size: int) -> jax.Array:
    """The minibatches of one epoch, in order: indices `[N // M, M]`."""
    num_batches = dataset_size // batch_size
    order = jax.random.permutation(key, dataset_size)
    return order[: num_batches * batch_size].reshape(num_batches, batch_size)


def minibatch_step(
    algorithm: Algorithm, binarization: Binarization, state: TrainState, xs: jax.Array, indices: jax.Array
) -> tuple[TrainState, jax.Array]:
    """The algorithm's step on a minibatch as it is in the data, `[M, ...]`: split over a mesh, and binarized."""
    key = fused(state.key)
    key, binarize_key = jax.random.split(key) if binarization == "stochastic" else (key, key)
    xs = binarize_batch(binarize_key, sharding.split(xs, sharding.BATCH), binarization)
    state, loss = algorithm.step(state._replace(key=key), xs, indices)
    return state._replace(key=as_jax_keeps_it(state.key)), loss


def paper_optimizer(learning_rate: float = 0.02) -> optax.GradientTransformation:
    """Adagrad as the paper used it: its accumulator starts at 0, where optax's default is 0.1.

    The step size is part of the optimizer's state and not of the compiled program, so that members of a population can
    have different ones and a second one compiles nothing.
    """
    check_learning_rate(learning_rate)
    return injected(optax.adagrad)(learning_rate=learning_rate, initial_accumulator_value=0.0)


def injected(
    make_optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    """An optimizer's maker whose optimizers keep the step size in their state; all else stays as it is."""
    numbers = set(inspect.signature(make_optimizer).parameters) - {"learning_rate"}
    return optax.inject_hyperparams(make_optimizer, static_args=tuple(numbers))


def check_learning_rate(learning_rate: float) -> None:
    """Raises `ValueError` unless the step size is a positive finite number."""
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")


def fit(
    model: Model,
    data: np.ndarray | jax.Array | Stream,
    *,
    key: jax.Array,
    test_data: np.ndarray | jax.Array | Stream | None = None,
    optimizer: optax.GradientTransformation | None = None,
    algorithm: MakeAlgorithm | None = None,
    num_epochs: int = 50,
    batch_size: int = 100,
    num_samples: int = 1,
    kl: KL = "analytic",
    map_prior: bool = True,
    binarization: Binarization = "grey",
    eval_every: int | Literal["log"] = 1,
    state: TrainState | None = None,
    seconds: float = 0.0,
    on_evaluation: Callable[[TrainState, Evaluation], None] | None = None,
    on_pause: Callable[[TrainState, float], None] | None = None,
) -> FitResult:
    """Trains a model, by AEVB unless told otherwise; defaults as in section 5.

    Nothing returns to the host between evaluations and pauses. Same key, same data, same machine: same bits. Data that
    do not fit in device memory come as a `Stream`, in the same order and with the same noise.

    Args:
      model: what to train.
      data: `[N, ...]`, float; NumPy arrays are put on the default device. Or a `Stream`.
      key: a typed key; initial weights, shuffles, noise and evaluations all derive from it.
      test_data: `[T, ...]` or a `Stream`, evaluated beside `data`.
      optimizer: any optax transformation; `None` is `paper_optimizer()`.
      algorithm: `aevb.baselines.wake_sleep`, say; `None` is `auto_encoding` with `num_samples`, `kl` and the pathwise
        gradient.
      num_epochs: when to stop, counted from the beginning also when resuming.
      batch_size: M.
      num_samples: L.
      kl: which estimator, as for `elbo`.
      map_prior: includes log p(theta) = log N(theta; 0, I).
      binarization: what the targets are; see `aevb.datasets.binarization`.
      eval_every: epochs between evaluations, or "log" for eight of them a factor of ten. There is always one before the
        first epoch and one after the last.
      state: where to go on from, a state that `on_evaluation` or `on_pause` was given; consumed.
      seconds: the training time that `state` took.
      on_evaluation: called with each new state and its `Evaluation`: to save, print or plot. The state is valid
        during the call only; copy what is to be kept.
      on_pause: called between evaluations, after every epoch or about every second, whichever is longer, and of a
        `Stream` after every block, in mid-epoch too. With the state and the seconds of training so far: to save, and
        to stop by raising. The numbers are the same with and without it.

    Returns:
      The last state and the history.

    Raises:
      ValueError: an argument out of range, named with its value.
      TypeError: a number of something that is no Python int.
      DivergedError: the objective or its gradient became NaN or infinite; says at which step and on which datapoints.
    """
    task = Task.of(model, data, test_data, optimizer, algorithm, batch_size, num_samples, kl, map_prior, binarization)
    check_schedule(num_epochs, eval_every)
    train_key, eval_key = _pair(key)
    history: list[Evaluation] = []

    def record(state: TrainState, row: Evaluation) -> None:
        history.append(row)
        if on_evaluation is not None:
            on_evaluation(state, row)

    first_row = None
    if state is None:
        initial: TrainState = sharding.place(jax.jit(task.algorithm.init)(train_key))
        state, first_row = initial, task.look_later(eval_key, initial, seconds)
    else:
        state = sharding.place(state)  # a checkpoint may come back on one device

    def pause(state: TrainState, since: float) -> None:
        if on_pause is not None:
            on_pause(state, seconds + since)

    train, epoch = task.compile(state, pause), int(state.step) // task.steps_per_epoch
    if first_row is not None:
        record(state, first_row())  # which was under way while the program was compiled
    for state, stretch, arrived in stretches(  # noqa: B020
        train, state, epoch, num_epochs, eval_every, pauses=on_pause is not None
    ):
        seconds += stretch
        if arrived:
            record(state, task.look(eval_key, state, seconds))
        elif on_pause is not None:
            on_pause(state, seconds)
    return FitResult(state, history)


class Task(NamedTuple):
    """What is trained on what: `fit` without its beginning and end.

    Attributes:
      algorithm: what is done with a minibatch.
      splits: the training data `[N, ...]` and, where there are any, the test data, after `binarize_once`; or streams.
      batch_size: M.
      binarization: what the targets are.
      bound_later: `(params, key, split)`, `evaluate_later` with what it takes beside these.
    """

    algorithm: Algorithm
    splits: list[jax.Array | Stream]
    batch_size: int
    binarization: Binarization
    bound_later: functools.partial[Callable[[], Bound]]

    @classmethod
    def of(
        cls,
        model: Model,
        data: np.ndarray | jax.Array | Stream,
        test_data: np.ndarray | jax.Array | Stream | None = None,
        optimizer: optax.GradientTransformation | None = None,
        algorithm: MakeAlgorithm | None = None,
        batch_size: int = 100,
        num_samples: int = 1,
        kl: KL = "analytic",
        map_prior: bool = True,
        binarization: Binarization = "grey",
    ) -> "Task":
        """Checks and assembles the arguments of `fit`."""
        _check_data(data, test_data, batch_size)
        optimizer = paper_optimizer() if optimizer is None else optimizer
        make_algorithm = algorithm or functools.partial(auto_encoding, num_samples=num_samples, kl=kl)
        return cls(
            make_algorithm(model, optimizer, len(data), map_prior),
            [_prepare(split, binarization) for split in (data, test_data) if split is not None],
            batch_size,
            binarization,
            functools.partial(evaluate_later, model=model, num_samples=num_samples, kl=kl, binarization=binarization),
        )

    @property
    def steps_per_epoch(self) -> int:
        """N // M."""
        return len(self.splits[0]) // self.batch_size

    def compile(
        self, state: TrainState, on_block: Callable[[TrainState, float], None]
    ) -> Callable[[TrainState, int], TrainState]:
        """`(state, num_epochs) -> state`, compiled, that waits for the device and raises `DivergedError`.

        Args:
          state: like those that will be trained.
          on_block: called in the middle of an epoch of a `Stream`, with the state and the seconds since the call.
        """
        train_epochs = self._compile(state, on_block)

        def train(state: TrainState, num_epochs: int) -> TrainState:
            state, progress = train_epochs(state, num_epochs)
            if int(progress.first_bad_step) >= 0:
                raise self.diverged(state, progress)
            return state

        return train

    def diverged(self, last_good: TrainState, progress: Progress, member: int | None = None) -> DivergedError:
        """What went wrong first, found by training again from the last good state, with an eye on every parameter.

        Only losses are looked at while all is well, and a gradient that is not finite shows in the next step's. This
        takes at most as long as the training from `last_good` did, and a compilation.

        Args:
          last_good: the state before it happened; consumed.
          progress: what the epochs from there reported.
          member: which one of a population.
        """
        first, last = (int(step) // self.steps_per_epoch for step in (last_good.step, progress.first_bad_step))
        watchful = self._replace(algorithm=looking_at_parameters(self.algorithm))
        _, again = watchful._compile(last_good, None)(last_good, last - first + 1)
        # Two programs need not round alike: what overflows in one need not in the other.
        found = again if int(again.first_bad_step) >= 0 else progress
        return DivergedError.at(int(found.first_bad_step), np.asarray(found.indices).tolist(), member)

    def _compile(self, state: TrainState, on_block: Callable[[TrainState, float], None] | None) -> Any:
        """`(state, num_epochs) -> (state, progress)`, `keeping_the_last_good_state`."""
        data = self.splits[0]
        if isinstance(data, Stream):
            return keeping_the_last_good_state(self._compile_stream(data, state, on_block))
        if state.shuffle_key is not None:
            raise ValueError(f"the state is in the middle of an epoch, at step {int(state.step)}: go on with a Stream")
        train_epochs = make_train_epochs(self.algorithm, self.batch_size, self.binarization)
        compiled = train_epochs.lower(state, data, 1).compile()
        return keeping_the_last_good_state(lambda state, num_epochs: compiled(state, data, num_epochs))

    def _compile_stream(
        self, stream: Stream, state: TrainState, on_block: Callable[[TrainState, float], None] | None
    ) -> Any:
        order = functools.partial(epoch_batches, dataset_size=len(stream), batch_size=self.batch_size)
        step = functools.partial(minibatch_step, self.algorithm, self.binarization)
        train_epochs = compile_epochs(step, order, state, stream, self.binarization, on_block)

        def train(state: TrainState, num_epochs: int) -> tuple[TrainState, Progress]:
            state, *first_bad = train_epochs(state, num_epochs)
            return state, Progress(jnp.float32(jnp.nan), *first_bad)  # a mean loss that nobody asks for

        return train

    def look(self, key: jax.Array, state: TrainState, seconds: float, member: int | None = None) -> Evaluation:
        """The bounds of the training split and, where there is one, the test split.

        Raises:
          DivergedError: the bound of the training split is not finite.
        """
        return self.look_later(key, state, seconds, member)()

    def look_later(
        self, key: jax.Array, state: TrainState, seconds: float, member: int | None = None
    ) -> Callable[[], Evaluation]:
        """`look` that does not wait for the device: what it returns does."""
        step = int(state.step)
        epoch = step // self.steps_per_epoch
        missing = Bound(float("nan"), float("nan"), float("nan"), 0)
        if self.algorithm.evaluated_params is None:
            row = Evaluation(epoch, step * self.batch_size, missing.elbo, *missing, seconds)
            return lambda: row
        *keys, params_key = _evaluation_keys(key, epoch)
        params = self.algorithm.evaluated_params(state.params, params_key)
        bounds = [self.bound_later(params, key, split) for key, split in zip(keys, self.splits, strict=False)]

        def finish() -> Evaluation:
            train, *test = (bound() for bound in bounds)
            if not np.isfinite(train.elbo):
                indices = non_finite_datapoints(params, keys[0], self.splits[0], **self.bound_later.keywords)
                raise DivergedError.in_evaluation(step, train.elbo, indices, member)
            test_bound = test[0] if test else missing._replace(active_units=train.active_units)
            return Evaluation(epoch, step * self.batch_size, train.elbo, *test_bound, seconds)

        return finish


# Programs, because each operation on keys by itself is one too, of 20 ms at every start.
@jax.jit
def _pair(key: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jax.random.split(key))


@jax.jit
def _evaluation_keys(key: jax.Array, epoch: int | jax.Array) -> tuple[jax.Array, ...]:
    """Of the training split, the test split and the parameters."""
    return tuple(jax.random.split(jax.random.fold_in(key, epoch), 3))


def stretches(
    train: Callable[[TrainState, int], TrainState],
    state: TrainState,
    epoch: int,
    num_epochs: int,
    eval_every: int | Literal["log"],
    pauses: bool,
) -> Iterator[tuple[TrainState, float, bool]]:
    """Trains from one evaluation to the next, in pieces of about a second if there are to be pauses.

    Args:
      train: `(state, num_epochs) -> state`, after which nothing is under way.
      state: after `epoch` epochs.
      epoch: where to begin.
      num_epochs: where to stop, counted from the beginning.
      eval_every: as for `fit`.
      pauses: whether pieces are to be short.

    Yields:
      The state after each piece, the seconds that it took, and whether it is time for an evaluation.
    """
    longest = 1 if pauses else num_epochs
    while epoch < num_epochs:
        start = time.perf_counter()
        goal = min(next_look(epoch, eval_every), num_epochs)
        epochs = min(goal - epoch, longest)
        state = train(state, epochs)
        epoch += epochs
        seconds = time.perf_counter() - start
        if pauses:
            longest = sharding.agreed(max(1, int(epochs * _SECONDS_BETWEEN_PAUSES / seconds)))
        yield state, seconds, epoch == goal


def next_look(epoch: int, eval_every: int | Literal["log"]) -> int:
    """The epoch of the next evaluation, a function of `epoch` alone: where a run was cut in two does not move it."""
    if eval_every != "log":
        return epoch - epoch % eval_every + eval_every
    exponents = itertools.count()
    return next(look for k in exponents if (look := math.ceil(10 ** (k / _LOOKS_PER_DECADE))) > epoch)


def _prepare(data: np.ndarray | jax.Array | Stream, binarization: Binarization) -> jax.Array | Stream:
    if isinstance(data, Stream):
        data.check(binarization)
        return data
    data = data if hasattr(data, "dtype") else np.asarray(data)
    check_floating(data.dtype)
    return binarize_once(sharding.place_rows(data), binarization)


def _check_data(data: Any, test_data: Any, batch_size: int) -> None:
    check_integers(batch_size=batch_size)
    if not 1 <= batch_size <= len(data):
        raise ValueError(f"batch_size must be between 1 and the dataset's {len(data)}, got {batch_size}")
    if batch_size % (parts := sharding.axis_size(sharding.BATCH)):
        raise ValueError(f"batch_size must divide over the {parts} devices of a minibatch, got {batch_size}")
    if test_data is not None and len(test_data) == 0:
        raise ValueError("test_data is empty: leave it out instead")


def check_schedule(num_epochs: int, eval_every: int | Literal["log"]) -> None:
    """Raises `ValueError` or `TypeError` for what `fit` does not take."""
    check_counts(0, num_epochs=num_epochs)
    if eval_every != "log" and (not isinstance(eval_every, int) or isinstance(eval_every, bool) or eval_every < 1):
        raise ValueError(f'eval_every must be at least 1, or "log", got {eval_every!r}')
