"""Inference programs: estimates of log p(x), posteriors, sequences, classification, hidden Markov models."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import aevb
from aevb import classification, discrete, hidden_markov, prediction
from aevb.hidden_markov import decoding, inference, learning, sampling
from aevb.marginal_likelihood import dataset
from aevb.posterior import batches, draws, missing
from aevb.sequences import paths, predictions, states
from tests.accelerators.abstract import Program, array, key, shapes_of
from tests.models import CASES

_PLAIN, _PATHS, _LABELS = CASES["plain"], CASES["deep markov"], CASES["conditional mlp"]
_POSITIONS = array(8, dtype=jnp.int32)
_HIDDEN = hidden_markov.bernoulli()


def _of(program: Any, case: Any, *arguments: Any, data: Any = None, positions: bool = True, **options: Any) -> Program:
    """Return a program that takes `(params, key, data, positions, ...)` with 8 datapoints."""
    params = jax.eval_shape(case.model.init, key())
    data = shapes_of(case.data, 8) if data is None else data
    places = (_POSITIONS,) if positions else ()
    return Program(program, (params, key(), data, *places, *arguments), {"model": case.model} | options)


def _log_marginal(platform: str, method: Any, case: Any = _PLAIN, **options: Any) -> Program:
    static = {"method": method, "options": tuple(sorted(options.items()))}
    return _of(dataset.program_for(platform), case, **static)


def _posterior_draws(platform: str, method: Any) -> Program:
    options = draws.checked_options(method, None, 8, 2, 4, 8, 10)
    return _of(draws.compiled_for(platform, draws._draw_chunk), _PLAIN, options=options)


def _imputed(platform: str) -> Program:
    options = draws.checked_options("hmc", None, 8, 2, 4, 8, 10)
    program = _of(draws.compiled_for(platform, missing._impute_chunk), _PLAIN, options=options)
    others = {"chosen": array(4, dtype=jnp.int32), "truth": shapes_of(_PLAIN.data, 8)}
    return program._replace(options=(program.options or {}) | others)


def _sequences(program: Any, method: Any, data: Any = None, **options: Any) -> Program:
    return _of(program, _PATHS, data=data, draws=paths.Draws(method, 3, 5), **options)


def _hidden(program: Any, *others: Any, x: bool = True, with_emission: bool = True) -> Program:
    parameters = jax.eval_shape(lambda key, x: learning._initialize(key, x, 3, _HIDDEN), key(), array(6, 7, 4))
    data = (array(6, 7, 4), array(6, dtype=jnp.int32)) if x else ()
    return Program(program, (parameters, *data, *others, *((_HIDDEN,) if with_emission else ())))


def _em_steps() -> Program:
    one = _hidden(None).arguments[0]
    several = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), one)
    data = learning._Data(array(6, 7, 4), array(6, dtype=jnp.int32))
    return Program(learning._em_steps, (several, data, data, 0.1, _HIDDEN), {"num_steps": 3})


def _initial_states() -> Program:
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    return Program(learning._initialize_all, (keys, array(6, 7, 4)), {"num_states": 3, "emission": _HIDDEN})


def _sampled_states() -> Program:
    options = {"num_steps": 5, "num_sequences": 4}
    return Program(sampling._sample, (_hidden(None).arguments[0], key(), _HIDDEN), options)


def _classes() -> Program:
    value = shapes_of(_LABELS.data.value, 8)
    options: dict[str, Any] = {"estimator": aevb.Estimator(), "binarization": "grey", "num_classes": 3}
    return _of(classification._bounds_of_classes, _LABELS, data=value, **options)


def _class_probabilities() -> Program:
    case = CASES["semi-supervised"]
    arguments = (jax.eval_shape(case.model.init, key()), shapes_of(case.data, 8))
    return Program(discrete._probabilities, arguments, {"model": case.model})


def _predicted(density: bool) -> Program:
    case = CASES["supervised"]
    conditions = shapes_of(case.data.condition, 8)
    if not density:
        return _of(prediction._predict_chunk, case, data=conditions, num_samples=4)
    values = shapes_of(case.data.value, 5)
    return _of(prediction._density_chunk, case, values, data=conditions, num_samples=4)


def _sampled() -> Program:
    params = jax.eval_shape(_PLAIN.model.init, key())
    return Program(
        batches._sample_chunk, (params, key(), _POSITIONS, None), {"model": _PLAIN.model, "mean": False, "fixed": ()}
    )


def _log_likelihood() -> Program:
    xs = shapes_of(_PATHS.data, 8)
    return _sequences(predictions._log_likelihood, "posterior", data=(xs, xs))


PROGRAMS: dict[str, Callable[..., Program]] = {
    "log p(x), importance sampling": lambda platform, _: _log_marginal(platform, "is", num_samples=100),
    "log p(x), Hamiltonian Monte Carlo": lambda platform, _: _log_marginal(platform, "hmc"),
    "log p(x), annealed importance sampling": lambda platform, _: _log_marginal(platform, "ais"),
    "log p(x), mixture": lambda platform, _: _log_marginal(platform, "mixture"),
    "log p(x), particle filter": lambda platform, _: _log_marginal(platform, "particle", _PATHS, num_samples=8),
    "encoding": lambda *_: _of(batches._encode_chunk, _PLAIN, num_samples=3),
    "reconstruction": lambda *_: _of(batches._reconstruct_chunk, _PLAIN, num_samples=3),
    "sampling": lambda *_: _sampled(),
    "posterior draws, hmc": lambda platform, _: _posterior_draws(platform, "hmc"),
    "posterior draws, refined": lambda platform, _: _posterior_draws(platform, "refined"),
    "in-painting": lambda platform, _: _imputed(platform),
    "prediction": lambda *_: _predicted(density=False),
    "prediction, densities": lambda *_: _predicted(density=True),
    "classification by bounds": lambda *_: _classes(),
    "classification by q": lambda *_: _class_probabilities(),
    "sequences, smoothing": lambda *_: _sequences(states._smooth, "posterior"),
    "sequences, smoothing by particles": lambda *_: _sequences(states._smooth, "particle"),
    "sequences, filtering": lambda *_: _sequences(states._filter, "bootstrap"),
    "sequences, forecast": lambda *_: _sequences(predictions._forecast, "particle", horizon=2, mean=False),
    "sequences, imputation": lambda *_: _sequences(predictions._impute, "posterior", mean=True),
    "sequences, log-likelihood": lambda *_: _log_likelihood(),
    "hidden Markov, EM": lambda *_: _em_steps(),
    "hidden Markov, initial parameters": lambda *_: _initial_states(),
    "hidden Markov, sampling": lambda *_: _sampled_states(),
    "hidden Markov, log-likelihood": lambda *_: _hidden(inference._log_likelihood),
    "hidden Markov, filtering": lambda *_: _hidden(inference._filtered),
    "hidden Markov, expected counts": lambda *_: _hidden(inference.expected_counts_of),
    "hidden Markov, most probable paths": lambda *_: _hidden(decoding._viterbi),
}
