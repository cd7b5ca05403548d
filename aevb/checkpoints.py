"""Training states and trained models on disk: the only file that knows Orbax."""

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

from aevb.algorithms.base import TrainState
from aevb.durable import make_folder, sync_tree
from aevb.manifests import Manifest, checksums, read_manifest, write_manifest
from aevb.model import Params
from aevb.quiet import OrbaxError, quietly

NUM_KEPT = 3
_LONGEST_REASON = 200
_ROOM_FOR_METADATA = 1 << 20  # bytes; Orbax writes a dozen small files

_KEYS = ("key", "shuffle_key")  # of a state

CHECKPOINT_FOLDER = "checkpoints"
SET_ASIDE_FOLDER = "set_aside"
"""Beside the checkpoints: those that could not be read, and that the run went on without."""


class RunError(Exception):
    """A run folder that cannot be used. The message says which, and why."""


class RunWarning(UserWarning):
    """Something in a run folder is damaged and was passed over. The message says what, and what is used instead."""


class Restored(NamedTuple):
    """What comes back of a run.

    Attributes:
      state: as it was saved.
      seconds: of training up to then; `None` where an older version saved it.
    """

    state: TrainState
    seconds: float | None


class Checkpoints:
    """The checkpoints of one run: the last few and the best by validation bound, each written whole or not at all.

    Orbax writes a step's folder under another name and renames it. The checksums of its files come into it after that,
    in `MANIFEST_FILE`: a checkpoint without them, of an older version or of a process that was killed in between, is
    used if Orbax can read it.
    """

    def __init__(self, folder: str | os.PathLike, keep_all: bool = False, read_only: bool = False):
        """Opens `folder`, making it if it is not there; `keep_all` keeps every checkpoint, `read_only` writes none.

        Raises:
          RunError: the folder cannot be listed; or as for `check_folder`, where it is not `read_only`.
        """
        self._keep_all = keep_all
        if not read_only:
            check_folder(folder)
            make_folder(Path(folder).absolute())
        _check_listing(Path(folder))
        self._passed_over: set[int] = set()  # steps that could not be used: set aside, and never deleted
        self._manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False,
                multiprocessing_options=_one_writer(),
                create=False,
                cleanup_tmp_directories=not read_only,  # what a killed process left half-written
                lightweight_initialize=True,  # what is damaged is met when it is read, not here
            ),
            item_handlers=ocp.StandardCheckpointHandler(),  # which can say what a checkpoint holds
        )

    def save(self, state: TrainState, valid_bound: float, seconds: float) -> None:
        """Saves everything that `state` holds.

        Checkpoints of this step and later ones go: the run went back to before them. Those that it went back from
        because they could not be read are moved to `SET_ASIDE_FOLDER`: what cannot be read today may be tomorrow. On
        return the state is on the disk.

        Args:
          state: to save.
          valid_bound: nats, decides which is the best; not a number where there is none.
          seconds: of training so far.

        Raises:
          RunError: it cannot be written. Those that were there still are.
        """
        # From the host: what is saved from eight devices could be loaded on eight devices alone.
        step, arrays = int(state.step), jax.device_get(_to_arrays(state))
        self._check_room(step, arrays)
        try:
            for later in self.steps():
                if later in self._passed_over:
                    self._set_aside(later)
                elif later >= step:
                    self._manager.delete(later)
            quietly(lambda: self._manager.save(step, args=ocp.args.StandardSave(arrays)))
            sync_tree(self._folder(step))
            bound = valid_bound if np.isfinite(valid_bound) else None  # JSON has no NaN
            write_manifest(self._folder(step), Manifest(bound, seconds, checksums(self._folder(step))))
        except Exception as error:
            # A full disk comes out of Orbax and TensorStore as nearly anything.
            self._remove_unfinished(step)
            raise RunError(f"cannot save checkpoint {step} in {self._manager.directory}: {_reason(error)}") from None
        if not self._keep_all:
            self._delete_old()

    def restore_latest(self, template: TrainState) -> Restored | None:
        """The last state saved that is whole, or `None` where none was saved yet.

        Warns of each later one that it had to pass over.

        Args:
          template: a state of the same model and optimizer, whose values are not used.

        Raises:
          RunError: none of those that are there fits the template and can be read.
        """
        if not self.steps():
            return None
        return self._restored(*self._last_usable(template), template)

    def restore(self, step: int, template: TrainState) -> Restored:
        """Return the state saved at `step`.

        Raises:
          RunError: it does not fit the template, or cannot be read.
        """
        return self._restored(step, self._restore(step, template), template)

    def steps(self) -> list[int]:
        """The steps whose states are kept, in order."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step of the highest validation bound, the first of equals; `None` where no bound is known."""
        manifests = {step: self._manifest_or_none(step) for step in self.steps()}
        known = {step: found.valid_bound for step, found in manifests.items() if found}
        known = {step: bound for step, bound in known.items() if bound is not None}
        return max(known, key=lambda step: known[step], default=None)

    def restore_params(self, step: int | None = None) -> Params:
        """Return the parameters alone of the state saved at `step`, or of the last that is whole.

        Raises:
          RunError: it is not there, or damaged.
        """
        steps = self.steps()
        if not steps:
            raise RunError(f"no checkpoint in {self._manager.directory}")
        if step is None:
            return jax.tree.map(jnp.asarray, self._last_usable()[1]["params"])
        if step not in steps:
            raise RunError(f"no checkpoint {step} in {self._manager.directory}: there are {steps}")
        return jax.tree.map(jnp.asarray, self._restore(step)["params"])

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _restored(self, step: int, arrays: Any, template: TrainState) -> Restored:
        manifest = read_manifest(self._folder(step))
        state = _from_arrays(arrays, jax.random.key_impl(template.key))
        return Restored(state, manifest.seconds if manifest else None)

    def _folder(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def _abstract(self, step: int, template: TrainState | None) -> dict[str, Any] | None:
        if template is None:
            return None
        if "shuffle_key" in (self._manager.item_metadata(step) or ()):
            template = template._replace(shuffle_key=template.key)
        return jax.tree.map(ocp.utils.to_shape_dtype_struct, _to_arrays(template))

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
            # Looked for among the files that are there: a path in a manifest is never opened.
            if manifest is not None and not manifest.sha256.items() <= checksums(self._folder(step)).items():
                raise RunError(f"{name} is damaged: its files are not those that were written")
            return quietly(lambda: self._read(step, template))
        except RunError:
            raise
        except (OSError, ValueError, OrbaxError) as error:
            raise RunError(f"{name} cannot be read: {_reason(error)}") from None

    def _read(self, step: int, template: TrainState | None) -> dict[str, Any]:
        arrays = self._manager.restore(step, args=ocp.args.StandardRestore(self._abstract(step, template)))
        return {**arrays, "params": arrays["params"]}

    def _delete_old(self) -> None:
        """Keeps the last `NUM_KEPT`, the best, and those of older versions, among them their best by the test bound.

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
        """Looks before Orbax does, whose threads each print a traceback on a full disk."""
        needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + _ROOM_FOR_METADATA
        disk = shutil.disk_usage(self._manager.directory)
        if disk.total and disk.free < needed:  # a total of 0 is of file systems that do not say
            reason = f"{os.strerror(errno.ENOSPC)}, {needed:,} bytes are needed"
            raise RunError(f"cannot save checkpoint {step} in {self._manager.directory}: {reason}")

    def _remove_unfinished(self, step: int) -> None:
        """Gives the room back that a checkpoint takes which could not be written whole, under Orbax's own name."""
        for path in Path(self._manager.directory).glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _set_aside(self, step: int) -> None:
        folder = Path(self._manager.directory).with_name(SET_ASIDE_FOLDER)
        make_folder(folder)
        taken = sum(path.name.split(".")[0] == str(step) for path in folder.iterdir())
        os.rename(self._folder(step), folder / (f"{step}.{taken}" if taken else str(step)))
        self._passed_over.discard(step)
        self._manager.reload()


def check_folder(folder: str | os.PathLike) -> None:
    """Raise `RunError` for a folder that Orbax would lose checkpoints in, by reading its path as a pattern."""
    path = str(Path(folder).absolute())
    if glob.escape(path) != path or "\\" in path:
        raise RunError(f"checkpoints cannot be saved in {path}: choose a path without any of * ? [ \\")


def _check_listing(folder: Path) -> None:
    """Raise `RunError` for a folder that cannot be listed, where Orbax would fail in a thread of its own."""
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise RunError(f"cannot read {folder}: {error.strerror}") from None


def write_arrays(folder: Path, arrays: Params) -> dict[str, str]:
    """Write a pytree of arrays into a new `folder`; return the SHA-256 of each file, by its path in there.

    Raises:
      RunError: as for `check_folder`.
    """
    check_folder(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), jax.device_get(arrays))
    return checksums(folder)


def read_arrays(folder: Path, template: Params, sha256: dict[str, str]) -> Params:
    """Read what `write_arrays` wrote, in the structure of `template`.

    Raises:
      RunError: it is damaged, or of another structure.
    """
    try:
        if not sha256.items() <= checksums(folder).items():
            raise RunError(f"{folder} is damaged: its files are not those that were written")
        return jax.tree.map(jnp.asarray, quietly(lambda: _read_tree(folder, template)))
    except RunError:
        raise
    except (OSError, OrbaxError) as error:
        raise RunError(f"{folder} cannot be read: {_reason(error)}") from None


def _read_tree(folder: Path, template: Params) -> Params:
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.absolute(), jax.tree.map(ocp.utils.to_shape_dtype_struct, template))


def open_checkpoints(workdir: str | os.PathLike) -> Checkpoints:
    """Return the checkpoints of a run folder, to read.

    Raises:
      RunError: there are none yet.
    """
    folder = Path(workdir) / CHECKPOINT_FOLDER
    if not folder.is_dir():
        raise RunError(f"{workdir} has no {CHECKPOINT_FOLDER} yet")
    return Checkpoints(folder, read_only=True)


def _one_writer() -> ocp.options.MultiprocessingOptions:
    """Of several processes that train one run, whose states are the same, one saves and waits for no other."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(index, {index}, barrier_sync_key_prefix=f"process-{index}")


def _to_arrays(state: TrainState) -> dict[str, Any]:
    """Plain arrays: typed keys are saved as their bits, a carry and a shuffle key only where there is one."""
    arrays = state._asdict()
    for name in ("carry", "shuffle_key"):
        if not jax.tree.leaves(arrays[name]):
            del arrays[name]
    arrays |= {name: jax.random.key_data(arrays[name]) for name in _KEYS if name in arrays}
    # Of several processes each has all of a state, but none may use it as a device array by itself.
    return arrays if jax.process_count() == 1 else jax.device_get(arrays)


def _from_arrays(arrays: Any, key_impl: Any) -> TrainState:
    keys = {name: jax.random.wrap_key_data(arrays[name], impl=key_impl) for name in _KEYS if name in arrays}
    return TrainState(**(arrays | keys))


def _reason(error: Exception) -> str:
    """An error in one line, not too long for one."""
    line = " ".join(str(error).split()) or type(error).__name__
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if os.strerror(number) in line:  # somewhere in the middle of where TensorStore was
            return os.strerror(number)
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."
