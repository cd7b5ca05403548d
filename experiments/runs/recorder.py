"""Recording a run during training: rows of metrics, checkpoints and progress reports."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from aevb.algorithms import TrainState
from aevb.checkpoints import Checkpoints, RunError
from aevb.model import Params
from aevb.training import Evaluation
from experiments.reports.progress import NO_LENGTHS, Reporter, TensorBoard, progress
from experiments.runs import distributed, lost
from experiments.runs.folder import RunFolder
from experiments.runs.termination import TerminatedError, Termination


class Recorder:
    """Records every evaluation: first its row, then its checkpoint, so that each checkpoint has a row."""

    def __init__(
        self,
        folder: RunFolder,
        name: str,
        num_steps: int,
        keep_all: bool,
        termination: Termination | None = None,
        save_seconds: float = 600.0,
        lengths: Mapping[str, float] = NO_LENGTHS,
    ):
        """Prepare to record one run.

        Args:
          folder: the run folder.
          name: the name of the run in progress reports.
          num_steps: the total number of steps.
          keep_all: whether to keep every checkpoint.
          termination: shared by the recorders of one process.
          save_seconds: seconds between checkpoints, where evaluations are further apart.
          lengths: `mean_lengths` of the splits, for sequences.
        """
        self.history: list[Evaluation] = []
        self.seconds = 0.0
        self._keep_all = keep_all
        self.folder = folder
        self._name, self._save_seconds, self._lengths = name, save_seconds, lengths
        self._batch_size = folder.config.optimizer.batch_size
        self._total = num_steps * self._batch_size
        self._checkpoints: Checkpoints | None = None
        self._reporters: list[Reporter] = []
        self._termination = termination or Termination()
        self._last_save = time.monotonic()

    def resume(self, template: Callable[[], TrainState]) -> TrainState | None:
        """Restore the history and return the state to resume from; `None` if there is none yet.

        Args:
          template: returns a state of the same model and optimizer.
        """
        if not self.folder.checkpoints.is_dir():
            return lost.check_checkpoints(self.folder, self._batch_size, None)
        self._checkpoints = Checkpoints(self.folder.checkpoints, self._keep_all)
        restored = self._checkpoints.restore_latest(template())
        if restored is None:
            return lost.check_checkpoints(self.folder, self._batch_size, None)
        step = int(restored.state.step)
        lost.check_checkpoints(self.folder, self._batch_size, step)
        samples = step * self._batch_size
        self.history = [row for row in self.folder.read_metrics() if row.num_train_samples <= samples]
        if not self.history:
            raise RunError(f"{self.folder.path} has a checkpoint of step {step} but no row of metrics up to there")
        self.seconds = self.history[-1].seconds if restored.seconds is None else restored.seconds
        self.folder.reopen(samples)
        self._open(samples, self.history[-1])
        return restored.state

    def __call__(self, state: TrainState, row: Evaluation) -> None:
        self.record(state, row)
        if distributed.any_process(self._termination.requested):
            raise TerminatedError

    def record(self, state: TrainState, row: Evaluation) -> None:
        """Save and report an evaluation."""
        if not self._reporters:
            self._open(row.num_train_samples, row)
        assert self._checkpoints is not None
        with self._rescuing([*self.history, row], state, row.valid_bound, row.seconds):
            self.folder.append_metrics(row)
            self._checkpoints.save(state, row.valid_bound, row.seconds)
        self._last_save = time.monotonic()
        self.history.append(row)
        for reporter in self._reporters:
            reporter.report(row)

    def pause(self, state: TrainState, seconds: float) -> None:
        """Save a state between evaluations if SIGTERM was received or the last checkpoint is old."""
        terminated = distributed.any_process(self._termination.requested)
        if terminated or time.monotonic() - self._last_save >= self._save_seconds:
            self.save(state, seconds)
        if terminated:
            raise TerminatedError

    def save(self, state: TrainState, seconds: float) -> None:
        """Save a state between evaluations unless it has diverged, which is unchecked after a block of a stream."""
        assert self._checkpoints is not None
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)):
            return
        with self._rescuing(self.history, state, float("nan"), seconds):
            self._checkpoints.save(state, float("nan"), seconds)
        self._last_save = time.monotonic()

    @contextlib.contextmanager
    def _rescuing(
        self, history: Sequence[Evaluation], state: TrainState, valid_bound: float, seconds: float
    ) -> Iterator[None]:
        """Save the state elsewhere if the folder turns out to be gone after the writes in this context."""
        try:
            yield
        except (OSError, RunError):
            if not lost.is_lost(self.folder, seconds=1.0):
                raise
        if lost.is_lost(self.folder):
            raise lost.rescue(self.folder, history, state, valid_bound, seconds)

    def best_params(self) -> Params | None:
        """Return the parameters of the best state by validation; `None` if there is none."""
        step = None if self._checkpoints is None else self._checkpoints.best_step()
        return None if step is None or self._checkpoints is None else self._checkpoints.restore_params(step)

    def close(self) -> None:
        """Release all resources; closing twice is allowed."""
        self._termination.release()
        for reporter in self._reporters:
            reporter.close()
        self._reporters = []
        if self._checkpoints is not None:
            self._checkpoints.close()
            self._checkpoints = None

    def _open(self, samples: int, like: Evaluation) -> None:
        self.folder.create()
        self.folder.start_metrics(self.history, like)
        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self.folder.checkpoints, self._keep_all)
        self._reporters = [
            progress(self._name, self._total, samples, self._lengths),
            TensorBoard(self.folder.path, samples, self._lengths),
        ]
        self._termination.watch()


class Follower:
    """Takes the place of a `Recorder` in a process that does not write."""

    def __init__(self):
        """Start with an empty history."""
        self.history: list[Evaluation] = []
        self.seconds = 0.0
        self._termination = Termination()
        self._termination.watch()

    def resume(self, template: Callable[[], TrainState]) -> None:
        """Return `None`: the state comes from the writer."""
        del template

    def __call__(self, state: TrainState, row: Evaluation) -> None:
        self.history.append(row)
        self.pause(state, row.seconds)

    def pause(self, state: TrainState, seconds: float) -> None:
        """Stop with the other processes if any of them received SIGTERM."""
        del state, seconds
        if distributed.any_process(self._termination.requested):
            raise TerminatedError

    def close(self) -> None:
        self._termination.release()
