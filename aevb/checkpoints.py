"""Training states and trained models on disk. This is the only file that uses Orbax directly."""

import errno
import glob
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from aevb.algorithms.base import TrainState, arrays_of, state_of
from aevb.durable import make_folder, sync_tree
from aevb.manifests import Manifest, checksums, read_manifest, write_manifest
from aevb.model import Params
from aevb.quiet import OrbaxError, quietly

NUM_KEPT = 3
_LONGEST_REASON = 200
_ROOM_FOR_METADATA = 1 << 20  # bytes; Orbax writes a dozen small files
_ITEM = "default"  # Orbax's folder for the arrays of a checkpoint
_MERGED = "manifest.ocdbt"  # TensorStore's file that leads to all arrays

CHECKPOINT_FOLDER = "checkpoints"
SET_ASIDE_FOLDER = "set_aside"
"""The folder, next to the checkpoints, for those that could not be read and that the run continued without."""


class RunError(Exception):
    """A run folder cannot be used. The message says which one and why."""


class RunWarning(UserWarning):
    """A damaged item in a run folder was skipped. The message names it and what is used instead."""


class Restored(NamedTuple):
    """A restored checkpoint.

    Attributes:
      state: the training state, as it was saved.
      seconds: the training time up to the checkpoint; `None` if an older version saved it.
    """

    state: TrainState
    seconds: float | None


class Checkpoints:
    """The checkpoints of one run: the last few and the best by validation bound. Each is written atomically.

    Orbax writes the folder of a step under another name and then renames it. After that the checksums of its files are
    added in `MANIFEST_FILE`. A checkpoint without checksums, from an older version or a process that was killed in
    between, is used if Orbax can read it.
    """

    def __init__(self, folder: str | os.PathLike, keep_all: bool = False, read_only: bool = False):
        """Open `folder` and create it if necessary. `keep_all` keeps every checkpoint; `read_only` writes none.

        Raises:
          RunError: the folder cannot be listed; or, unless `read_only`, as for `check_folder`.
        """
        self._keep_all = keep_all
        if not read_only:
            check_folder(folder)
            make_folder(Path(folder).absolute())
        _check_listing(Path(folder))
        self._passed_over: set[int] = set()  # unusable steps, which are set aside and never deleted
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False,
                multiprocessing_options=_one_writer(),
                create=False,
                cleanup_tmp_directories=not read_only,  # delete what a killed process left half-written
                lightweight_initialize=True,  # damage is found when a checkpoint is read, not here
            ),
            item_handlers=ocp.StandardCheckpointHandler(),  # lets `item_metadata` list the contents of a checkpoint
        )

    def save(self, state: TrainState, valid_bound: float, seconds: float) -> None:
        """Save everything in `state`. On return it is on the disk.

        Existing checkpoints of this step and later ones are deleted, because the run went back to before them. Those
        that could not be read are moved to `SET_ASIDE_FOLDER` instead: they may become readable again.

        Args:
          state: the training state to save.
          valid_bound: the validation bound in nats, by which the best checkpoint is chosen; NaN if there is none.
          seconds: the training time so far.

        Raises:
          RunError: the checkpoint cannot be written. Earlier checkpoints are kept.
        """
        # Saved from the host: a checkpoint saved from eight devices could only be loaded on eight devices.
        step, arrays = int(state.step), jax.device_get(arrays_of(state))
        self._check_room(step, arrays)
        try:
            for later in self.steps():
                if later in self._passed_over:
                    self._set_aside(later)
                elif later >= step:
                    self._manager.delete(later)
            quietly(lambda: self._manager.save(step, args=ocp.args.StandardSave(arrays)))
            _check_merged(self._folder(step) / _ITEM)
            sync_tree(self._folder(step))
            bound = valid_bound if np.isfinite(valid_bound) else None  # JSON has no NaN
            write_manifest(self._folder(step), Manifest(bound, seconds, checksums(self._folder(step))))
        except Exception as error:
            # On a full disk Orbax and TensorStore raise exceptions of nearly any class.
            self._remove_unfinished(step)
            raise RunError(f"cannot save checkpoint {step} in {self._manager.directory}: {_reason(error)}") from None
        if not self._keep_all:
            self._delete_old()

    def restore_latest(self, template: TrainState) -> Restored | None:
        """Return the last intact state, or `None` if none was saved yet. Warn about each later one that was skipped.

        Args:
          template: a state of the same model and optimizer. Its values are not used.

        Raises:
          RunError: there are checkpoints, but none can be read and fits the template.
        """
        if not self.steps():
            return None
        return self._restored(*self._last_usable(template), template)

    def restore(self, step: int, template: TrainState) -> Restored:
        """Return the state saved at `step`.

        Raises:
          RunError: the state cannot be read or does not fit the template.
        """
        return self._restored(step, self._restore(step, template), template)

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints, in ascending order."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Return the first step with the highest validation bound; `None` if no bound is known."""
        manifests = {step: self._manifest_or_none(step) for step in self.steps()}
        known = {step: found.valid_bound for step, found in manifests.items() if found}
        known = {step: bound for step, bound in known.items() if bound is not None}
        return max(known, key=lambda step: known[step], default=None)

    def restore_params(self, step: int | None = None) -> Params:
        """Return only the parameters of the state saved at `step`, by default of the last intact one.

        Raises:
          RunError: the checkpoint does not exist or is damaged.
        """
        steps = self.steps()
        if not steps:
            raise RunError(f"no checkpoint in {self._manager.directory}")
        if step is None:
            return jax.tree.map(jnp.asarray, self._last_usable()[1]["params"])
        if step not in steps:
            raise RunError(f"no checkpoint {step} in {self._manager.directory}; available: {steps}")
        return jax.tree.map(jnp.asarray, self._restore(step)["params"])

    def close(self) -> None:
        """Wait for unfinished writes."""
        self._manager.close()

    def _restored(self, step: int, arrays: Any, template: TrainState) -> Restored:
        manifest = read_manifest(self._folder(step))
        state = state_of(arrays, jax.random.key_impl(template.key))
        return Restored(state, manifest.seconds if manifest else None)

    def _folder(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def _abstract(self, step: int, template: TrainState | None) -> dict[str, Any] | None:
        if template is None:
            return None
        if "shuffle_key" in (self._manager.item_metadata(step) or ()):
            template = template._replace(shuffle_key=template.key)
        return jax.tree.map(ocp.utils.to_shape_dtype_struct, arrays_of(template))

    def _last_usable(self, template: TrainState | None = None) -> tuple[int, Any]:
        failures = []
        for step in reversed(self.steps()):
            try:
                arrays = self._restore(step, template)
            except RunError as error:
                failures.append(str(error))
                self._passed_over.add(step)
                continue
            if failures:
                warnings.warn(f"{'; '.join(failures)}: checkpoint {step} is used instead", RunWarning, stacklevel=4)
            return step, arrays
        raise RunError("; ".join(failures))

    def _restore(self, step: int, template: TrainState | None = None) -> Any:
        name = f"checkpoint {step} in {self._manager.directory}"
        try:
            manifest = read_manifest(self._folder(step))
            # Only existing files are hashed: a path taken from a manifest is never opened.
            if manifest is not None and not manifest.sha256.items() <= checksums(self._folder(step)).items():
                raise RunError(f"{name} is damaged: its files have changed since they were written")
            return quietly(lambda: self._read(step, template))
        except RunError:
            raise
        except (OSError, ValueError, OrbaxError) as error:
            raise RunError(f"{name} cannot be read: {_reason(error)}") from None

    def _read(self, step: int, template: TrainState | None) -> dict[str, Any]:
        arrays = self._manager.restore(step, args=ocp.args.StandardRestore(self._abstract(step, template)))
        return {**arrays, "params": arrays["params"]}

    def _delete_old(self) -> None:
        """Keep the last `NUM_KEPT`, the best, and those of older versions, which include their best by the test bound.

        Orbax's own policy forgets the bounds when a run is resumed.
        """
        best = self.best_step()
        for step in self.steps()[:-NUM_KEPT]:
            found = self._manifest_or_none(step)
            if step != best and found is not None and not found.is_older:
                self._manager.delete(step)

    def _manifest_or_none(self, step: int) -> Manifest | None:
        try:
            return read_manifest(self._folder(step))
        except (OSError, ValueError):
            return None

    def _check_room(self, step: int, arrays: Any) -> None:
        """Check the free space before Orbax writes: on a full disk each of its threads prints a traceback."""
        needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + _ROOM_FOR_METADATA
        disk = shutil.disk_usage(self._manager.directory)
        if disk.total and disk.free < needed:  # some file systems do not report their size: the total is 0
            reason = f"{os.strerror(errno.ENOSPC)}, {needed:,} bytes are needed"
            raise RunError(f"cannot save checkpoint {step} in {self._manager.directory}: {reason}")

    def _remove_unfinished(self, step: int) -> None:
        """Delete an incomplete checkpoint, which Orbax keeps under a temporary name, to free its space."""
        for path in Path(self._manager.directory).glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)
        folder = self._folder(step)
        if folder.is_dir() and not _is_merged(folder / _ITEM):
            shutil.rmtree(folder, ignore_errors=True)
            self._manager.reload()

    def _set_aside(self, step: int) -> None:
        folder = Path(self._manager.directory).with_name(SET_ASIDE_FOLDER)
        make_folder(folder)
        taken = sum(path.name.split(".")[0] == str(step) for path in folder.iterdir())
        os.rename(self._folder(step), folder / (f"{step}.{taken}" if taken else str(step)))
        self._passed_over.discard(step)
        self._manager.reload()


def check_folder(folder: str | os.PathLike) -> None:
    """Raise `RunError` for a folder in which Orbax would lose checkpoints because it reads its path as a pattern."""
    path = str(Path(folder).absolute())
    if glob.escape(path) != path or "\\" in path:
        raise RunError(f"checkpoints cannot be saved in {path}: choose a path without any of * ? [ \\")


def _check_listing(folder: Path) -> None:
    """Raise `RunError` for a folder that cannot be listed: Orbax would fail in one of its own threads."""
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise RunError(f"cannot read {folder}: {error.strerror}") from None


def _is_merged(folder: Path) -> bool:
    """Return whether Orbax merged its writers' files. A folder that it could not list, it took to be empty."""
    return (folder / _MERGED).is_file()


def _check_merged(folder: Path) -> None:
    if not _is_merged(folder):
        raise OSError(errno.EIO, f"{os.strerror(errno.EIO)}: {folder} is incomplete")


def write_arrays(folder: Path, arrays: Params) -> dict[str, str]:
    """Write a pytree of arrays into a new `folder` and return the SHA-256 of each file by its path in the folder.

    Raises:
      RunError: as for `check_folder`.
      OSError: the arrays cannot be written.
    """
    check_folder(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), jax.device_get(arrays))
    _check_merged(folder)
    return checksums(folder)


def read_arrays(folder: Path, template: Params, sha256: dict[str, str]) -> Params:
    """Read arrays that `write_arrays` wrote, in the structure of `template`.

    Raises:
      RunError: the folder is damaged, or its arrays have another structure.
    """
    try:
        if not sha256.items() <= checksums(folder).items():
            raise RunError(f"{folder} is damaged: its files have changed since they were written")
        return jax.tree.map(jnp.asarray, quietly(lambda: _read_tree(folder, template)))
    except RunError:
        raise
    except (OSError, OrbaxError) as error:
        raise RunError(f"{folder} cannot be read: {_reason(error)}") from None


def _read_tree(folder: Path, template: Params) -> Params:
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.absolute(), jax.tree.map(ocp.utils.to_shape_dtype_struct, template))


def open_checkpoints(workdir: str | os.PathLike) -> Checkpoints:
    """Open the checkpoints of a run folder for reading.

    Raises:
      RunError: the run folder has no checkpoints yet.
    """
    folder = Path(workdir) / CHECKPOINT_FOLDER
    if not folder.is_dir():
        raise RunError(f"{workdir} has no {CHECKPOINT_FOLDER} yet")
    return Checkpoints(folder, read_only=True)


def _one_writer() -> ocp.options.MultiprocessingOptions:
    """Return options by which a process saves alone and waits for no other: all processes of a run hold its state."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(index, {index}, barrier_sync_key_prefix=f"process-{index}")


def _reason(error: Exception) -> str:
    """Return the message of an error, shortened to one line."""
    line = " ".join(str(error).split()) or type(error).__name__
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if os.strerror(number) in line:  # TensorStore's message has it in the middle of a long trace
            return os.strerror(number)
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."
