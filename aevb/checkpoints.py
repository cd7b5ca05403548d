"""Training states and trained models on disk: the only file that knows Orbax."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from aevb.model import Model, Params
from aevb.networks import mlp_vae
from aevb.training import TrainState

FORMAT_VERSION = 1
NUM_KEPT = 3

CONFIG_FILE = "config.json"
CHECKPOINT_FOLDER = "checkpoints"


class RunError(Exception):
    """A run folder that cannot be used. The message says which, and why."""


class Checkpoints:
    """The checkpoints of one run: the last few and the best by test bound, each written whole or not at all."""

    def __init__(self, folder: str | os.PathLike):
        """Opens `folder`, making it if it is not there."""
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(
                    [LatestN(NUM_KEPT), BestN(get_metric_fn=lambda metrics: metrics["test_elbo"], n=1)]
                ),
                enable_async_checkpointing=False,
            ),
        )

    def save(self, state: TrainState, test_elbo: float) -> None:
        """Saves everything that `state` holds; `test_elbo`, nats, decides which is the best."""
        self._manager.save(
            int(state.step),
            args=ocp.args.StandardSave(_to_arrays(state)),
            metrics={"test_elbo": test_elbo if np.isfinite(test_elbo) else -1e30},
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
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_arrays(template))
        try:
            arrays = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RunError(f"checkpoint {step} in {self._manager.directory} cannot be read: {error}") from None
        return _from_arrays(arrays, jax.random.key_impl(template.key))

    def restore_params(self, step: int | None = None) -> Params:
        """The parameters alone of the state saved at `step`, or of the last.

        Raises:
          RunError: there is none.
        """
        steps = self._manager.all_steps()
        if not steps:
            raise RunError(f"no checkpoint in {self._manager.directory}")
        if step is None:
            step = max(steps)
        if step not in steps:
            raise RunError(f"no checkpoint {step} in {self._manager.directory}: there are {sorted(steps)}")
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
      step: of the checkpoint; `None` is the last.

    Returns:
      The model, and its parameters as of that checkpoint.

    Raises:
      RunError: the folder is not there, not a run, damaged, or has no checkpoint yet.
    """
    config = read_config(workdir)
    try:
        model = mlp_vae(**config["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{Path(workdir) / CONFIG_FILE} describes no model: {error}") from None
    folder = Path(workdir) / CHECKPOINT_FOLDER
    if not folder.is_dir():
        raise RunError(f"{workdir} has no {CHECKPOINT_FOLDER} yet")
    checkpoints = Checkpoints(folder)
    try:
        return model, checkpoints.restore_params(step)
    finally:
        checkpoints.close()


def _to_arrays(state: TrainState) -> dict[str, Any]:
    """Plain arrays: a typed key is saved as its bits."""
    return state._replace(key=jax.random.key_data(state.key))._asdict()


def _from_arrays(arrays: Any, key_impl: Any) -> TrainState:
    state = TrainState(**arrays)
    return state._replace(key=jax.random.wrap_key_data(state.key, impl=key_impl))
