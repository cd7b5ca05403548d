"""Donated states, and wrong files: answered at once, in one or two lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aevb
from aevb.checkpoints import RunError
from tests.newcomers import (
    LINEAR,
    OPTIMIZER,
    PIXEL_MODEL,
    PIXEL_WEIGHTS,
    SIZE,
    WEIGHTS,
    XS,
    assert_answered,
    elbo,
    encoded,
    evaluate,
    fit,
    marginal,
    sample,
    state_of,
    wrong,
)

# A state that was donated to a training step


@pytest.fixture(scope="module")
def used() -> dict[str, Any]:
    """States whose buffers were donated, by the function that took them."""
    state, in_epochs = state_of(), state_of()
    aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), OPTIMIZER)(state, XS[:10])
    aevb.make_train_epochs(aevb.auto_encoding(LINEAR, OPTIMIZER, SIZE), 10)(in_epochs, XS, 1)
    kept = []
    result = fit(optimizer=OPTIMIZER, num_epochs=2, on_evaluation=lambda state, row: kept.append(state))
    fit(optimizer=OPTIMIZER, num_epochs=3, state=result.state)
    return {"a step": state, "epochs": in_epochs, "fit": result.state, "fit, kept from a callback": kept[0]}


AGAIN: dict[str, Callable[[Any], Any]] = {
    "make_train_step": lambda state: aevb.make_train_step(aevb.make_loss(LINEAR, SIZE), OPTIMIZER)(state, XS[:10]),
    "make_train_epochs": lambda state: aevb.make_train_epochs(aevb.auto_encoding(LINEAR, OPTIMIZER, SIZE), 10)(
        state, XS, 1
    ),
    "fit": lambda state: fit(optimizer=OPTIMIZER, num_epochs=4, state=state),
    "elbo": lambda state: elbo(params=state.params),
    "evaluate": lambda state: evaluate(params=state.params),
    "marginal_likelihood.evaluate": lambda state: marginal(params=state.params),
    "posterior.encode": lambda state: encoded(params=state.params),
    "posterior.sample": lambda state: sample(params=state.params),
}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("first", ["a step", "epochs", "fit", "fit, kept from a callback"])
def test_a_state_that_was_given_away_is_not_used_again(used, first, again):
    answer = "because a training step reused them"
    assert_answered(wrong(lambda: AGAIN[again](used[first]), ValueError, answer))


# Saving and loading


FILE_MISTAKES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "a model that was not built by name": (
        lambda folder: aevb.save(folder / "new", LINEAR, WEIGHTS),
        ValueError,
        'register it with @aevb.models.register("name")',
    ),
    "parameters of another model": (
        lambda folder: aevb.save(folder / "new", PIXEL_MODEL, WEIGHTS),
        ValueError,
        "params are not the parameters of this model",
    ),
    "a training state instead of parameters": (
        lambda folder: aevb.save(folder / "new", PIXEL_MODEL, state_of()),
        ValueError,
        "pass the .params of the TrainState",
    ),
    "arguments in another order": (
        lambda folder: aevb.save(folder / "new", PIXEL_WEIGHTS, PIXEL_MODEL),
        TypeError,
        "model must be an aevb.Model, got a dict with the entries",
    ),
    "a folder that is there": (
        lambda folder: aevb.save(folder, PIXEL_MODEL, PIXEL_WEIGHTS),
        FileExistsError,
        "already exists: save to a new folder",
    ),
    "nothing to load": (lambda folder: aevb.load(folder / "none"), RunError, "is not a saved model"),
    "a run folder to load": (
        lambda folder: ((folder / "config.json").write_text("{}"), aevb.load(folder)),
        RunError,
        "it is a run folder: read it with aevb.load_run",
    ),
    "no run to load": (lambda folder: aevb.load_run(folder / "none"), RunError, "it has no config.json"),
    "a saved model to load as a run": (
        lambda folder: (aevb.save(folder / "new", PIXEL_MODEL, PIXEL_WEIGHTS), aevb.load_run(folder / "new")),
        RunError,
        "it is a saved model: read it with aevb.load",
    ),
    "a damaged run": (
        lambda folder: ((folder / "config.json").write_text("{"), aevb.load_run(folder)),
        RunError,
        "config.json cannot be read",
    ),
}


@pytest.mark.parametrize("name", FILE_MISTAKES)
def test_a_mistake_with_files_is_answered_at_once(tmp_path, name):
    call, error, words = FILE_MISTAKES[name]
    assert_answered(wrong(lambda: call(tmp_path), error, words), hidden=str(tmp_path))
