"""What a training algorithm is, and what training carries from step to step: the records that all of it shares."""

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
      optimizer_state: whatever the optax transformation keeps.
      key: the typed key that all further shuffles and noise come from.
      step: `[]` int32, minibatches done.
      carry: what else an algorithm keeps: Monte Carlo EM's latents, for one.
      shuffle_key: in the middle of an epoch, the typed key that the epoch's order was drawn by.
    """

    params: Params
    optimizer_state: Any
    key: jax.Array
    step: jax.Array
    carry: Any = ()
    shuffle_key: jax.Array | None = None


class Progress(NamedTuple):
    """What a number of epochs report.

    Attributes:
      loss: `[]`, the mean loss over the last epoch.
      first_bad_step: `[]` int32, the first step whose loss was not finite, or -1.
      indices: `[M]` int32, where the datapoints of that step's minibatch are in the data; the last step's if none was
        bad.
    """

    loss: jax.Array
    first_bad_step: jax.Array
    indices: jax.Array


class Loss(Protocol):
    """`(params, key, xs) -> []`: what a step descends. `xs` is a minibatch, leaves `[M, ...]`.

    A loss that has a parameter named `step` is given the number of steps done, `[]` int32, as well.
    """

    def __call__(self, params: Params, key: jax.Array, xs: Datapoint) -> jax.Array: ...


class Init(Protocol):
    """`(key, x) -> TrainState`: the initial state; `x` is one datapoint, for its shapes, and needed by few."""

    def __call__(self, key: jax.Array, x: Datapoint | None = None) -> TrainState: ...


Bucket: TypeAlias = Callable[[Datapoint], jax.Array]
"""`x -> []` int32, the number of a datapoint's bucket."""


class Algorithm(NamedTuple):
    """A way to train a model.

    Attributes:
      init: `(key, x) -> TrainState`.
      step: `(state, xs, indices) -> (state, loss)` for a minibatch `xs`, leaves `[M, ...]`, and the positions of its
        datapoints in the data, `[M]`. `loss` is `[]`; a run stops where it is not finite.
      evaluated_params: `(params, key) -> params`, those of the model whose bound is reported; `None` where there is no
        recognition model and so no bound.
      estimator: how the bound is estimated that it ascends, and by default the one that is reported.
      bucket: `x -> []` int32, the number of a datapoint's bucket: minibatches are made of datapoints of one bucket, so
        far as the sizes of buckets allow. `None` where any make a minibatch.
    """

    init: Init
    step: Callable[[TrainState, Datapoint, jax.Array], tuple[TrainState, jax.Array]]
    evaluated_params: Callable[[Params, jax.Array], Params] | None = lambda params, key: params
    estimator: Estimator = Estimator()
    bucket: Bucket | None = None


class MakeAlgorithm(Protocol):
    """What `fit` calls for its algorithm: `auto_encoding`, `wake_sleep` or another of `aevb.algorithms`."""

    def __call__(
        self, model: Model, optimizer: optax.GradientTransformation, dataset_size: int, map_prior: bool
    ) -> Algorithm: ...


def check_algorithm(algorithm: Any) -> None:
    """Raise `TypeError` unless `algorithm` is an `Algorithm`."""
    if not isinstance(algorithm, Algorithm):
        example = "aevb.auto_encoding(model, optimizer, dataset_size) makes one"
        raise TypeError(f"algorithm must be an aevb.Algorithm, got {describe(algorithm)}: {example}")


def descent(
    model: Model, loss: Loss, optimizer: optax.GradientTransformation, estimator: Estimator | None = None
) -> Algorithm:
    """Return the algorithm that descends `loss` by `optimizer` from the model's initial parameters.

    Args:
      model: whose `init` makes the parameters.
      loss: `(params, key, xs) -> []`, from `make_loss` or your own.
      optimizer: any optax transformation.
      estimator: of the bound that is reported.
    """
    check_model(model)
    step = descent_step(loss, optimizer)
    init = functools.partial(_init_without_data, model, optimizer)
    return Algorithm(init, lambda state, xs, indices: step(state, xs), estimator=estimator or Estimator())


def descent_step(
    loss: Loss, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Datapoint], tuple[TrainState, jax.Array]]:
    """Return `(state, xs) -> (state, loss)`: noise, gradient and update of one minibatch."""
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
    """Descend `loss`, `params -> []`, once by its gradient; return its value before that as well."""
    value, gradient = jax.value_and_grad(loss)(state.params)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, optimizer_state=optimizer_state), value


def init_train_state(key: jax.Array, model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """Return initial parameters, a fresh optimizer, and a key for training that differs from the initial one."""
    check_key(key)
    check_model(model)
    check_optimizer(optimizer)
    init_key, train_key = jax.random.split(key)
    params = model.init(init_key)
    return TrainState(params, optimizer.init(params), train_key, jnp.zeros((), jnp.int32))


def standard_normal_log_prior(params: Params) -> jax.Array:
    """Return log p(theta) under p(theta) = N(0, I), up to its constant, in nats (section 2.3, the MAP estimate).

    theta are the generative parameters, `params["decoder"]`; phi has no prior.

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
