"""The definition of a training algorithm and the records that all training code shares."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax

from aevb.arguments import check_key, check_optimizer, describe
from aevb.model import Datapoint, Model, Params, check_model
from aevb.objectives import Estimator


class TrainState(NamedTuple):
    """Everything that training carries from one step to the next.

    Attributes:
      params: theta and phi.
      optimizer_state: the state of the optax transformation.
      key: the typed key from which all further shuffles and noise are derived.
      step: `[]` int32, the number of minibatches done.
      carry: other state of an algorithm, for example the latents of Monte Carlo EM.
      shuffle_key: in mid-epoch, the typed key from which the order of the epoch was drawn; else `None`.
    """

    params: Params
    optimizer_state: Any
    key: jax.Array
    step: jax.Array
    carry: Any = ()
    shuffle_key: jax.Array | None = None


_KEYS = ("key", "shuffle_key")  # entries of a state that are typed keys


def arrays_of(state: TrainState) -> dict[str, Any]:
    """Return a state as plain arrays: typed keys as their bits; a carry and a shuffle key only if the state has one."""
    arrays = state._asdict()
    for name in ("carry", "shuffle_key"):
        if not jax.tree.leaves(arrays[name]):
            del arrays[name]
    arrays |= {name: jax.random.key_data(arrays[name]) for name in _KEYS if name in arrays}
    # With several processes, each holds the whole state, but none may use it as a device array on its own.
    return arrays if jax.process_count() == 1 else jax.device_get(arrays)


def state_of(arrays: Any, key_impl: Any) -> TrainState:
    """Return the state that `arrays_of` was given, with keys of the implementation `key_impl`."""
    keys = {name: jax.random.wrap_key_data(arrays[name], impl=key_impl) for name in _KEYS if name in arrays}
    return TrainState(**(arrays | keys))


class Progress(NamedTuple):
    """The report of one or more epochs.

    Attributes:
      loss: `[]`, the mean loss over the last epoch.
      first_bad_step: `[]` int32, the first step with a non-finite loss, or -1.
      indices: `[M]` int32, the positions in the data of the minibatch of that step; of the last step if none was bad.
    """

    loss: jax.Array
    first_bad_step: jax.Array
    indices: jax.Array


class Loss(Protocol):
    """`(params, key, xs) -> []`: the loss that a step descends. `xs` is a minibatch, leaves `[M, ...]`.

    If the function has a parameter named `step`, it also receives the number of steps done, `[]` int32.
    """

    def __call__(self, params: Params, key: jax.Array, xs: Datapoint) -> jax.Array: ...


class Init(Protocol):
    """`(key, x) -> TrainState`: the initial state. `x` is one datapoint, whose shapes few algorithms need."""

    def __call__(self, key: jax.Array, x: Datapoint | None = None) -> TrainState: ...


Bucket: TypeAlias = Callable[[Datapoint], jax.Array]
"""`x -> []` int32, the number of a datapoint's bucket."""


class Algorithm(NamedTuple):
    """A way to train a model.

    Attributes:
      init: `(key, x) -> TrainState`.
      step: `(state, xs, indices) -> (state, loss)` for a minibatch `xs`, leaves `[M, ...]`, and the positions of its
        datapoints in the data, `[M]`. `loss` is `[]`; a run stops if it is not finite.
      evaluated_params: `(params, key) -> params`, the parameters of the model whose bound is reported; `None` if there
        is no recognition model and therefore no bound.
      estimator: the estimator of the bound that the algorithm maximizes, and by default of the reported bound.
      bucket: `x -> []` int32, the bucket number of a datapoint. A minibatch consists of datapoints of one bucket, as
        far as the sizes of buckets allow. `None` for minibatches of any datapoints.
    """

    init: Init
    step: Callable[[TrainState, Datapoint, jax.Array], tuple[TrainState, jax.Array]]
    evaluated_params: Callable[[Params, jax.Array], Params] | None = lambda params, key: params
    estimator: Estimator = Estimator()
    bucket: Bucket | None = None


class MakeAlgorithm(Protocol):
    """The function that `fit` calls to make its algorithm: `auto_encoding`, `wake_sleep` or a similar function."""

    def __call__(
        self, model: Model, optimizer: optax.GradientTransformation, dataset_size: int, map_prior: bool
    ) -> Algorithm: ...


def check_algorithm(algorithm: Any) -> None:
    """Raise `TypeError` unless `algorithm` is an `Algorithm`."""
    if not isinstance(algorithm, Algorithm):
        example = "aevb.auto_encoding(model, optimizer, dataset_size) returns one"
        raise TypeError(f"algorithm must be an aevb.Algorithm, got {describe(algorithm)}: {example}")


def descent(
    model: Model, loss: Loss, optimizer: optax.GradientTransformation, estimator: Estimator | None = None
) -> Algorithm:
    """Return the algorithm that minimizes `loss` with `optimizer`, starting at the model's initial parameters.

    Args:
      model: the model; its `init` makes the parameters.
      loss: `(params, key, xs) -> []`, from `make_loss` or your own.
      optimizer: any optax transformation.
      estimator: the estimator of the reported bound.
    """
    check_model(model)
    step = descent_step(loss, optimizer)
    init = functools.partial(_init_without_data, model, optimizer)
    return Algorithm(init, lambda state, xs, indices: step(state, xs), estimator=estimator or Estimator())


def descent_step(
    loss: Loss, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Datapoint], tuple[TrainState, jax.Array]]:
    """Return `(state, xs) -> (state, loss)`: the noise, gradient and update for one minibatch."""
    check_optimizer(optimizer)
    takes_step = "step" in inspect.signature(loss).parameters

    def step(state: TrainState, xs: Datapoint) -> tuple[TrainState, jax.Array]:
        key, loss_key = jax.random.split(state.key)
        options: dict[str, Any] = {"step": state.step} if takes_step else {}
        state, value = update(optimizer, state, lambda params: loss(params, loss_key, xs, **options))
        return state._replace(key=key, step=state.step + 1), value

    return step


def update(
    optimizer: optax.GradientTransformation, state: TrainState, loss: Callable[[Params], jax.Array]
) -> tuple[TrainState, jax.Array]:
    """Make one gradient step on `loss`, `params -> []`. Return the new state and the value before the step."""
    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, optimizer_state=optimizer_state), value


def init_train_state(key: jax.Array, model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """Return a state with initial parameters, a new optimizer state, and a training key derived from `key`."""
    check_key(key)
    check_model(model)
    check_optimizer(optimizer)
    init_key, train_key = jax.random.split(key)
    params = model.init(init_key)
    return TrainState(params, optimizer.init(params), train_key, jnp.zeros((), jnp.int32))


def standard_normal_log_prior(params: Params) -> jax.Array:
    """Return log p(theta) under p(theta) = N(0, I), up to its constant, in nats (section 2.3, the MAP estimate).

    theta is the generative parameters, `params["decoder"]`; phi has no prior.

    Raises:
      ValueError: `params` has no entry "decoder".
    """
    if not isinstance(params, dict) or "decoder" not in params:
        found = sorted(params) if isinstance(params, dict) else type(params).__name__
        raise ValueError(f'the MAP prior is over params["decoder"], but params are {found}: pass map_prior=False')
    return -0.5 * optax.tree.norm(params["decoder"], squared=True)


def _init_without_data(
    model: Model, optimizer: optax.GradientTransformation, key: jax.Array, x: Datapoint | None = None
) -> TrainState:
    del x
    return init_train_state(key, model, optimizer)
