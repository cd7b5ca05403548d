"""Every program of the library as a jitted function with abstract arguments. Nothing is computed.

`PROGRAMS` lists them all. tests/test_accelerators.py lowers each of them for CUDA and TPU, and fails if a compiled
function of `aevb` is in none of them. The report, `python -m tests.accelerators`, compiles the main programs of a run.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax

import aevb
from aevb import algorithms, evaluation
from aevb.algorithms import MakeAlgorithm
from aevb.training import epochs, members, padding
from tests.accelerators import inference
from tests.accelerators.abstract import Program, array, count, key, shapes_of
from tests.models import CASES, Case


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the paper's networks and their training data.

    Attributes:
      num_rows: The number of datapoints, N.
      data_shape: The shape of a datapoint.
      hidden: Units per hidden layer.
      latent: The number of latents, J.
      batch: Datapoints per minibatch, M.
      members: Members of a population.
    """

    num_rows: int = 60_000
    data_shape: tuple[int, ...] = (28, 28)
    hidden: int = 500
    latent: int = 20
    batch: int = 100
    members: int = 30


PAPER, SMALL = Sizes(), Sizes(1000, (8, 8), 32, 5, 20, 4)

Make: TypeAlias = Callable[[str, Sizes], Program]
"""`(platform, sizes) -> program`; `platform` is "cpu", "cuda" or "tpu"."""


def training_program(
    sizes: Sizes,
    binarization: Any = "grey",
    make: MakeAlgorithm = aevb.auto_encoding,
    **model_options: Any,
) -> Program:
    """Return the program for whole epochs of the paper's network."""
    model = aevb.mlp_vae(sizes.data_shape, sizes.latent, sizes.hidden, **model_options)
    algorithm = make(model, aevb.paper_optimizer(), sizes.num_rows, True)
    program = aevb.make_train_epochs(algorithm, sizes.batch, binarization)
    state = jax.eval_shape(algorithm.init, key())
    return Program(program, (state, array(sizes.num_rows, *sizes.data_shape), count()), donates=True)


def population_program(sizes: Sizes, binarization: Any = "grey") -> Program:
    """Return the program for whole epochs of members side by side, whose latent sizes may differ."""
    model = aevb.mlp_vae(sizes.data_shape, sizes.latent, sizes.hidden)
    optimizer = padding.padded(aevb.paper_optimizer(), model)
    algorithm = aevb.auto_encoding(model, optimizer, sizes.num_rows)
    step = epochs.minibatch_step(algorithm, binarization)
    program = members.side_by_side(epochs.whole_epochs(step, sizes.batch))
    one = jax.eval_shape(algorithm.init, key())
    states = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((sizes.members, *leaf.shape), leaf.dtype), one)
    return Program(program, (states, array(sizes.num_rows, *sizes.data_shape), count()), donates=True)


def evaluation_program(sizes: Sizes, binarization: Any = "grey") -> Program:
    """Return the evaluation program for a split of three chunks; a single chunk would leave no loop."""
    model = aevb.mlp_vae(sizes.data_shape, sizes.latent, sizes.hidden)
    params = jax.eval_shape(model.init, key())
    arguments = (params, key(), array(3 * sizes.num_rows // 6, *sizes.data_shape), count())
    return Program(
        evaluation._evaluate_chunks, arguments, _evaluated(model, aevb.Estimator(), sizes.num_rows // 6, binarization)
    )


def case_training(case: Case) -> Program:
    """Return the program for whole epochs of a model on its data."""
    algorithm = aevb.auto_encoding(case.model, aevb.paper_optimizer(), 24, estimator=case.estimator, map_prior=False)
    state = jax.eval_shape(algorithm.init, key(), shapes_of(case.data, first=None))
    return Program(aevb.make_train_epochs(algorithm, 6), (state, shapes_of(case.data), count()), donates=True)


def case_evaluation(case: Case) -> Program:
    """Return the evaluation program for a model on its data."""
    params = jax.eval_shape(case.model.init, key())
    options = _evaluated(case.model, case.estimator, 8)
    return Program(evaluation._evaluate_chunks, (params, key(), shapes_of(case.data), count()), options)


def _evaluated(model: Any, estimator: Any, chunk_size: int, binarization: Any = "grey") -> dict[str, Any]:
    settings = {"model": model, "estimator": estimator, "binarization": binarization}
    return settings | {"active_units": None, "chunk_size": chunk_size}


def _by(make: Callable[..., Any], **options: Any) -> MakeAlgorithm:
    return functools.partial(make, **options)


def _one_step(sizes: Sizes) -> Program:
    model = aevb.mlp_vae(sizes.data_shape, sizes.latent, sizes.hidden)
    optimizer = aevb.paper_optimizer()
    program = aevb.make_train_step(aevb.make_loss(model, sizes.num_rows), optimizer)
    state = jax.eval_shape(functools.partial(aevb.init_train_state, model=model, optimizer=optimizer), key())
    return Program(program, (state, array(sizes.batch, *sizes.data_shape)), donates=True)


def _part_of_epoch(sizes: Sizes) -> Program:
    whole = training_program(sizes)
    model = aevb.mlp_vae(sizes.data_shape, sizes.latent, sizes.hidden)
    step = epochs.minibatch_step(aevb.auto_encoding(model, aevb.paper_optimizer(), sizes.num_rows), "grey")
    program = jax.jit(epochs.part_of_epoch(step, sizes.batch), donate_argnums=0)
    state, data, _ = whole.arguments
    return Program(program, (state._replace(shuffle_key=key()), data, count(), count()), donates=True)


def _few_labels() -> Program:
    case = CASES["semi-supervised"]
    labelled = jax.tree.map(lambda leaf: leaf[::3], case.data)
    algorithm = algorithms.semi_supervised(case.model, aevb.paper_optimizer(), 24, labelled=labelled, num_labelled=4)
    state = jax.eval_shape(algorithm.init, key())
    return Program(aevb.make_train_epochs(algorithm, 6), (state, shapes_of(case.data), count()), donates=True)


def _buckets() -> Program:
    case = CASES["deep markov"]
    algorithm = algorithms.bucketed([3])(case.model, aevb.paper_optimizer(), 24, True)
    state = jax.eval_shape(algorithm.init, key())
    return Program(aevb.make_train_epochs(algorithm, 6), (state, shapes_of(case.data), count()), donates=True)


_IWAE = aevb.Estimator(5, "sampled", "doubly_reparameterized", "iwae")

PROGRAMS: dict[str, Make] = {
    "training, grey": lambda _, sizes: training_program(sizes),
    "training, stochastic": lambda _, sizes: training_program(sizes, "stochastic"),
    "training, bfloat16 products": lambda _, sizes: training_program(sizes, compute_dtype="bfloat16"),
    "training, full covariance": lambda _, sizes: training_program(
        sizes, make=_by(aevb.auto_encoding, estimator=aevb.Estimator(kl="sampled")), posterior="full_covariance"
    ),
    "training, flow": lambda _, sizes: training_program(
        sizes, make=_by(aevb.auto_encoding, estimator=aevb.Estimator(kl="sampled")), posterior="flow"
    ),
    "training, importance weighted": lambda _, sizes: training_program(
        sizes, make=_by(aevb.auto_encoding, estimator=_IWAE)
    ),
    "training, one step": lambda _, sizes: _one_step(sizes),
    "training, part of an epoch": lambda _, sizes: _part_of_epoch(sizes),
    "training, few labels": lambda *_: _few_labels(),
    "training, length buckets": lambda *_: _buckets(),
    "population": lambda _, sizes: population_program(sizes),
    "population, stochastic": lambda _, sizes: population_program(sizes, "stochastic"),
    "wake-sleep": lambda _, sizes: training_program(sizes, make=algorithms.wake_sleep),
    "Monte Carlo EM": lambda _, sizes: training_program(sizes, make=algorithms.monte_carlo_em),
    "full variational Bayes": lambda _, sizes: training_program(sizes, make=algorithms.full_vb),
    "evaluation": lambda _, sizes: evaluation_program(sizes),
    "evaluation, stochastic": lambda _, sizes: evaluation_program(sizes, "stochastic"),
    **{f"training, {name}": lambda *_, case=case: case_training(case) for name, case in CASES.items()},
    **{f"evaluation, {name}": lambda *_, case=case: case_evaluation(case) for name, case in CASES.items()},
    **inference.PROGRAMS,
}
