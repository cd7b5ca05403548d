"""Trained models on disk: run folders of experiments, and models saved with `save`."""

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax

from aevb import durable, models
from aevb.algorithms.full_vb import posterior_mean, spread
from aevb.arguments import describe, is_integer
from aevb.checkpoints import Checkpoints, RunError, RunWarning, open_checkpoints, read_arrays, write_arrays
from aevb.data import split_rule_of
from aevb.manifests import unsealed
from aevb.model import Model, Params, check_model, check_params

FORMAT_VERSION = 3
"""The format version of config.json. In format 1 the model was always an `mlp_vae`, and "model" held only its
arguments. In formats 1 and 2, all settings except those of the model and the data were in one group, "training"."""

CONFIG_FILE = "config.json"

Which: TypeAlias = Literal["best", "last"] | int
"""A checkpoint of a run: "best", "last" or its step."""

MODEL_FORMAT_VERSION = 1
"""The format version of the folders that `save` writes."""

_SUMMARY_FILE = "summary.json"  # written when a run is finished
_MODEL_FILE = "model.json"
_PARAMS_FOLDER = "params"

# The values that older runs used before these settings existed.
_DEFAULTS_OF_NEWER_SETTINGS = {"algorithm": "aevb", "gradient": "pathwise", "schedule": "constant", "epsilon": None}


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """Return the configuration of a run folder, converted to this version's format.

    Raises:
      RunError: the configuration is missing, damaged, or written by a newer version of this project.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        config = unsealed(json.loads(path.read_text()))
        version = config["format_version"]
        if version in (1, 2):
            config = _of_older_format(config)
    except FileNotFoundError:
        hint = "; it is a saved model: read it with aevb.load" if (Path(workdir) / _MODEL_FILE).exists() else ""
        raise RunError(f"{workdir} is not a run folder: it has no {CONFIG_FILE}{hint}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {_reason(error)}") from None
    if version not in range(1, FORMAT_VERSION + 1):
        raise RunError(
            f"{workdir} was written in format {version!r}, but this version reads formats 1 to {FORMAT_VERSION}"
        )
    return config


def _of_older_format(config: dict[str, Any]) -> dict[str, Any]:
    """Convert a configuration of format 1 or 2 to this version's format."""
    older = _DEFAULTS_OF_NEWER_SETTINGS | config.get("training", {})
    model = config.get("model")
    data = {name: config[name] for name in _DATA if config.get(name)}
    if "dataset" in config:
        rule = config["split_rule"]
        with contextlib.suppress(ValueError):  # a user's data set that is not registered here
            rule = split_rule_of(config["dataset"], rule)
        data |= {"name": config["dataset"], "split_rule": rule}
    optimizer = {name: older[name] for name in ("learning_rate", "schedule", "epsilon", "batch_size") if name in older}
    return {
        "format_version": FORMAT_VERSION,
        "model": {"name": "mlp", "arguments": model} if config["format_version"] == 1 else model,
        "algorithm": older["algorithm"],
        "optimizer": optimizer | ({"name": older["optimizer"]} if "optimizer" in older else {}),
        "objective": {name: older[name] for name in _OBJECTIVE if name in older},
        "training": {name: older[name] for name in _TRAINING if name in older},
        "data": data,
    }


_OBJECTIVE = ("num_samples", "kl", "gradient", "map_prior", "binarization")
_TRAINING = ("num_epochs", "eval_every", "patience", "seed")
_DATA = ("num_train_images", "num_valid_images")


def model_of(config: dict[str, Any]) -> Model:
    """Return the model that a configuration describes.

    Raises:
      KeyError, TypeError, ValueError: the configuration describes no model.
    """
    return models.build(config["model"]["name"], **config["model"]["arguments"])


def load_run(workdir: str | os.PathLike, which: Which | None = "last", **older: Any) -> tuple[Model, Params]:
    """Load a trained model from a run folder: `model, params = aevb.load_run(workdir)`.

    Args:
      workdir: a folder written by one of the experiments.
      which: the checkpoint: "last", the last intact one; "best", the one with the highest bound on validation data; or
        a step.
      **older: `step`, the name of `which` in earlier versions.

    Returns:
      The model and its parameters. For a run of full variational Bayes, theta is its posterior mean.

    Raises:
      RunError: the folder does not exist, is not a run folder, is damaged, or has no such checkpoint.
      ValueError: `which` is not one of these.
    """
    which = _which(which, older)
    config = read_config(workdir)
    try:
        model = model_of(config)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{Path(workdir) / CONFIG_FILE} describes no model: {_reason(error)}") from None
    checkpoints = open_checkpoints(workdir)
    try:
        step = None if which == "last" else _best(checkpoints, Path(workdir)) if which == "best" else which
        if step is None:
            _check_last(checkpoints, Path(workdir), config)
        params = params_like(shapes_of(config), checkpoints.restore_params(step), Path(workdir))
    finally:
        checkpoints.close()
    return model, posterior_mean(params) if config.get("algorithm") == "full_vb" else params


def shapes_of(config: dict[str, Any]) -> Params:
    """Return the shapes of the parameters that a run with this configuration saves.

    Raises:
      KeyError, TypeError, ValueError: the configuration describes no model.
    """
    model = model_of(config)
    full_vb = config.get("algorithm") == "full_vb"
    init = lambda key: spread(model.init(key)) if full_vb else model.init(key)
    return jax.eval_shape(init, jax.random.key(0))


def _check_last(checkpoints: Checkpoints, workdir: Path, config: dict[str, Any]) -> None:
    """Warn if a finished run has lost its last checkpoint: an older one would not match the figures in its summary."""
    try:
        samples = unsealed(json.loads((workdir / _SUMMARY_FILE).read_text()))["num_train_samples"]
        step = int(samples) // int(config["optimizer"]["batch_size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # the run is not finished, or its summary has an older format
    steps = checkpoints.steps()
    if steps and step not in steps:
        warnings.warn(
            f"checkpoint {step}, the last of {workdir}, is missing; available: {steps}", RunWarning, stacklevel=3
        )


def _which(which: Any, older: dict[str, Any]) -> Literal["best", "last"] | int:
    if older:
        if older.keys() != {"step"}:
            raise TypeError(f"load_run() got an unexpected keyword argument {next(iter(older))!r}")
        warnings.warn("load_run(step=...) is deprecated: use which=...", DeprecationWarning, stacklevel=3)
        which = older["step"]
    if which is None:
        return "last"
    if is_integer(which):
        return int(which)
    if which not in ("best", "last"):
        raise ValueError(f'which must be "best", "last" or the step of a checkpoint, got {describe(which)}')
    return which


def _best(checkpoints: Checkpoints, workdir: Path) -> int:
    step = checkpoints.best_step()
    if step is None:
        raise RunError(f"{workdir} has no best checkpoint: the run had no validation data to choose it by")
    return step


def save(path: str | os.PathLike, model: Model, params: Params) -> None:
    """Save a model that was built by name, and its parameters, in a new folder.

    Args:
      path: the folder, which must not exist yet. It is written atomically, and is on the disk when this returns.
      model: a model built by `aevb.mlp_vae`, `aevb.models.build` or a registered function.
      params: the parameters of the model.

    Raises:
      ValueError: the model was not built by name, or `params` do not have the structure and shapes of its parameters.
      FileExistsError: `path` exists.
      RunError: the path contains a character that checkpoint paths must not have.
      OSError: the folder cannot be written.
    """
    check_model(model)
    family, arguments = models.recipe_of(model)
    check_params(model, params)
    path = Path(path).expanduser()
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} already exists: save to a new folder")
    durable.make_folder(path.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    partial = scratch / path.name  # with the default permissions; those of `scratch` are private
    try:
        partial.mkdir()
        sha256 = write_arrays(partial / _PARAMS_FOLDER, params)
        described = {
            "format_version": MODEL_FORMAT_VERSION,
            "model": {"name": family, "arguments": arguments},
            "sha256": sha256,
        }
        (partial / _MODEL_FILE).write_text(json.dumps(described, indent=2) + "\n")
        durable.sync_tree(partial)
        os.replace(partial, path)
        durable.sync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(path: str | os.PathLike) -> tuple[Model, Params]:
    """Load a model and its parameters from a folder that `save` wrote.

    Raises:
      RunError: the folder does not exist, is damaged or is not a saved model, or the model's family is not registered.
    """
    path = Path(path).expanduser()
    try:
        described = json.loads((path / _MODEL_FILE).read_text())
        version, sha256 = described["format_version"], dict(described["sha256"])
    except FileNotFoundError:
        hint = "; it is a run folder: read it with aevb.load_run" if (path / CONFIG_FILE).exists() else ""
        raise RunError(f"{path} is not a saved model: it has no {_MODEL_FILE}{hint}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path / _MODEL_FILE} cannot be read: {_reason(error)}") from None
    if version != MODEL_FORMAT_VERSION:
        raise RunError(
            f"{path} was written in format {version!r}, but this version reads format {MODEL_FORMAT_VERSION}"
        )
    try:
        model = model_of(described)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path / _MODEL_FILE} describes no model: {_reason(error)}") from None
    template = jax.eval_shape(model.init, jax.random.key(0))
    return model, params_like(template, read_arrays(path / _PARAMS_FOLDER, template, sha256), path)


def params_like(template: Params, params: Params, folder: Path) -> Params:
    """Return restored parameters in the structure of `template`: Orbax restores no tuples and compares no shapes.

    Raises:
      RunError: the parameters do not match the template.
    """
    described = lambda tree: {_place(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    found, expected = described(params), described(template)
    for place in sorted(found.keys() | expected.keys()):
        one, other = (f"has shape {of[place]}" if place in of else "is missing" for of in (found, expected))
        if one != other:
            raise RunError(f"{folder} holds parameters of another model: {place} {one}")
    return jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(params))


def _place(path: Any) -> str:
    return f"params{jax.tree_util.keystr(path)}"


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
