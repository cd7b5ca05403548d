"""Training states and trained models on disk: the only file that knows Orbax."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from aevb import full_vb
from aevb.model import Model, Params
from aevb.networks import mlp_vae
from aevb.training import TrainState

FORMAT_VERSION = 1
NUM_KEPT = 3

# What runs of this format did before they could be told otherwise.
_DEFAULTS_OF_NEWER_SETTINGS = {"algorithm": "aevb", "gradient": "pathwise", "schedule": "constant", "epsilon": None}

_KEYS = ("key", "shuffle_key")  # of a state

CONFIG_FILE = "config.json"
CHECKPOINT_FOLDER = "checkpoints"


class RunError(Exception):
    """A run folder that cannot be used. The message says which, and why."""


class Checkpoints:
    """The checkpoints of one run: the last few and the best by test bound, each written whole or not at all."""

    def __init__(self, folder: str | os.PathLike, keep_all: bool = False):
        """Opens `folder`, making it if it is not there; `keep_all` keeps every checkpoint."""
        few = [LatestN(NUM_KEPT), BestN(get_metric_fn=lambda metrics: metrics["test_elbo"], n=1)]
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=None if keep_all else AnyPreservationPolicy(few),
                enable_async_checkpointing=False,
            ),
            item_handlers=ocp.StandardCheckpointHandler(),  # which can say what a checkpoint holds
        )

    def save(self, state: TrainState, test_elbo: float, seconds: float = 0.0) -> None:
        """Saves everything that `state` holds.

        Args:
          state: what to save.
          test_elbo: nats; decides which is the best, where it is a number.
          seconds: the training time so far.
        """
        self._manager.save(
            int(state.step),
            args=ocp.args.StandardSave(_to_arrays(state)),
            metrics={"test_elbo": test_elbo if np.isfinite(test_elbo) else -1e30},
            custom_metadata={"seconds": seconds},
        )

    def restore_latest(self, template: TrainState) -> TrainState | None:
        """The last state saved, or `None` where there is none yet.

        Args:
          template: a state of the same model and optimizer, whose values are not used.

        Raises:
          RunError: what is there does not fit the template or cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        if "shuffle_key" in (self._manager.item_metadata(step) or ()):
            template = template._replace(shuffle_key=template.key)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_arrays(template))
        try:
            arrays = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RunError(f"checkpoint {step} in {self._manager.directory} cannot be read: {error}") from None
        return _from_arrays(arrays, jax.random.key_impl(template.key))

    def latest_seconds(self) -> float | None:
        """The training time that came with the last state saved; `None` where none did."""
        step = self._manager.latest_step()
        return None if step is None else (self._manager.metadata(step).custom_metadata or {}).get("seconds")

    def steps(self) -> list[int]:
        """The steps whose states are kept, in order."""
        return sorted(self._manager.all_steps())

    def restore_params(self, step: int | None = None) -> Params:
        """The parameters alone of the state saved at `step`, or of the last.

        Raises:
          RunError: it is not there.
        """
        steps = self.steps()
        if not steps:
            raise RunError(f"no checkpoint in {self._manager.directory}")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise RunError(f"no checkpoint {step} in {self._manager.directory}: there are {steps}")
        return self._manager.restore(step, args=ocp.args.StandardRestore())["params"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The configuration that a run folder was made with.

    Raises:
      RunError: there is none, it is damaged, or a newer version of this project wrote it.
    """
    path = Path(workdir) / CONFIG_FILE
    try:
        config = json.loads(path.read_text())
        version = config["format_version"]
        config["training"] = _DEFAULTS_OF_NEWER_SETTINGS | config.get("training", {})
    except FileNotFoundError:
        raise RunError(f"{workdir} is not a run folder: it has no {CONFIG_FILE}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if version != FORMAT_VERSION:
        raise RunError(f"{workdir} was written in format {version}, this version reads format {FORMAT_VERSION}")
    return config


def load_run(workdir: str | os.PathLike, step: int | None = None) -> tuple[Model, Params]:
    """A trained model out of a run folder, for use in other code: `model, params = aevb.load_run(workdir)`.

    Args:
      workdir: a folder that one of the experiments wrote.
      step: which checkpoint; `None` is the last.

    Returns:
      The model and its parameters; of a run by full variational Bayes, with theta at its posterior mean.

    Raises:
      RunError: the folder is not there, not a run, damaged, or has no such checkpoint.
    """
    config = read_config(workdir)
    try:
        model = mlp_vae(**config["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{Path(workdir) / CONFIG_FILE} describes no model: {error}") from None
    checkpoints = open_checkpoints(workdir)
    try:
        params = checkpoints.restore_params(step)
    finally:
        checkpoints.close()
    return model, full_vb.posterior_mean(params) if config["training"]["algorithm"] == "full_vb" else params


def open_checkpoints(workdir: str | os.PathLike) -> Checkpoints:
    """The checkpoints of a run folder, to read.

    Raises:
      RunError: there are none yet.
    """
    folder = Path(workdir) / CHECKPOINT_FOLDER
    if not folder.is_dir():
        raise RunError(f"{workdir} has no {CHECKPOINT_FOLDER} yet")
    return Checkpoints(folder, keep_all=True)


def _to_arrays(state: TrainState) -> dict[str, Any]:
    """Plain arrays: typed keys are saved as their bits, a carry and a shuffle key only where there is one."""
    arrays = state._asdict()
    for name in ("carry", "shuffle_key"):
        if not jax.tree.leaves(arrays[name]):
            del arrays[name]
    return arrays | {name: jax.random.key_data(arrays[name]) for name in _KEYS if name in arrays}


def _from_arrays(arrays: Any, key_impl: Any) -> TrainState:
    keys = {name: jax.random.wrap_key_data(arrays[name], impl=key_impl) for name in _KEYS if name in arrays}
    return TrainState(**(arrays | keys))
