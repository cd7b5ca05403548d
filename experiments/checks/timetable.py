"""When a run is evaluated, to tell missing rows from rows that never existed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from aevb.training import Evaluation
from aevb.training.timetable import next_evaluation
from experiments.configs import Config
from experiments.runs.program import num_steps


@dataclasses.dataclass(frozen=True)
class Timetable:
    """The evaluation steps of one run.

    Attributes:
      config: the configuration of the run.
      steps_per_epoch: N // M; `None` if it is unknown.
      end: the last step according to summary.json; `None` without a summary.
    """

    config: Config
    steps_per_epoch: int | None
    end: int | None = None

    @classmethod
    def of(
        cls,
        config: Config,
        rows: Sequence[Evaluation | None],
        summary: Mapping[str, Any] | None = None,
        num_train: int | None = None,
    ) -> "Timetable":
        """Return the timetable of a run.

        Args:
          config: the configuration of the run.
          rows: the readable rows of metrics.csv.
          summary: the summary of the run, if it can be read.
          num_train: the number of training datapoints; by default the epoch length is inferred from rows and summary.
        """
        batch_size = config.optimizer.batch_size
        end = None if summary is None else int(summary["num_train_samples"]) // batch_size
        if num_train is not None:
            return cls(config, num_train // batch_size, end)
        known = [(row.epoch, row.num_train_samples // batch_size) for row in rows if row is not None]
        if summary is not None and end is not None:
            known.append((int(summary["num_epochs"]), end))
        # The end may be in the middle of an epoch; other evaluations are at ends of epochs.
        last = None if config.training.num_train_samples is None else max((step for _, step in known), default=None)
        lengths = [step // epoch for epoch, step in known if epoch > 0 and step != last and step % epoch == 0]
        return cls(config, lengths[0] if lengths else None, end)

    def is_evaluation(self, step: int) -> bool:
        """Return whether the state after `step` minibatches is evaluated; `False` if that is unknown."""
        if step in (0, self.end, self._last()):
            return True
        if not self.steps_per_epoch:
            return False
        epoch, rest = divmod(step, self.steps_per_epoch)
        return rest == 0 and next_evaluation(epoch - 1, self.config.training.eval_every) == epoch

    def is_end(self, row: Evaluation) -> bool:
        """Return whether a row is the last of the run."""
        wanted = self.config.training
        if wanted.num_train_samples is None:
            return row.epoch >= wanted.num_epochs
        return row.num_train_samples >= wanted.num_train_samples

    def _last(self) -> int | None:
        """Return the last step of the run; `None` if it is unknown."""
        if self.config.training.num_train_samples is None and not self.steps_per_epoch:
            return None
        return num_steps(self.config, (self.steps_per_epoch or 0) * self.config.optimizer.batch_size)
